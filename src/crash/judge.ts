/**
 * Compares the guest data of states with what they may hold.
 *
 * Where each sector is follows from a state's outcome. So of a state with the outcome of the one
 * before it only the pages that changed are compared; the others were found right or wrong before.
 *
 * Invariant: `judge` answers what it would if no state had been judged before.
 */

import { SECTOR_SIZE } from '../core/alignment.ts';
import type { Epoch } from './epochs.ts';
import { UNREADABLE, type Expectation } from './expectation.ts';
import { extentOf, HostIndex, sameExtent, sameExtents, spanOf, type Extent, type Span } from './extents.ts';
import type { Finding, Moment } from './findings.ts';
import type { FurtherWrite, Look, Outcome } from './inspect.ts';
import type { Leaf } from './outcome-tree.ts';
import { makePage, PAGE_SECTORS, pageNumber, ZERO_PAGE, ZERO_TOKEN, type Page } from './pages.ts';
import type { StateView } from './state-view.ts';

/** What is wrong with a state, and what is merely counted. */
export interface Verdict {
  readonly findings: readonly Finding[];
  /** Sectors that hold something else within a discard that is not durable. */
  readonly inDiscard: number;
}

/** What is compared at one moment: extents of the disk, or of a snapshot, by host page. */
interface Layer {
  /** Of `moment` and `snapshot`. */
  readonly name: string;
  readonly moment: Moment;
  readonly snapshot: string | undefined;
  readonly extents: readonly Extent[];
  readonly index: HostIndex;
  /** Pages that the inspection had written: they are not the state's. */
  readonly written: WrittenPages;
  readonly isMarked: boolean;
}

/** Made into pages when they are looked at, which few are: most hold tables. */
class WrittenPages {
  readonly #bytes: ReadonlyMap<number, Uint8Array>;
  readonly #made: Map<Uint8Array, Page>;

  /** @param made shared by looks that share bytes */
  constructor(bytes: ReadonlyMap<number, Uint8Array>, made: Map<Uint8Array, Page>) {
    this.#bytes = bytes;
    this.#made = made;
  }

  has(number: number): boolean {
    return this.#bytes.has(number);
  }

  numbers(): Iterable<number> {
    return this.#bytes.keys();
  }

  /** Whether any is one of the extent's. */
  meets({ place, sectors }: Extent): boolean {
    if (place.kind !== 'host') return false;
    const first = pageNumber(place.file, place.sector * SECTOR_SIZE);
    const last = pageNumber(place.file, (place.sector + sectors - 1) * SECTOR_SIZE);
    if (last - first < this.#bytes.size) {
      for (let number = first; number <= last; number++) if (this.#bytes.has(number)) return true;
      return false;
    }
    for (const number of this.#bytes.keys()) if (number >= first && number <= last) return true;
    return false;
  }

  page(number: number): Page | undefined {
    const bytes = this.#bytes.get(number);
    if (bytes === undefined) return undefined;
    const page = this.#made.get(bytes) ?? makePage(bytes);
    this.#made.set(bytes, page);
    return page;
  }
}

/** What was found in a page, or in all of a state. */
interface Found {
  readonly findings: Finding[];
  inDiscard: number;
}

const NOTHING: Found = { findings: [], inDiscard: 0 };

function isNothing({ findings, inDiscard }: Found): boolean {
  return findings.length === 0 && inDiscard === 0;
}

function add(sum: Found, found: Found): void {
  sum.findings.push(...found.findings);
  sum.inDiscard += found.inDiscard;
}

/** What was found in an extent, as far as it is the same in all states of the epoch. */
interface KnownExtent {
  readonly extent: Extent;
  readonly found: Found;
}

/** What was found before in an epoch in the states of one outcome. */
interface Seen {
  readonly layers: readonly Layer[];
  readonly base: Found;
  /** By page and content. */
  readonly pages: Map<number, Map<number, Found>>;
}

export class Judge {
  readonly #expectation: Expectation;
  readonly #own: ReadonlyMap<number, number>;
  readonly #clusterSectors: number;
  readonly #layers = new WeakMap<Outcome, readonly Layer[]>();
  #epoch: Epoch | undefined;
  /** Pages of its base that no pending operation changes, ascending. */
  #stored = new Float64Array(0);
  #seen = new Map<Outcome, Seen>();
  /** By layer and first sector: of the outcome that was judged last. Most extents are as before. */
  #extents = new Map<string, Map<number, KnownExtent>>();
  #leaf: Leaf | undefined;
  /** Of the state before: pages in which something was found. */
  readonly #found = new Map<number, Found>();

  /** @param options.clusterSize bytes in which the image allocates */
  constructor(
    expectation: Expectation,
    { writes, clusterSize }: { readonly writes: readonly FurtherWrite[]; readonly clusterSize: number },
  ) {
    this.#expectation = expectation;
    this.#own = new Map(writes.map(({ sector, token }) => [sector, token]));
    this.#clusterSectors = Math.max(1, clusterSize / SECTOR_SIZE);
  }

  /**
   * Judges the state that `view` shows, of which `leaf` is the outcome.
   *
   * @param changed pages that may differ from those of the state that was judged before
   */
  judge(view: StateView, leaf: Leaf, changed: readonly number[]): Verdict {
    if (view.epoch !== this.#epoch) {
      this.#epoch = view.epoch;
      const numbers = [...view.epoch.base.pages.keys()];
      this.#stored = Float64Array.from(numbers.filter((number) => !view.touched.has(number))).sort();
      this.#seen = new Map();
      this.#extents = new Map();
      this.#leaf = undefined;
    }
    const { outcome } = leaf;
    const seen = this.#seen.get(outcome) ?? this.#begin(view, outcome);
    const isNew = leaf !== this.#leaf;
    this.#leaf = leaf;
    if (isNew) this.#found.clear();
    for (const number of isNew ? view.touched.keys() : changed) {
      const found = number < 0 ? NOTHING : this.#judgePage(view.page(number), number, seen);
      if (found === NOTHING) this.#found.delete(number);
      else this.#found.set(number, found);
    }
    return verdictOf(outcome, seen.base, this.#found.values());
  }

  /** Compares what is the same in all states of the epoch with this outcome. */
  #begin(view: StateView, outcome: Outcome): Seen {
    const layers = this.#layers.get(outcome) ?? layersOf(outcome);
    this.#layers.set(outcome, layers);
    const base: Found = { findings: [], inDiscard: 0 };
    this.#judgeShape(view.epoch, outcome, base);
    for (const layer of layers) {
      for (const extent of layer.extents) add(base, this.#judgeExtent(view, layer, extent));
      this.#judgeWritten(view, layer, base);
    }
    const seen = { layers, base, pages: new Map<number, Map<number, Found>>() };
    this.#seen.set(outcome, seen);
    return seen;
  }

  /** Sizes of the disk, and which snapshots there are. */
  #judgeShape({ at }: Epoch, { looks, snapshots }: Outcome, { findings }: Found): void {
    const sizes = this.#expectation.sizesAt(at);
    for (const { moment, snapshot, extents } of looks) {
      const last = extents.at(-1);
      const bytes = last === undefined ? 0 : (last.start + last.sectors) * SECTOR_SIZE;
      if (snapshot !== undefined || sizes.includes(bytes)) continue;
      const text = `the disk has ${String(bytes)} bytes instead of ${sizes.join(' or ')}`;
      findings.push({ kind: 'wrong-size', moment, text });
    }
    const { must, may } = this.#expectation.snapshotsAt(at);
    for (const [moment, names] of snapshots) {
      const missing = must.filter((name) => !names.includes(name));
      const foreign = names.filter((name) => !may.includes(name));
      for (const name of missing) {
        findings.push({ kind: 'wrong-snapshot', moment, text: `the snapshot ${name} is missing` });
      }
      for (const name of foreign) {
        findings.push({ kind: 'wrong-snapshot', moment, text: `the snapshot ${name} should not exist` });
      }
    }
  }

  /** What is the same in all states of the epoch with this extent. */
  #judgeExtent(view: StateView, layer: Layer, extent: Extent): Found {
    const { kind } = extent.place;
    const isSharable = kind !== 'unreadable' && kind !== 'decoded' && !layer.written.meets(extent);
    if (!isSharable) return this.#judgeAlone(view, layer, extent);
    let extents = this.#extents.get(layer.name);
    if (extents === undefined) this.#extents.set(layer.name, (extents = new Map<number, KnownExtent>()));
    const known = extents.get(extent.start);
    if (known !== undefined && sameExtent(known.extent, extent)) return known.found;
    const found = this.#judgeAlone(view, layer, extent);
    extents.set(extent.start, { extent, found });
    return found;
  }

  #judgeAlone(view: StateView, layer: Layer, extent: Extent): Found {
    const found: Found = { findings: [], inDiscard: 0 };
    const { at } = view.epoch;
    if (extent.place.kind === 'unreadable') this.#judgeUnreadable(extent, { layer, at }, found);
    else {
      this.#judgeKnown(view, { layer, extent }, found);
      this.#judgeUnknown(view, { layer, extent }, found);
    }
    return isNothing(found) ? NOTHING : found;
  }

  /** Sectors that may have to hold anything but zeroes. */
  #judgeKnown(
    view: StateView,
    { layer, extent }: { readonly layer: Layer; readonly extent: Extent },
    found: Found,
  ): void {
    const { at } = view.epoch;
    const { start, sectors, place } = extent;
    const { known } = this.#expectation;
    for (let index = firstAtLeast(known, start); index < known.length; index++) {
      const sector = known[index] as number;
      if (sector >= start + sectors) break;
      if (place.kind !== 'host') {
        this.#judgeSector(sector, this.#tokenOf(extent, sector), { layer, at }, found);
        continue;
      }
      const host = place.sector + sector - start;
      const number = pageNumber(place.file, host * SECTOR_SIZE);
      const written = layer.written.page(number);
      if (written === undefined && view.touched.has(number)) continue;
      const page = written ?? view.page(number);
      this.#judgeSector(sector, page.tokens[host % PAGE_SECTORS] as number, { layer, at }, found);
    }
  }

  /** One sector of each cluster names it: one that was written to, if there is one. */
  #judgeUnreadable(
    { start, sectors }: Extent,
    { layer, at }: { readonly layer: Layer; readonly at: number },
    found: Found,
  ): void {
    const { known } = this.#expectation;
    const unit = this.#clusterSectors;
    const end = start + sectors;
    for (let first = start; first < end; first += unit - (first % unit)) {
      if (layer.isMarked && this.#isNearInFlight(first, at)) continue;
      const next = known[firstAtLeast(known, first)] ?? Infinity;
      const isInCluster = next < Math.min(end, first + unit - (first % unit));
      this.#judgeSector(isInCluster ? next : first, UNREADABLE, { layer, at }, found);
    }
  }

  /** Other sectors, where something is stored nevertheless. */
  #judgeUnknown(
    view: StateView,
    { layer, extent }: { readonly layer: Layer; readonly extent: Extent },
    found: Found,
  ): void {
    const { start, sectors, place } = extent;
    const { at } = view.epoch;
    if (place.kind === 'decoded') {
      for (const [index, token] of place.tokens.entries()) {
        this.#judgeOther(start + index, token, { layer, at }, found);
      }
    }
    if (place.kind !== 'host') return;
    const last = pageNumber(place.file, (place.sector + sectors - 1) * SECTOR_SIZE);
    const first = firstAtLeast(this.#stored, pageNumber(place.file, place.sector * SECTOR_SIZE));
    for (let index = first; index < this.#stored.length; index++) {
      const number = this.#stored[index] as number;
      if (number > last) break;
      if (layer.written.has(number)) continue;
      const span = spanOf(extent, number);
      if (span !== undefined) this.#judgeStored(view.page(number), span, { layer, at }, found);
    }
  }

  /** What is stored in pages that the inspection wrote, in other sectors. */
  #judgeWritten({ epoch: { at } }: StateView, layer: Layer, found: Found): void {
    if (layer.index.isEmpty) return;
    for (const number of layer.written.numbers()) {
      for (const span of layer.index.spansOf(number)) {
        this.#judgeStored(layer.written.page(number) ?? ZERO_PAGE, span, { layer, at }, found);
      }
    }
  }

  #judgeStored(
    page: Page,
    { from, sectors, guest }: Span,
    where: { readonly layer: Layer; readonly at: number },
    found: Found,
  ): void {
    for (let index = 0; index < sectors; index++) {
      this.#judgeOther(guest + index, page.tokens[from + index] as number, where, found);
    }
  }

  #judgeOther(
    sector: number,
    token: number,
    where: { readonly layer: Layer; readonly at: number },
    found: Found,
  ): void {
    if (token === ZERO_TOKEN || this.#expectation.isKnown(sector)) return;
    this.#judgeSector(sector, token, where, found);
  }

  #judgePage(page: Page, number: number, { layers, pages }: Seen): Found {
    let contents = pages.get(number);
    if (contents === undefined) pages.set(number, (contents = new Map<number, Found>()));
    const before = contents.get(page.key);
    if (before !== undefined) return before;
    const found: Found = { findings: [], inDiscard: 0 };
    for (const layer of layers) {
      if (layer.written.has(number)) continue;
      for (const span of layer.index.spansOf(number)) this.#judgeSpan(page, span, layer, found);
    }
    const kept = isNothing(found) ? NOTHING : found;
    contents.set(page.key, kept);
    return kept;
  }

  #judgeSpan(page: Page, { from, sectors, guest }: Span, layer: Layer, found: Found): void {
    const at = this.#epoch?.at ?? 0;
    for (let index = 0; index < sectors; index++) {
      this.#judgeSector(guest + index, page.tokens[from + index] as number, { layer, at }, found);
    }
  }

  #judgeSector(
    sector: number,
    token: number,
    { layer: { moment, snapshot }, at }: { readonly layer: Layer; readonly at: number },
    found: Found,
  ): void {
    const isWritten = moment === 'after-writes' && snapshot === undefined;
    const own = isWritten ? this.#own.get(sector) : undefined;
    const ofOwn = own === token ? 'right' : 'wrong';
    const verdict = own === undefined ? this.#expectation.judge(sector, token, at, snapshot) : ofOwn;
    if (verdict === 'right') return;
    if (verdict === 'in-discard') found.inDiscard++;
    else {
      const kind = snapshot === undefined ? 'wrong-data' : 'wrong-snapshot';
      found.findings.push({ kind, moment, text: '', snapshot, sector, token });
    }
  }

  #tokenOf({ start, place }: Extent, sector: number): number {
    switch (place.kind) {
      case 'decoded':
        return place.tokens[sector - start] ?? ZERO_TOKEN;
      case 'behind':
        return this.#expectation.behind(sector);
      case 'unreadable':
        return UNREADABLE;
      case 'zero':
      case 'host':
        return ZERO_TOKEN;
    }
  }

  /** Whether the cluster of the sector was being written: its entry may lead past the file's end. */
  #isNearInFlight(sector: number, at: number): boolean {
    const first = sector - (sector % this.#clusterSectors);
    for (let near = first; near < first + this.#clusterSectors; near++) {
      if (this.#expectation.isInFlight(near, at)) return true;
    }
    return false;
  }
}

function verdictOf(outcome: Outcome, base: Found, pages: Iterable<Found>): Verdict {
  let findings = outcome.findings;
  let { inDiscard } = base;
  if (base.findings.length > 0) findings = [...findings, ...base.findings];
  for (const found of pages) {
    if (found.findings.length > 0) findings = [...findings, ...found.findings];
    inDiscard += found.inDiscard;
  }
  return { findings, inDiscard };
}

/**
 * The whole disk before the repair, and each snapshot; afterwards only what is in another place, or
 * in a page that the inspection wrote: the rest is what was compared already.
 */
function layersOf({ looks, isMarked }: Outcome): readonly Layer[] {
  // Looks share the pages that did not change between them.
  const made = new Map<Uint8Array, Page>();
  return looks.map((look): Layer => {
    const { moment, snapshot } = look;
    const written = new WrittenPages(look.written, made);
    const first = looks.find((each) => each.snapshot === snapshot) ?? look;
    const extents = look === first ? look.extents : movedExtents({ look, written }, first);
    const isBefore = moment === 'before-repair';
    return {
      name: `${moment} ${snapshot ?? ''}`,
      moment,
      snapshot,
      extents,
      index: new HostIndex(extents),
      written,
      isMarked: isMarked && isBefore,
    };
  });
}

function movedExtents(
  { look: { extents }, written }: { readonly look: Look; readonly written: WrittenPages },
  first: Look,
): readonly Extent[] {
  const isSame = sameExtents(extents, first.extents);
  return extents.filter((extent) => {
    if (written.meets(extent)) return true;
    return !isSame && !isWithin(extent, extentOf(first.extents, extent.start));
  });
}

function isWithin(extent: Extent, other: Extent | undefined): boolean {
  if (other === undefined || other.start + other.sectors < extent.start + extent.sectors) return false;
  const [{ place }, before] = [extent, other.place];
  if (place.kind === 'decoded' || place.kind !== before.kind) return false;
  if (place.kind !== 'host' || before.kind !== 'host') return true;
  return place.file === before.file && place.sector === before.sector + extent.start - other.start;
}

function firstAtLeast(values: Float64Array, wanted: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((values[middle] as number) < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}
