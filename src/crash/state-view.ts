/**
 * One crash state after another of an epoch: which of the pending operations reached the files,
 * whole or in part. A step to a neighbour costs what it changes.
 *
 * Invariants:
 * - A page is what is durable with the kept operations laid over it in the order in which they were
 *   issued; bytes past the end of the file read as zeroes.
 * - `hash` depends on the files' contents alone: two states with the same bytes have the same.
 */

import { SECTOR_SIZE } from '../core/alignment.ts';
import { assertInvariant } from '../core/error.ts';
import type { Random } from '../core/random.ts';
import type { Epoch, PendingOperation } from './epochs.ts';
import { layOver, pagesOf, sectorStart, sizeAfter } from './layers.ts';
import {
  makePage,
  mixedPage,
  PAGE_BYTES,
  PAGE_SECTORS,
  pagePlace,
  sizeNumber,
  ZERO_PAGE,
  type Page,
  type PageSource,
} from './pages.ts';
import type { Operation } from './recording.ts';

/** What became of a sector that was being written. */
export type SectorFate = 'new' | 'old' | 'garbage';

/** How much of a write is there: the fate of each of its sectors, from the first on. */
export interface Tear {
  /** Bytes: 512 or 4096. */
  readonly sectorBytes: number;
  readonly fates: readonly SectorFate[];
}

/** What became of a pending operation. */
export interface Fate {
  readonly kept: boolean;
  /** Of an operation that makes the file longer or shorter: whether its size is. */
  readonly sizeKept: boolean;
  readonly tear: Tear | undefined;
}

/** Pages with at most so many layers are kept for each combination of them. */
const KEPT_LAYERS_MAX = 20;

interface TouchedPage {
  readonly number: number;
  readonly offset: number;
  readonly file: number;
  /** Pending operations that change it, by their place in the epoch. */
  readonly layers: readonly number[];
  readonly made: Map<number, Page>;
  current: Page;
}

export class StateView implements PageSource {
  readonly epoch: Epoch;
  readonly #pages = new Map<number, TouchedPage>();
  /** For each operation the pages that it changes. */
  readonly #pagesOf: readonly (readonly TouchedPage[])[];
  readonly #fates: Fate[];
  /** Operations that change a size, by their place. */
  readonly #sizing: readonly number[];
  readonly #sizes: number[];
  #low = 0;
  #high = 0;
  #changed: number[] = [];

  /** Begins with every operation lost. */
  constructor(epoch: Epoch) {
    this.epoch = epoch;
    const { pending, base } = epoch;
    const layers = new Map<number, number[]>();
    for (const [place, { operation }] of pending.entries()) {
      for (const number of pagesOf(operation, [base.pages, layers])) {
        const list = layers.get(number);
        if (list === undefined) layers.set(number, [place]);
        else list.push(place);
      }
    }
    for (const [number, list] of layers) {
      const { file, offset } = pagePlace(number);
      const current = base.page(number);
      this.#pages.set(number, { number, offset, file, layers: list, made: new Map(), current });
    }
    const pagesOfEach = pending.map((): TouchedPage[] => []);
    for (const page of this.#pages.values()) for (const place of page.layers) pagesOfEach[place]?.push(page);
    this.#pagesOf = pagesOfEach;
    this.#sizing = pending.flatMap(({ operation }, place) => (operation.op === 'punch-hole' ? [] : [place]));
    this.#sizes = base.sizes.slice();
    this.#fates = pending.map(({ isSettled }) => ({ kept: isSettled, sizeKept: isSettled, tear: undefined }));
    for (const [place, { isSettled }] of pending.entries()) if (isSettled) this.#refresh(place);
    this.#resize();
  }

  /** Numbers of the pages that differ between states of the epoch. */
  get touched(): ReadonlyMap<number, unknown> {
    return this.#pages;
  }

  get fates(): readonly Fate[] {
    return this.#fates;
  }

  /** A number that two states share only if their files do. */
  get hash(): number {
    let low = this.#low;
    let high = this.#high;
    for (const [file, size] of this.#sizes.entries()) {
      low ^= scattered(size + file * 7, 0x9e37_79b1);
      high ^= scattered(size + file * 7, 0x85eb_ca77);
    }
    return (low >>> 0) * 0x20_0000 + (high >>> 11);
  }

  page(number: number): Page {
    const touched = this.#pages.get(number);
    const page = touched === undefined ? this.epoch.base.page(number) : touched.current;
    if (page === ZERO_PAGE) return page;
    const { file, offset } = pagePlace(number);
    const room = this.size(file) - offset;
    return room >= PAGE_BYTES ? page : cutPage(page, room);
  }

  /** The page as it would be if these operations, by their place, were there too. */
  pageWith(number: number, kept: ReadonlySet<number>): Page {
    const touched = this.#pages.get(number);
    if (touched === undefined) return this.page(number);
    const bytes = this.epoch.base.page(number).bytes.slice();
    for (const place of touched.layers) {
      const { operation } = this.epoch.pending[place] as PendingOperation;
      const fate = this.#fates[place] as Fate;
      if (kept.has(place) || (fate.kept && fate.tear === undefined)) {
        layOver(bytes, touched.offset, operation);
      } else if (fate.kept && fate.tear !== undefined) layTorn(bytes, touched.offset, operation, fate.tear);
    }
    return makePage(bytes);
  }

  /** Places of the pending operations that change the page and are not wholly there. */
  lostIn(number: number): readonly number[] {
    const layers = this.#pages.get(number)?.layers ?? [];
    return layers.filter((place) => {
      const { kept, sizeKept, tear } = this.#fates[place] as Fate;
      return !kept || !sizeKept || tear !== undefined;
    });
  }

  size(file: number): number {
    return this.#sizes[file] ?? 0;
  }

  /** The pages that may have changed since the last call; of a size, its `sizeNumber`. */
  takeChanged(): readonly number[] {
    const changed = this.#changed;
    this.#changed = [];
    return changed;
  }

  /** Keeps a pending operation as a whole, or loses it as a whole. */
  set(place: number, kept: boolean): void {
    this.setFate(place, { kept, sizeKept: kept, tear: undefined });
  }

  setFate(place: number, fate: Fate): void {
    const { isSettled } = this.epoch.pending[place] as PendingOperation;
    assertInvariant(!isSettled, 'a settled operation is always there');
    const before = this.#fates[place] as Fate;
    this.#fates[place] = fate;
    if (fate.kept !== before.kept || fate.tear !== before.tear) this.#refresh(place);
    if (fate.sizeKept !== before.sizeKept) this.#resize();
  }

  #refresh(place: number): void {
    for (const page of this.#pagesOf[place] as readonly TouchedPage[]) {
      const next = this.#assembled(page);
      if (next.key === page.current.key) continue;
      this.#low ^= scattered(page.number, page.current.key) ^ scattered(page.number, next.key);
      this.#high ^= scattered(page.number + 1, page.current.key) ^ scattered(page.number + 1, next.key);
      page.current = next;
      this.#changed.push(page.number);
    }
  }

  #assembled(page: TouchedPage): Page {
    if (page.layers.length > KEPT_LAYERS_MAX) return this.#laidOver(page);
    let combination = 0;
    let torn = -1;
    for (const [bit, place] of page.layers.entries()) {
      const { kept, tear } = this.#fates[place] as Fate;
      if (kept && tear !== undefined) {
        if (torn >= 0) return this.#laidOver(page);
        torn = bit;
      } else if (kept) combination |= 1 << bit;
    }
    if (torn < 0) return this.#whole(page, combination);
    return this.#torn(page, torn, combination) ?? this.#laidOver(page);
  }

  /** The page with each operation there as a whole or not at all. */
  #whole(page: TouchedPage, combination: number): Page {
    const made = page.made.get(combination);
    if (made !== undefined) return made;
    const bytes = this.epoch.base.page(page.number).bytes.slice();
    for (const [bit, place] of page.layers.entries()) {
      if ((combination & (1 << bit)) === 0) continue;
      layOver(bytes, page.offset, (this.epoch.pending[place] as PendingOperation).operation);
    }
    const assembled = makePage(bytes);
    page.made.set(combination, assembled);
    return assembled;
  }

  /**
   * The page with one operation there in part: each sector is as with it, or as without. Of a table
   * that is written whole, most pages are the same in both.
   */
  #torn(page: TouchedPage, torn: number, combination: number): Page | undefined {
    const place = page.layers[torn] as number;
    const { sectorBytes, fates } = (this.#fates[place] as Fate).tear as Tear;
    const first = sectorStart((this.epoch.pending[place] as PendingOperation).operation.offset, sectorBytes);
    const without = this.#whole(page, combination);
    const withIt = this.#whole(page, combination | (1 << torn));
    const isNew: boolean[] = [];
    let differing = 0;
    let fromNew = 0;
    for (let sector = 0; sector < PAGE_SECTORS; sector++) {
      const fate = fates[Math.floor((page.offset + sector * SECTOR_SIZE - first) / sectorBytes)];
      if (fate === 'garbage') return undefined;
      isNew.push(fate === 'new');
      if (without.tokens[sector] === withIt.tokens[sector]) continue;
      differing++;
      if (fate === 'new') fromNew++;
    }
    if (fromNew === 0) return without;
    return fromNew === differing ? withIt : mixedPage(without, withIt, isNew);
  }

  #laidOver(page: TouchedPage): Page {
    const bytes = this.epoch.base.page(page.number).bytes.slice();
    for (const place of page.layers) {
      const { kept, tear } = this.#fates[place] as Fate;
      if (!kept) continue;
      const { operation } = this.epoch.pending[place] as PendingOperation;
      if (tear === undefined) layOver(bytes, page.offset, operation);
      else layTorn(bytes, page.offset, operation, tear);
    }
    return makePage(bytes);
  }

  #resize(): void {
    for (const [file, before] of this.#sizes.entries()) {
      let size = this.epoch.base.size(file);
      for (const place of this.#sizing) {
        const { operation } = this.epoch.pending[place] as PendingOperation;
        if (operation.file === file && (this.#fates[place] as Fate).sizeKept) {
          size = sizeAfter(operation, size);
        }
      }
      if (size === before) continue;
      this.#sizes[file] = size;
      this.#changed.push(sizeNumber(file));
      const from = Math.min(size, before) - PAGE_BYTES;
      for (const page of this.#pages.values()) {
        if (page.file === file && page.offset > from) this.#changed.push(page.number);
      }
    }
  }
}

/** How many sectors of the device a write touches. */
export function sectorsOf({ offset, length }: Operation, sectorBytes: number): number {
  return (sectorStart(offset + length - 1, sectorBytes) - sectorStart(offset, sectorBytes)) / sectorBytes + 1;
}

/** Whether the operation may change the size of the file. */
export function changesSize({ operation }: PendingOperation, base: PageSource): boolean {
  const size = base.size(operation.file);
  return sizeAfter(operation, size) !== size;
}

/** Random fates for the sectors of a write, neither all new nor all old. */
export function randomTear(
  operation: Operation,
  { sectorBytes, garbage }: { readonly sectorBytes: number; readonly garbage: boolean },
  random: Random,
): Tear | undefined {
  const count = sectorsOf(operation, sectorBytes);
  if (operation.op !== 'write' || (count < 2 && !garbage)) return undefined;
  const share = random.fraction();
  const fates = Array.from({ length: count }, (): SectorFate => (random.chance(share) ? 'new' : 'old'));
  if (garbage && random.chance(0.5)) fates[random.below(count)] = 'garbage';
  else fates[random.below(count)] = fates.includes('old') ? 'new' : 'old';
  return { sectorBytes, fates };
}

function layTorn(page: Uint8Array, pageOffset: number, operation: Operation, tear: Tear): void {
  const { sectorBytes, fates } = tear;
  let start = sectorStart(operation.offset, sectorBytes);
  for (const fate of fates) {
    const end = start + sectorBytes;
    if (fate === 'new') layOver(page, pageOffset, operation, start, end);
    else if (fate === 'garbage') {
      const from = Math.max(start, pageOffset);
      const to = Math.min(end, pageOffset + PAGE_BYTES);
      // Neither the old nor the new bytes, and the same in every run.
      for (let at = from; at < to; at++) page[at - pageOffset] = scattered(at, 0x5f35_6495) & 0xff;
    }
    start = end;
  }
}

/** A page of which only the first `room` bytes are in the file. */
function cutPage(page: Page, room: number): Page {
  if (room <= 0) return ZERO_PAGE;
  const bytes = page.bytes.slice();
  bytes.fill(0, room);
  return makePage(bytes);
}

function scattered(value: number, salt: number): number {
  const low = Math.imul((value | 0) ^ 0x2545_f491, 0x9e37_79b1) ^ (value / 0x1_0000_0000);
  const mixed =
    Math.imul(low ^ (low >>> 15) ^ (salt | 0), 0x85eb_ca6b) ^ Math.imul(salt / 0x1_0000_0000, 0xc2b2_ae35);
  return Math.imul(mixed ^ (mixed >>> 13), 0x27d4_eb2f) ^ (mixed >>> 16);
}
