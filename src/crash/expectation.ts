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
import type { GuestRequest, Recording } from './recording.ts';

/** In place of a token: reading the sector is refused. */
export const UNREADABLE = -1;

/** What a request did to a sector. */
interface Version {
  /** Index of the request. */
  readonly request: number;
  /** What the sector holds; of a discard, nothing that is certain. */
  readonly token: number | undefined;
  readonly beganAt: number;
  readonly doneAt: number;
  readonly durableAt: number;
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
  readonly #versions = new Map<number, Version[]>();
  /** What is not zero at the beginning. */
  readonly #initial: ReadonlyMap<number, number>;
  readonly #behind: ReadonlyMap<number, number>;
  readonly #owners = new Map<number, { readonly sector: number; readonly request: number | undefined }>();
  /** Sectors of which anything is known but zeroes, ascending. */
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
    const durableAt = durableTimes(recording);
    for (const [index, request] of recording.requests.entries()) {
      this.#add(request, index, durableAt[index] as number);
    }
    const known = new Set([...initial.keys(), ...behind.keys(), ...this.#versions.keys()]);
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
    const versions = this.#versions.get(sector);
    const initial = this.#initial.get(sector) ?? ZERO_TOKEN;
    if (versions === undefined) return token === initial ? 'right' : 'wrong';
    let replacedBefore = -1;
    let isDiscarded = false;
    for (let index = versions.length - 1; index >= 0; index--) {
      const version = versions[index] as Version;
      if (version.beganAt >= at || version.doneAt < replacedBefore) continue;
      const isDurable = version.durableAt <= at;
      if (version.token === undefined) {
        if (token === ZERO_TOKEN || token === this.behind(sector)) return 'right';
        isDiscarded ||= !isDurable;
        continue;
      }
      if (token === version.token) return 'right';
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
    const begun = (this.#versions.get(sector) ?? []).filter(({ beganAt }) => beganAt < at);
    const of = (isDurable: boolean): number[] =>
      begun.filter(({ durableAt }) => durableAt <= at === isDurable).map(({ request }) => request);
    return { durable: of(true), inFlight: of(false) };
  }

  #add(
    { op, offset, length, tokens, beganAt, doneAt }: GuestRequest,
    request: number,
    durableAt: number,
  ): void {
    if (op === 'read' || op === 'flush') return;
    const first = offset / SECTOR_SIZE;
    for (let index = 0; index < length / SECTOR_SIZE; index++) {
      const sector = first + index;
      const token = op === 'discard' ? undefined : (tokens?.[index] ?? ZERO_TOKEN);
      if (tokens !== undefined && token !== undefined) this.#owners.set(token, { sector, request });
      const version = { request, token, beganAt, doneAt, durableAt };
      const versions = this.#versions.get(sector);
      if (versions === undefined) this.#versions.set(sector, [version]);
      else versions.push(version);
    }
  }
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
