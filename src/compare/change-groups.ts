/**
 * Changes of many cells, grouped by cause: one engine change usually touches several leaves of many
 * cells, and a reader wants it reported once.
 *
 * Invariants:
 * - A group has one subject: a sync cause, or a kind of operation with its purpose. Operations and
 *   bytes, and the phases open, run and close, are one subject.
 * - Subjects that changed in exactly the same cells are one group, as are those of one purpose in a
 *   part of them. It is led by the one that says most: a sync before a write, an ordering sync
 *   before one that ends a request.
 * - Every change of a cell is in a group, as its lead or as an accompanying change. Elided flushes
 *   lead only where nothing else changed.
 */

import { PHASES, SYNC_CAUSES, type Phase, type SyncCause } from '../result/vocabulary.ts';
import { isWorse, type CellChange, type LeafChange } from './cell-counts.ts';
import { changeRate, type ChangeRate } from './change-rate.ts';
import { firstRequest, type CostsOf, type FirstRequest } from './first-request.ts';
import type { Amounts, Change, ChangeKind, GroupCell, Subject, SubjectChange } from './subject-change.ts';

/** What changed about one subject in all cells of a group. */
export interface GroupChange extends SubjectChange {
  readonly rate: ChangeRate;
  /** Cells in which it changed. */
  readonly cells: number;
}

export interface ChangeGroup {
  readonly lead: GroupChange;
  /** In the order of the result. */
  readonly cells: readonly GroupCell[];
  /** Other subjects that changed in these cells and lead no group of their own. */
  readonly also: readonly GroupChange[];
  /** In the first of the cells, the first request in which the lead differs; else another change. */
  readonly first: FirstRequest | undefined;
}

/** A string that identifies a subject: `syncs/l2-after-cow`, `writes/l2-table`, `elided`. */
export function subjectKey(subject: Subject): string {
  if (subject.kind === 'elided') return subject.kind;
  return `${subject.kind}/${'cause' in subject ? subject.cause : subject.purpose}`;
}

/**
 * The groups of the changes: what costs more first, then lost syncs, then the rest.
 *
 * @param costsOf what was kept of the requests of a cell that changed.
 */
export function groupChanges(changes: readonly CellChange[], costsOf?: CostsOf): readonly ChangeGroup[] {
  const cells = changes.map((change) => ({ ...change, subjects: subjectChanges(change.changes) }));
  const series = seriesOf(cells);
  const leading = series.filter(({ kind }) => kind !== 'neutral');
  const clusters = folded([...Map.groupBy(leading, ({ places }) => places.join()).values()]);
  const led = new Set(clusters.flatMap((cluster) => cluster[0]?.places ?? []));
  const lonely = series.filter(
    ({ kind, places }) => kind === 'neutral' && !places.every((at) => led.has(at)),
  );
  const accompanying = series.filter(({ kind }) => kind === 'neutral');
  const groups = [...clusters, ...Map.groupBy(lonely, ({ places }) => places.join()).values()].map(
    (cluster) => {
      const most = Math.max(...cluster.map(({ places }) => places.length));
      const [lead, ...others] = cluster.toSorted(
        (a, b) =>
          Number(b.places.length === most) - Number(a.places.length === most) || rankOf(a) - rankOf(b),
      );
      if (lead === undefined) throw new Error('internal error: a group without changes');
      const within = new Set(lead.places);
      const own = new Set(cluster.map(({ key }) => key));
      const beside = accompanying
        .map((one) => ({ ...one, places: one.places.filter((at) => within.has(at)) }))
        .filter((one) => one.places.length > 0 && !own.has(one.key));
      return { rank: rankOf(lead), ...groupOf(cells, lead, [...others, ...beside]) };
    },
  );
  return groups
    .toSorted((a, b) => a.rank - b.rank || b.cells.length - a.cells.length)
    .map(({ lead, cells: own, also }) => ({
      lead,
      cells: own,
      also,
      first: firstOf([lead, ...also], own, costsOf),
    }));
}

/**
 * Clusters of series; one of the same purpose in a part of the cells belongs to the larger: where
 * writes are padded, one more write of a header is one more read too.
 */
function folded(clusters: readonly (readonly Series[])[]): readonly (readonly Series[])[] {
  const larger = clusters.toSorted((a, b) => placesOf(b).length - placesOf(a).length);
  const kept: Series[][] = [];
  for (const cluster of larger) {
    const host = kept.find((other) => isPartOf(cluster, other));
    if (host === undefined) kept.push([...cluster]);
    else host.push(...cluster);
  }
  return kept;
}

function isPartOf(cluster: readonly Series[], other: readonly Series[]): boolean {
  const within = new Set(placesOf(other));
  const [first] = cluster;
  return (
    placesOf(cluster).every((at) => within.has(at)) &&
    cluster.every(
      ({ subject, kind }) =>
        'purpose' in subject &&
        kind === first?.kind &&
        other.some(
          (each) =>
            'purpose' in each.subject && each.subject.purpose === subject.purpose && each.kind === kind,
        ),
    )
  );
}

/** Of the first series, which led the cluster when it was made. */
function placesOf([first]: readonly Series[]): readonly number[] {
  return first?.places ?? [];
}

function firstOf(
  changes: readonly GroupChange[],
  [first]: readonly GroupCell[],
  costsOf: CostsOf | undefined,
): FirstRequest | undefined {
  // A sync that is left to the close is missing in a request.
  const found = changes.find(({ subject, phases }) => subject.kind !== 'elided' && phases.includes('run'));
  if (first === undefined || costsOf === undefined || found === undefined) return undefined;
  return firstRequest(costsOf(first.cell), found.subject);
}

/** What changed of each subject in one cell. */
export function subjectChanges(changes: readonly LeafChange[]): readonly SubjectChange[] {
  return changesBySubject(changes).map(({ subject, kind, leaves }) => ({
    subject,
    kind,
    phases: phasesOf(leaves),
    ...amountsOf(leaves),
  }));
}

/** The changes of one cell by subject, leaf by leaf. */
export function changesBySubject(changes: readonly LeafChange[]): readonly {
  readonly subject: Subject;
  readonly kind: ChangeKind;
  readonly leaves: readonly LeafChange[];
}[] {
  const bySubject = Map.groupBy(changes, ({ counted }) => subjectKey(subjectOf(counted)));
  const balance = syncBalance(changes);
  return [...bySubject.values()].flatMap((leaves) => {
    const [first] = leaves;
    if (first === undefined) return [];
    const subject = subjectOf(first.counted);
    return [{ subject, kind: kindOf(subject, leaves, balance), leaves }];
  });
}

interface SubjectsOfCell extends CellChange {
  readonly subjects: readonly SubjectChange[];
}

/** One subject that changed in one way, with the places of its cells in the list. */
interface Series {
  readonly key: string;
  readonly subject: Subject;
  readonly kind: ChangeKind;
  readonly places: readonly number[];
}

function seriesOf(cells: readonly SubjectsOfCell[]): readonly Series[] {
  const series = new Map<string, Series & { readonly places: number[] }>();
  for (const [place, { subjects }] of cells.entries()) {
    for (const { subject, kind } of subjects) {
      const key = `${subjectKey(subject)} ${kind}`;
      const own = series.get(key) ?? { key, subject, kind, places: [] };
      own.places.push(place);
      series.set(key, own);
    }
  }
  return [...series.values()];
}

function groupOf(
  cells: readonly SubjectsOfCell[],
  lead: Series,
  others: readonly Series[],
): Omit<ChangeGroup, 'first'> {
  const own = cellsOf(cells, lead);
  return {
    lead: groupChange(own),
    cells: own,
    also: others.map((other) => groupChange(cellsOf(cells, other))),
  };
}

function cellsOf(cells: readonly SubjectsOfCell[], { key, places }: Series): readonly GroupCell[] {
  return places.flatMap((place) => {
    const cell = cells[place];
    const change = cell?.subjects.find(({ subject, kind }) => `${subjectKey(subject)} ${kind}` === key);
    return cell === undefined || change === undefined ? [] : [{ cell: cell.cell, guest: cell.guest, change }];
  });
}

function groupChange(cells: readonly GroupCell[]): GroupChange {
  const [first] = cells;
  if (first === undefined) throw new Error('internal error: a group without cells');
  const { subject, kind } = first.change;
  const changes = cells.map(({ change }) => change);
  return {
    subject,
    kind,
    phases: PHASES.filter((phase) => changes.some(({ phases }) => phases.includes(phase))),
    ops: sumOf(changes.map(({ ops }) => ops)),
    bytes: sumOf(changes.map(({ bytes }) => bytes)),
    rate: changeRate(cells),
    cells: cells.length,
  };
}

function subjectOf(counted: LeafChange['counted']): Subject {
  switch (counted.kind) {
    case 'elided':
      return { kind: counted.kind };
    case 'syncs':
      return { kind: counted.kind, cause: counted.cause };
    default:
      return { kind: counted.kind, purpose: counted.purpose };
  }
}

function kindOf(subject: Subject, changes: readonly LeafChange[], balance: number): ChangeKind {
  if (subject.kind === 'elided') return 'neutral';
  if (subject.kind !== 'syncs') return changes.some(isWorse) ? 'more' : 'fewer';
  const { before, after } = sumOf(changes);
  if (after > before) return 'more';
  if (after === before) return changes.some(isWorse) ? 'more' : 'fewer';
  return balance < 0 ? 'lost-syncs' : 'neutral';
}

/** Syncs and elided flushes after less those before: below 0, some durability point is gone. */
function syncBalance(changes: readonly LeafChange[]): number {
  const own = changes.filter(({ counted }) => counted.kind === 'syncs' || counted.kind === 'elided');
  const { before, after } = sumOf(own);
  return after - before;
}

function amountsOf(changes: readonly LeafChange[]): Amounts {
  const isBytes = ({ counted }: LeafChange): boolean => 'unit' in counted && counted.unit === 'bytes';
  return {
    ops: sumOf(changes.filter((change) => !isBytes(change))),
    bytes: sumOf(changes.filter(isBytes)),
  };
}

function phasesOf(changes: readonly LeafChange[]): readonly Phase[] {
  return PHASES.filter((phase) => changes.some((change) => change.phase === phase));
}

function sumOf(changes: readonly Change[]): Change {
  const sum = { before: 0, after: 0 };
  for (const { before, after } of changes) {
    sum.before += before;
    sum.after += after;
  }
  return sum;
}

const KIND_ORDER: readonly ChangeKind[] = ['more', 'lost-syncs', 'fewer', 'neutral'];
/** Syncs that end a request or the file: others say more of what the engine does. */
const ENDING_CAUSES: readonly SyncCause[] = ['guest-flush', 'fua', 'writethrough', 'close'];
const OPERATION_ORDER: readonly Subject['kind'][] = [
  'syncs',
  'writes',
  'zeroRanges',
  'punchHoles',
  'truncates',
  'reads',
  'elided',
];

/** Lower: named first. */
function rankOf({ kind, subject }: Series): number {
  const ends = subject.kind === 'syncs' && ENDING_CAUSES.includes(subject.cause);
  return (
    KIND_ORDER.indexOf(kind) * 1000 +
    OPERATION_ORDER.indexOf(subject.kind) * 100 +
    (ends ? 50 : 0) +
    causeRank(subject)
  );
}

function causeRank(subject: Subject): number {
  return subject.kind === 'syncs' ? SYNC_CAUSES.indexOf(subject.cause) : 0;
}
