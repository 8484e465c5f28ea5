/**
 * What a crash can take although an engine keeps QEMU's order of writes and syncs: each a name with
 * a definition of its own. A finding has a name only if its own evidence fits: the operation that
 * was lost, what it was for, and that with it nothing would be wrong.
 */

import { SECTOR_SIZE } from '../core/alignment.ts';
import { QEMU_FORMATS } from '../core/format-name.ts';
import type { Expectation } from './expectation.ts';
import { extentOf, type Extent } from './extents.ts';
import type { Finding } from './findings.ts';
import type { Outcome } from './inspect.ts';
import { PAGE_SECTORS, pageNumber } from './pages.ts';
import type { Operation, Subject } from './recording.ts';
import type { Fate, StateView } from './state-view.ts';

export const HAZARDS = [
  'unordered-zero-fill',
  'unordered-data',
  'early-reuse',
  'qed-need-check',
  'stale-copied-flags',
] as const;
export type Hazard = (typeof HAZARDS)[number];

export const HAZARD_MEANINGS: Readonly<Record<Hazard, string>> = {
  'unordered-zero-fill':
    'lazy refcounts, or a data file: no sync is between the zeroes around a write in a new cluster and the L2 entry; sectors that no request touched show what the cluster held before',
  'unordered-data':
    'lazy refcounts, or a data file: no sync is between the data of a new cluster and its L2 entry; sectors of a write in flight show what the cluster held before, neither the old nor the new data',
  'early-reuse':
    'a freed cluster is used again before its unlink is durable; the range that freed it shows the data of another',
  'qed-need-check':
    'the need-check mark has no sync before the first link; an image that is not marked has an entry that leads past the end of the file',
  'stale-copied-flags':
    'eager refcounts: within a snapshot operation no sync orders refcounts and copied flags; a check calls flags corrupt that go with refcounts which are too high, until it repairs them; no data are lost',
};

/** All that a finding is held against. */
export interface Evidence {
  readonly subject: Subject;
  readonly expectation: Expectation;
  readonly view: StateView;
  readonly outcome: Outcome;
}

/** They are QEMU's: of a format that it does not have, nothing is excused. */
function hasHazards({ subject }: Evidence): boolean {
  return QEMU_FORMATS.some((format) => format === subject.format);
}

/** The hazard that a finding is by itself, if all fits. */
export function hazardOf(finding: Finding, evidence: Evidence): Hazard | undefined {
  if (!hasHazards(evidence)) return undefined;
  const { sector } = finding;
  if (finding.kind === 'stale-copied-flags') {
    const { expectation, view } = evidence;
    return expectation.isInSnapshotOperation(view.epoch.at) ? finding.kind : undefined;
  }
  if (finding.kind !== 'wrong-data' || sector === undefined) return undefined;
  const extent = extentAt(evidence.outcome, finding, sector);
  if (extent?.place.kind !== 'host') return undefined;
  const host = extent.place.sector + sector - extent.start;
  const number = pageNumber(extent.place.file, host * SECTOR_SIZE);
  return unordered(evidence, { sector, host, number }) ?? neverUnlinked(evidence, finding);
}

function extentAt({ looks }: Outcome, { moment }: Finding, sector: number): Extent | undefined {
  const look = looks.find((each) => each.moment === moment && each.snapshot === undefined);
  return look === undefined ? undefined : extentOf(look.extents, sector);
}

/** A fill or data lost, not copied from elsewhere, and an entry that leads there is not. */
function unordered(
  { subject, expectation, view }: Evidence,
  { sector, host, number }: { readonly sector: number; readonly host: number; readonly number: number },
): Hazard | undefined {
  // Eager refcounts sync the image before its L2 tables, but no data file.
  if (subject.refcounts !== 'lazy' && subject.files.length === 1) return undefined;
  const { at, pending } = view.epoch;
  const lost = view.lostIn(number).filter((place) => {
    const operation = pending[place]?.operation;
    if (operation === undefined || operation.hasCopy) return false;
    return operation.purpose === 'data' || operation.purpose === 'cow';
  });
  if (lost.length === 0) return undefined;
  const whole = view.pageWith(number, new Set(lost)).tokens[host % PAGE_SECTORS] as number;
  if (expectation.judge(sector, whole, at) !== 'right') return undefined;
  return expectation.isInFlight(sector, at) ? 'unordered-data' : 'unordered-zero-fill';
}

/**
 * Data that were written to a cluster that a request in flight had freed, while what unlinks it was
 * still in the engine's cache: nothing of it was issued, so nothing is lost.
 */
function neverUnlinked({ expectation, view }: Evidence, { sector, token }: Finding): Hazard | undefined {
  const owner = token === undefined ? undefined : expectation.ownerOf(token);
  if (sector === undefined || owner?.request === undefined || owner.sector === sector) return undefined;
  const { at, pending } = view.epoch;
  const written = owner.request;
  const freeing = expectation.historyOf(sector, at).inFlight.findLast((request) => request < written);
  if (freeing === undefined) return undefined;
  const isUnlinked = pending.some(
    ({ operation: { purpose, request = Infinity } }) => purpose === 'l2-table' && request >= freeing,
  );
  return isUnlinked ? undefined : 'early-reuse';
}

/** Operations that were lost, and what a state is called if with them nothing is wrong. */
export interface Cure {
  readonly hazard: Hazard;
  /** Of the epoch's pending operations. */
  readonly places: ReadonlySet<number>;
}

/**
 * What might explain findings that `hazardOf` does not: to be tried by keeping the operations
 * and looking again.
 */
export function curesOf(findings: readonly Finding[], evidence: Evidence): readonly Cure[] {
  if (!hasHazards(evidence)) return [];
  return [qedMark(evidence), unlinking(findings, evidence)].filter((cure) => cure !== undefined);
}

const NEED_CHECK_BYTE = 16;
const NEED_CHECK = 2;

/** The image is not marked, and the write that was to mark it is lost. */
function qedMark({ subject, view, outcome }: Evidence): Cure | undefined {
  if (subject.format !== 'qed' || outcome.isMarked) return undefined;
  const places = lostPlaces(view, ({ purpose, offset, bytes }) => {
    const byte = bytes?.[NEED_CHECK_BYTE - offset] ?? 0;
    return purpose === 'header' && (byte & NEED_CHECK) !== 0;
  });
  return places.size === 0 ? undefined : { hazard: 'qed-need-check', places };
}

/**
 * Data that were written to a cluster which a durable entry still gives to another range: a request
 * in flight had freed it, and what unlinks it is lost.
 */
function unlinking(findings: readonly Finding[], { expectation, view }: Evidence): Cure | undefined {
  const { at } = view.epoch;
  const isForeign = findings.some(({ sector, token }) => {
    const owner = token === undefined ? undefined : expectation.ownerOf(token);
    return (
      sector !== undefined &&
      owner !== undefined &&
      owner.sector !== sector &&
      expectation.isInFlight(sector, at)
    );
  });
  if (!isForeign) return undefined;
  const places = lostPlaces(view, ({ purpose }) => purpose === 'l2-table');
  return places.size === 0 ? undefined : { hazard: 'early-reuse', places };
}

function lostPlaces(view: StateView, isWanted: (operation: Operation) => boolean): ReadonlySet<number> {
  const places = new Set<number>();
  for (const [place, { operation, isSettled }] of view.epoch.pending.entries()) {
    if (!isSettled && !isWhole(view.fates[place]) && isWanted(operation)) places.add(place);
  }
  return places;
}

function isWhole(fate: Fate | undefined): boolean {
  return fate === undefined || (fate.kept && fate.sizeKept && fate.tear === undefined);
}
