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
 */

import { SECTOR_SIZE } from '../core/alignment.ts';
import { CACHE_MODE_RULES } from '../format/cache-mode.ts';
import { ZERO_TOKEN } from './pages.ts';
import type { Recording } from './recording.ts';

/** In place of a token: reading the sector is refused. */
export const UNREADABLE = -1;

/** What a request did to a range of sectors. */
interface Version {
  /** Index of the request. */
  readonly request: number;
  /** What a sector holds then is uncertain. */
  readonly isDiscard: boolean;
  /** The first sector of the request. */
  readonly first: number;
  /** By sector from `first` on; zeroes where there are none. */
  readonly tokens: ArrayLike<number> | undefined;
  readonly beganAt: number;
  readonly doneAt: number;
  readonly durableAt: number;
}

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
    const versions = versionsOf(recording);
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

  /** Whether a sector may hold this after a crash just before event `at`. */
  judge(sector: number, token: number, at: number): SectorVerdict {
    const versions = this.#versionsAt(sector);
    const initial = this.#initial.get(sector) ?? ZERO_TOKEN;
    let replacedBefore = -1;
    let isDiscarded = false;
    for (let index = versions.length - 1; index >= 0; index--) {
      const version = versions[index] as Version;
      if (version.beganAt >= at || version.doneAt < replacedBefore) continue;
      const isDurable = version.durableAt <= at;
      if (version.isDiscard) {
        if (token === ZERO_TOKEN || token === this.behind(sector)) return 'right';
        isDiscarded ||= !isDurable;
        continue;
      }
      if (token === (version.tokens?.[sector - version.first] ?? ZERO_TOKEN)) return 'right';
      if (isDurable) replacedBefore = Math.max(replacedBefore, version.beganAt);
    }
    if (replacedBefore < 0 && token === initial) return 'right';
    return isDiscarded ? 'in-discard' : 'wrong';
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
function versionsOf(recording: Recording): readonly (Version & { readonly sectors: number })[] {
  const durableAt = durableTimes(recording);
  return recording.requests.flatMap(({ op, offset, length, tokens, beganAt, doneAt }, request) => {
    if (op === 'read' || op === 'flush' || length === 0) return [];
    const isDiscard = op === 'discard';
    return {
      request,
      isDiscard,
      first: offset / SECTOR_SIZE,
      sectors: length / SECTOR_SIZE,
      tokens: isDiscard ? undefined : tokens,
      beganAt,
      doneAt,
      durableAt: durableAt[request] as number,
    };
  });
}

/** A request may be as large as the disk: sectors are not listed one by one. */
function segmentsOf(versions: readonly (Version & { readonly sectors: number })[]): readonly Segment[] {
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
function durableTimes({ requests, subject, endsAt }: Recording): readonly number[] {
  const { flushAfterWrite, neverSync } = CACHE_MODE_RULES[subject.cache];
  const flushes = requests
    .filter(({ op, doneAt }) => op === 'flush' && doneAt < Infinity)
    .toSorted((a, b) => a.doneAt - b.doneAt);
  return requests.map(({ op, fua, doneAt }) => {
    if (doneAt === Infinity) return Infinity;
    const isWrite = op === 'write' || op === 'write-zeroes';
    if (isWrite && (fua || flushAfterWrite) && !neverSync) return doneAt;
    // A clean close is a flush too.
    return flushes.find(({ beganAt }) => beganAt > doneAt)?.doneAt ?? endsAt;
  });
}
