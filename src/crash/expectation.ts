/**
 * What each guest sector may hold after a crash: what the last durable request left there, or what
 * a request that had begun since would leave. Nothing else, and nowhere another sector's data.
 *
 * Invariants:
 * - A request is durable once a flush that began after it was done is done; a write with FUA, or in
 *   a writethrough mode, once it is done itself.
 * - A durable write replaces what was done before it began. Of two writes that were in flight at
 *   once either may be there.
 * - A discard replaces nothing: the sector may keep what it held, or read as zeroes or as what is
 *   behind the image.
 * - A snapshot operation and a new size of the disk are durable once they are done, and all that was
 *   done before them with them.
 * - A snapshot holds what the disk held when its taking began, as long as the image lists it.
 */

import { SECTOR_SIZE } from '../core/alignment.ts';
import { CACHE_MODE_RULES } from '../format/cache-mode.ts';
import { ZERO_TOKEN } from './pages.ts';
import type { GuestRequest, Recording } from './recording.ts';

/** In place of a token: reading the sector is refused. */
export const UNREADABLE = -1;

/** What a request did to a range of sectors. */
interface Version {
  /** Index of the request. */
  readonly request: number;
  /**
   * `discard`: what a sector holds then is uncertain. `cut`: the end of the disk is about to go, and
   * is not there once that is done. `revert`: the sector holds what the snapshot does.
   */
  readonly kind: 'data' | 'discard' | 'cut' | 'revert';
  readonly snapshot: string | undefined;
  /** The first sector of the request. */
  readonly first: number;
  /** By sector from `first` on; zeroes where there are none. */
  readonly tokens: ArrayLike<number> | undefined;
  readonly beganAt: number;
  readonly doneAt: number;
  readonly durableAt: number;
}

type SizedVersion = Version & { readonly sectors: number };

/** When something began and was done, by event. */
interface Span {
  readonly beganAt: number;
  readonly doneAt: number;
}

const NEVER: Span = { beganAt: Infinity, doneAt: Infinity };

/** Sectors to which the same requests did something. */
interface Segment {
  readonly start: number;
  readonly end: number;
  /** In the order of the requests. */
  readonly versions: readonly Version[];
}

/** What is right with a sector, or what is wrong. */
export type SectorVerdict =
  | 'right'
  /** Another sector's data, or anything else, within a discard that is not durable. */
  | 'in-discard'
  | 'wrong';

/** A sector's history, for messages. */
export interface SectorHistory {
  /** Requests that are durable there, then those that are not, by index. */
  readonly durable: readonly number[];
  readonly inFlight: readonly number[];
}

export class Expectation {
  /** In order, without what no request touched. */
  readonly #segments: readonly Segment[];
  /** What is not zero at the beginning. */
  readonly #initial: ReadonlyMap<number, number>;
  readonly #behind: ReadonlyMap<number, number>;
  readonly #owners = new Map<number, { readonly sector: number; readonly request: number | undefined }>();
  readonly #sizes: readonly (Span & { readonly bytes: number })[];
  readonly #snapshots: ReadonlyMap<string, { readonly taken: Span; readonly deleted: Span }>;
  readonly #snapshotOperations: readonly Span[];
  /** Sectors that may have to hold anything but zeroes, ascending. */
  readonly known: Float64Array;
  readonly #isKnown: ReadonlySet<number>;

  /**
   * @param initial by guest sector, the tokens at the beginning; zeroes are left out
   * @param behind the same of what shows where the image has nothing
   */
  constructor(
    recording: Recording,
    {
      initial,
      behind,
    }: { readonly initial: ReadonlyMap<number, number>; readonly behind: ReadonlyMap<number, number> },
  ) {
    this.#initial = initial;
    this.#behind = behind;
    for (const [sector, token] of initial) this.#owners.set(token, { sector, request: undefined });
    this.#sizes = sizesOf(recording);
    this.#snapshots = snapshotsOf(recording);
    this.#snapshotOperations = recording.requests.filter(({ snapshot }) => snapshot !== undefined);
    const versions = versionsOf(recording, this.#sizes);
    this.#segments = segmentsOf(versions);
    const known = new Set([...initial.keys(), ...behind.keys()]);
    for (const { request, first, tokens } of versions) {
      for (let index = 0; index < (tokens?.length ?? 0); index++) {
        const sector = first + index;
        this.#owners.set(tokens?.[index] as number, { sector, request });
        known.add(sector);
      }
    }
    this.known = Float64Array.from(known).sort();
    this.#isKnown = known;
  }

  isKnown(sector: number): boolean {
    return this.#isKnown.has(sector);
  }

  /** What a sector shows where the image has nothing. */
  behind(sector: number): number {
    return this.#behind.get(sector) ?? ZERO_TOKEN;
  }

  /** Where the data come from: the sector that they were written to, and by which request. */
  ownerOf(token: number): { readonly sector: number; readonly request: number | undefined } | undefined {
    return this.#owners.get(token);
  }

  /** Bytes that the disk may have after a crash just before event `at`. */
  sizesAt(at: number): readonly number[] {
    const last = this.#sizes.findLastIndex(({ doneAt }) => doneAt < at);
    return this.#sizes
      .filter(({ beganAt }, index) => index >= last && beganAt < at)
      .map(({ bytes }) => bytes);
  }

  /** Names of the snapshots that the image lists or may list then. */
  snapshotsAt(at: number): { readonly must: readonly string[]; readonly may: readonly string[] } {
    const all = [...this.#snapshots];
    return {
      must: all
        .filter(([, { taken, deleted }]) => taken.doneAt < at && deleted.beganAt >= at)
        .map(([name]) => name),
      may: all
        .filter(([, { taken, deleted }]) => taken.beganAt < at && deleted.doneAt >= at)
        .map(([name]) => name),
    };
  }

  /** Whether a snapshot was being taken, gone back to or deleted then. */
  isInSnapshotOperation(at: number): boolean {
    return this.#snapshotOperations.some(({ beganAt, doneAt }) => beganAt < at && doneAt >= at);
  }

  /**
   * Whether a sector may hold this after a crash just before event `at`.
   *
   * @param snapshot by name, the snapshot that it is a sector of; left out, it is one of the disk
   */
  judge(sector: number, token: number, at: number, snapshot?: string): SectorVerdict {
    if (snapshot === undefined) return this.#judge(sector, token, at, ({ durableAt }) => durableAt <= at);
    const { taken } = this.#snapshots.get(snapshot) ?? { taken: NEVER };
    return this.#judge(sector, token, taken.beganAt, ({ doneAt }) => doneAt < taken.beganAt);
  }

  #judge(
    sector: number,
    token: number,
    at: number,
    isDurableVersion: (version: Version) => boolean,
  ): SectorVerdict {
    const versions = this.#versionsAt(sector);
    const initial = this.#initial.get(sector) ?? ZERO_TOKEN;
    let replacedBefore = -1;
    let isDiscarded = false;
    for (let index = versions.length - 1; index >= 0; index--) {
      const version = versions[index] as Version;
      if (version.beganAt >= at || version.doneAt < replacedBefore) continue;
      const isDurable = isDurableVersion(version);
      if (this.#isLeftBy(version, sector, token, isDurable)) return 'right';
      if (version.kind === 'discard') isDiscarded ||= !isDurable;
      else if (isDurable) replacedBefore = Math.max(replacedBefore, version.beganAt);
    }
    if (replacedBefore < 0 && token === initial) return 'right';
    return isDiscarded ? 'in-discard' : 'wrong';
  }

  #isLeftBy(
    { kind, snapshot, tokens, first }: Version,
    sector: number,
    token: number,
    isDurable: boolean,
  ): boolean {
    const isEmptied = token === ZERO_TOKEN || token === this.behind(sector);
    switch (kind) {
      case 'data':
        return token === (tokens?.[sector - first] ?? ZERO_TOKEN);
      case 'discard':
        return isEmptied;
      case 'cut':
        return !isDurable && isEmptied;
      case 'revert':
        return this.judge(sector, token, 0, snapshot) === 'right';
    }
  }

  /** Whether a request that had begun and is not durable changes the sector. */
  isInFlight(sector: number, at: number): boolean {
    return this.historyOf(sector, at).inFlight.length > 0;
  }

  historyOf(sector: number, at: number): SectorHistory {
    const begun = this.#versionsAt(sector).filter(({ beganAt }) => beganAt < at);
    const of = (isDurable: boolean): number[] =>
      begun.filter(({ durableAt }) => durableAt <= at === isDurable).map(({ request }) => request);
    return { durable: of(true), inFlight: of(false) };
  }

  #versionsAt(sector: number): readonly Version[] {
    const segments = this.#segments;
    let low = 0;
    let high = segments.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((segments[middle] as Segment).end <= sector) low = middle + 1;
      else high = middle;
    }
    const found = segments[low];
    return found === undefined || found.start > sector ? NO_VERSIONS : found.versions;
  }
}

const NO_VERSIONS: readonly Version[] = [];

/** What the requests did that change anything. */
function versionsOf(
  recording: Recording,
  sizes: readonly { readonly bytes: number }[],
): readonly SizedVersion[] {
  const durableAt = durableTimes(recording);
  const largest = sizes.reduce((most, { bytes }) => Math.max(most, bytes), 0);
  return recording.requests.flatMap(({ op, offset, length, snapshot, tokens, beganAt, doneAt }, request) => {
    const kind = VERSION_KINDS[op];
    if (kind === undefined || (length === 0 && kind !== 'revert')) return [];
    return {
      request,
      kind,
      snapshot,
      first: offset / SECTOR_SIZE,
      sectors: (kind === 'revert' ? largest : length) / SECTOR_SIZE,
      tokens,
      beganAt,
      doneAt,
      durableAt: durableAt[request] as number,
    };
  });
}

const VERSION_KINDS: Readonly<Record<GuestRequest['op'], Version['kind'] | undefined>> = {
  read: undefined,
  flush: undefined,
  write: 'data',
  'write-zeroes': 'data',
  'write-compressed': 'data',
  discard: 'discard',
  'snapshot-create': undefined,
  'snapshot-apply': 'revert',
  'snapshot-delete': undefined,
  // What is new reads as zeroes.
  grow: 'data',
  shrink: 'cut',
};

/** The size at the beginning, then each that was given to the disk. */
function sizesOf({ subject, requests }: Recording): readonly (Span & { readonly bytes: number })[] {
  const sizes = [{ bytes: subject.virtualSize, beganAt: -1, doneAt: -1 }];
  const taken = new Map<string, number>();
  for (const { op, offset, length, snapshot = '', beganAt, doneAt } of requests) {
    const bytes = sizes.at(-1)?.bytes ?? 0;
    if (op === 'snapshot-create') taken.set(snapshot, bytes);
    else if (op === 'grow') sizes.push({ bytes: offset + length, beganAt, doneAt });
    else if (op === 'shrink') sizes.push({ bytes: offset, beganAt, doneAt });
    else if (op === 'snapshot-apply') sizes.push({ bytes: taken.get(snapshot) ?? bytes, beganAt, doneAt });
  }
  return sizes;
}

function snapshotsOf({
  requests,
}: Recording): ReadonlyMap<string, { readonly taken: Span; readonly deleted: Span }> {
  const found = new Map<string, { readonly taken: Span; readonly deleted: Span }>();
  for (const { op, snapshot = '', beganAt, doneAt } of requests) {
    const span = { beganAt, doneAt };
    if (op === 'snapshot-create') found.set(snapshot, { taken: span, deleted: NEVER });
    else if (op === 'snapshot-delete') {
      found.set(snapshot, { taken: found.get(snapshot)?.taken ?? NEVER, deleted: span });
    }
  }
  return found;
}

/** A request may be as large as the disk: sectors are not listed one by one. */
function segmentsOf(versions: readonly SizedVersion[]): readonly Segment[] {
  const ends = versions.flatMap(({ first, sectors }) => [first, first + sectors]);
  const bounds = Float64Array.from(new Set(ends)).sort();
  const lists = Array.from(bounds, (): Version[] => []);
  const indexOf = new Map(Array.from(bounds, (bound, index) => [bound, index]));
  for (const version of versions) {
    const from = indexOf.get(version.first) as number;
    const to = indexOf.get(version.first + version.sectors) as number;
    for (let index = from; index < to; index++) lists[index]?.push(version);
  }
  return lists.flatMap((list, index) =>
    list.length === 0
      ? []
      : { start: bounds[index] as number, end: bounds[index + 1] as number, versions: list },
  );
}

/** When each request was known to be durable. */
function durableTimes({ requests, subject, endsAt, isClosed }: Recording): readonly number[] {
  const { flushAfterWrite, neverSync } = CACHE_MODE_RULES[subject.cache];
  const flushes = requests
    .filter(({ op, doneAt }) => makesDurable(op) && doneAt < Infinity)
    .toSorted((a, b) => a.doneAt - b.doneAt);
  return requests.map(({ op, fua, doneAt }) => {
    if (doneAt === Infinity) return Infinity;
    if (makesDurable(op)) return doneAt;
    const isWrite = op === 'write' || op === 'write-zeroes';
    if (isWrite && (fua || flushAfterWrite) && !neverSync) return doneAt;
    // A clean close is a flush too.
    return flushes.find(({ beganAt }) => beganAt > doneAt)?.doneAt ?? (isClosed ? endsAt : Infinity);
  });
}

/** Whether all that was done when it began is durable once it is done. */
function makesDurable(op: GuestRequest['op']): boolean {
  return op === 'flush' || op === 'grow' || op === 'shrink' || op.startsWith('snapshot-');
}
