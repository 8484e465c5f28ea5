/**
 * Where every byte of a disk comes from, through the whole backing chain: what `map` prints and
 * `convert` copies.
 *
 * Invariants: extents follow each other without a gap from 0 to the disk's end; nothing but tables
 * is read. The flags mean what they mean in `qemu-img map`.
 */

import type { DiskImage, Mapping } from '../format/disk-image.ts';

export interface ImageExtent {
  /** Bytes from the disk's start. */
  readonly start: number;
  /** Bytes. */
  readonly length: number;
  /** Which file of the chain has it: 0 the image, 1 its backing file, and so on. */
  readonly depth: number;
  /**
   * The file at `depth` has this extent, even if as zeroes; false: no file has it, so it is zero.
   */
  readonly present: boolean;
  readonly zero: boolean;
  readonly data: boolean;
  /** Stored compressed: in one piece with others, so without a place of its own. */
  readonly compressed: boolean;
  /** Where it is in the file at `depth`, if it is in one piece. */
  readonly hostOffset: number | undefined;
}

/** Extents from the disk's start to its end, merged, to the byte. */
export async function* imageExtents(image: DiskImage): AsyncGenerator<ImageExtent> {
  let current: ImageExtent | undefined;
  for await (const next of extentsOf(image, { cutSectors: true })) {
    if (current !== undefined && continues(current, next)) {
      current = { ...current, length: current.length + next.length };
    } else {
      if (current !== undefined) yield current;
      current = next;
    }
  }
  if (current !== undefined) yield current;
}

/**
 * The same in whole sectors, each as the tables give it: a compressed cluster is an extent of its
 * own. What no file has is one extent as far as no table maps it.
 */
export function tableExtents(image: DiskImage): AsyncGenerator<ImageExtent> {
  return extentsOf(image, { cutSectors: false });
}

async function* extentsOf(
  image: DiskImage,
  { cutSectors }: { readonly cutSectors: boolean },
): AsyncGenerator<ImageExtent> {
  const walk = new ChainWalk(image, cutSectors);
  for (let start = 0; start < image.virtualSize;) {
    const extent = await walk.at(start);
    yield extent;
    start += extent.length;
  }
}

/** Bytes of a disk. */
interface Range {
  readonly start: number;
  readonly end: number;
}

class ChainWalk {
  readonly #top: DiskImage;
  readonly #cutSectors: boolean;
  /**
   * By depth: what the tables of the image there are known to map nothing of, so that they are
   * looked through once.
   */
  readonly #unmapped: Range[] = [];

  constructor(top: DiskImage, cutSectors: boolean) {
    this.#top = top;
    this.#cutSectors = cutSectors;
  }

  /** The extent that begins at `start`. */
  async at(start: number): Promise<ImageExtent> {
    const near = await this.#extent(start, false);
    // Data are cut where the tables above them end, as QEMU copies them; an L1 table may have four
    // million empty entries.
    const isCutAbove = near.zero && this.#top.backing !== undefined && (near.depth > 0 || !near.present);
    return isCutAbove ? this.#extent(start, true) : near;
  }

  async #extent(start: number, far: boolean): Promise<ImageExtent> {
    let image = this.#top;
    let length = image.virtualSize - start;
    for (let depth = 0; ; depth++) {
      // Each file of a chain may be shorter than the one above.
      length = Math.min(length, image.virtualSize - start);
      const mapping = await this.#map(image, { start, length, depth, far });
      length = Math.min(length, mapping.length);
      const { kind, hostOffset } = mapping;
      if (kind !== 'unallocated') {
        const zero = kind === 'zero' || kind === 'hole';
        const data = kind !== 'zero';
        const compressed = kind === 'compressed';
        return { start, length, depth, present: true, zero, data, compressed, hostOffset };
      }
      const { backing } = image;
      if (backing === undefined || start >= backing.virtualSize) {
        // Within a cluster that is partly in use, even what is unallocated has a place.
        const place = backing === undefined ? hostOffset : undefined;
        const nothing = { present: false, zero: true, data: false, compressed: false } as const;
        return { start, length, depth, ...nothing, hostOffset: place };
      }
      image = backing;
    }
  }

  async #map(
    image: DiskImage,
    { start, length, depth, far }: { start: number; length: number; depth: number; far: boolean },
  ): Promise<Mapping> {
    const known = this.#unmapped[depth];
    if (far && known !== undefined && start >= known.start && start < known.end) {
      return { kind: 'unallocated', length: Math.min(length, known.end - start), hostOffset: undefined };
    }
    const mapping = await image.map(start, length, { seeHoles: true, far, cutSectors: this.#cutSectors });
    if (far && mapping.kind === 'unallocated' && mapping.hostOffset === undefined) {
      this.#unmapped[depth] = { start, end: start + mapping.length };
    }
    return mapping;
  }
}

function continues(before: ImageExtent, after: ImageExtent): boolean {
  const { hostOffset } = before;
  return (
    before.depth === after.depth &&
    before.present === after.present &&
    before.zero === after.zero &&
    before.data === after.data &&
    before.compressed === after.compressed &&
    (hostOffset === undefined
      ? after.hostOffset === undefined
      : after.hostOffset === hostOffset + before.length)
  );
}
