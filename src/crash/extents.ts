/** Where each guest sector of an open image is, from its tables. */

import { alignDown, SECTOR_SIZE } from '../core/alignment.ts';
import { Qcow2BenchError } from '../core/error.ts';
import type { DiskImage, Mapping } from '../format/disk-image.ts';
import { PAGE_SECTORS, pageNumber, tokensOf } from './pages.ts';

export type Place =
  | { readonly kind: 'host'; readonly file: number; readonly sector: number }
  /** Zeroes, or what is behind the image: its backing file, or zeroes without one. */
  | { readonly kind: 'zero' | 'behind' }
  /** An entry leads nowhere, and reading there is refused. */
  | { readonly kind: 'unreadable' }
  /** What was read, where it is not stored sector by sector. */
  | { readonly kind: 'decoded'; readonly tokens: Float64Array };

/** A range of guest sectors. */
export interface Extent {
  readonly start: number;
  readonly sectors: number;
  readonly place: Place;
}

/**
 * The whole disk, in order.
 *
 * @param dataFile index of the file that holds guest data
 */
export async function extentsOf(image: DiskImage, dataFile: number): Promise<readonly Extent[]> {
  const extents: Extent[] = [];
  const { virtualSize } = image;
  for (let at = 0; at < virtualSize;) {
    const found = await extentAt(image, at, dataFile);
    const last = extents.at(-1);
    if (last !== undefined && continues(last, found)) {
      extents[extents.length - 1] = { ...last, sectors: last.sectors + found.sectors };
    } else extents.push(found);
    at += found.sectors * SECTOR_SIZE;
  }
  return extents;
}

async function extentAt(image: DiskImage, at: number, dataFile: number): Promise<Extent> {
  const rest = image.virtualSize - at;
  let mapping: Mapping;
  try {
    mapping = await image.map(at, rest, { seeHoles: false, far: true });
  } catch (error) {
    // As QEMU reports it, one range of a QED image at a time: the others can be read.
    if (!(error instanceof Qcow2BenchError) || error.code !== 'qed-bad-cluster-offset') throw error;
    const end = Math.min(alignDown(at, image.clusterSize) + image.clusterSize, image.virtualSize);
    return { start: at / SECTOR_SIZE, sectors: (end - at) / SECTOR_SIZE, place: { kind: 'unreadable' } };
  }
  const length = Math.min(mapping.length, rest);
  return {
    start: at / SECTOR_SIZE,
    // The last sector of a raw file may be cut off.
    sectors: Math.ceil(length / SECTOR_SIZE),
    place: await placeOf(image, mapping, { at, length, dataFile }),
  };
}

async function placeOf(
  image: DiskImage,
  { kind, hostOffset }: Mapping,
  { at, length, dataFile }: { readonly at: number; readonly length: number; readonly dataFile: number },
): Promise<Place> {
  switch (kind) {
    case 'data':
    case 'hole':
      return { kind: 'host', file: dataFile, sector: (hostOffset ?? 0) / SECTOR_SIZE };
    case 'zero':
      return { kind };
    case 'unallocated':
      return { kind: 'behind' };
    case 'compressed': {
      const bytes = new Uint8Array(length);
      try {
        await image.read(at, bytes);
      } catch (error) {
        // What was lost cannot be decoded: the other clusters can be read.
        if (error instanceof Qcow2BenchError) return { kind: 'unreadable' };
        throw error;
      }
      return { kind: 'decoded', tokens: tokensOf(bytes) };
    }
  }
}

function continues({ start, sectors, place }: Extent, next: Extent): boolean {
  const other = next.place;
  if (start + sectors !== next.start || place.kind !== other.kind) return false;
  if (place.kind === 'decoded') return false;
  if (place.kind !== 'host' || other.kind !== 'host') return true;
  return place.file === other.file && place.sector + sectors === other.sector;
}

/** Whether two disks have everything in the same places. */
export function sameExtents(a: readonly Extent[], b: readonly Extent[]): boolean {
  return a.length === b.length && a.every((extent, index) => sameExtent(extent, b[index] as Extent));
}

/** Whether two extents are the same sectors in the same place. */
export function sameExtent(a: Extent, b: Extent): boolean {
  if (a.start !== b.start || a.sectors !== b.sectors || a.place.kind !== b.place.kind) return false;
  if (a.place.kind === 'decoded' && b.place.kind === 'decoded') {
    const { tokens } = b.place;
    return a.place.tokens.every((token, index) => token === tokens[index]);
  }
  if (a.place.kind !== 'host' || b.place.kind !== 'host') return true;
  return a.place.file === b.place.file && a.place.sector === b.place.sector;
}

/** Guest sectors that are in one host page. */
export interface Span {
  /** Sector within the page. */
  readonly from: number;
  readonly sectors: number;
  /** Guest sector of the first. */
  readonly guest: number;
}

/** Pages by which host extents are found, and the same of extents that are longer than the latter. */
const BUCKET_PAGES = 256;
const LONG_BUCKET_PAGES = 1024 * BUCKET_PAGES;

/** Which guest sectors are in a page of the files. */
export class HostIndex {
  readonly #buckets = new Map<number, Extent[]>();
  readonly #longBuckets = new Map<number, Extent[]>();

  constructor(extents: readonly Extent[]) {
    for (const extent of extents) {
      const { place, sectors } = extent;
      if (place.kind !== 'host') continue;
      const first = pageOf(place.file, place.sector);
      const last = pageOf(place.file, place.sector + sectors - 1);
      const isLong = last - first > LONG_BUCKET_PAGES;
      const buckets = isLong ? this.#longBuckets : this.#buckets;
      const pages = isLong ? LONG_BUCKET_PAGES : BUCKET_PAGES;
      for (let bucket = Math.floor(first / pages); bucket <= Math.floor(last / pages); bucket++) {
        const found = buckets.get(bucket);
        if (found === undefined) buckets.set(bucket, [extent]);
        else found.push(extent);
      }
    }
  }

  /** No guest sector is anywhere. */
  get isEmpty(): boolean {
    return this.#buckets.size === 0 && this.#longBuckets.size === 0;
  }

  /** Several where tables lead to the page more than once. */
  spansOf(number: number): readonly Span[] {
    const spans: Span[] = [];
    addSpans(spans, this.#buckets.get(Math.floor(number / BUCKET_PAGES)), number);
    addSpans(spans, this.#longBuckets.get(Math.floor(number / LONG_BUCKET_PAGES)), number);
    return spans;
  }
}

function addSpans(spans: Span[], extents: readonly Extent[] | undefined, number: number): void {
  for (const extent of extents ?? []) {
    const span = spanOf(extent, number);
    if (span !== undefined) spans.push(span);
  }
}

/** The guest sectors of an extent that are in a page of the files; nothing if there are none. */
export function spanOf({ start, sectors, place }: Extent, number: number): Span | undefined {
  if (place.kind !== 'host') return undefined;
  const first = Math.max(0, (number - pageOf(place.file, 0)) * PAGE_SECTORS - place.sector);
  const from = (place.sector + first) % PAGE_SECTORS;
  const count = Math.min(PAGE_SECTORS - from, sectors - first);
  if (count <= 0 || pageOf(place.file, place.sector + first) !== number) return undefined;
  return { from, sectors: count, guest: start + first };
}

function pageOf(file: number, sector: number): number {
  return pageNumber(file, sector * SECTOR_SIZE);
}

/** Finds the extent that holds a guest sector. */
export function extentOf(extents: readonly Extent[], sector: number): Extent | undefined {
  let low = 0;
  let high = extents.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const { start, sectors } = extents[middle] as Extent;
    if (start + sectors <= sector) low = middle + 1;
    else high = middle;
  }
  return extents[low];
}
