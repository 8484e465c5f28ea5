/**
 * What a guest ought to see: a plain array of bytes, and the requests that tests make of a disk.
 *
 * A large disk is modelled in a few regions only; requests stay inside them. Every sector of every
 * write carries a number of its own, so that a sector that lands in the wrong place is detected
 * from the right one.
 */

import fc from 'fast-check';
import type { BlockBackend } from '../../src/format/block-backend.ts';
import type { Format } from '../../src/format/disk-image.ts';

export const SECTOR = 512;

/** A stretch of the guest's disk, in bytes. */
export interface Region {
  readonly start: number;
  readonly length: number;
}

export type GuestRequest =
  | { readonly op: 'read' | 'discard'; readonly offset: number; readonly length: number }
  | { readonly op: 'write'; readonly offset: number; readonly length: number; readonly fua: boolean }
  | {
      readonly op: 'write-zeroes';
      readonly offset: number;
      readonly length: number;
      readonly fua: boolean;
      readonly unmap: boolean;
    }
  | { readonly op: 'flush' };

/** What the model needs to know of a disk. Sizes in bytes. */
export interface DiskShape {
  readonly format: Format;
  readonly virtualSize: number;
  /** 1 for raw. */
  readonly clusterSize: number;
  readonly regions: readonly Region[];
}

export class GuestModel {
  readonly shape: DiskShape;
  readonly #bytes: readonly Uint8Array<ArrayBuffer>[];

  constructor(shape: DiskShape, bytes?: readonly Uint8Array<ArrayBuffer>[]) {
    this.shape = shape;
    this.#bytes = bytes ?? shape.regions.map(({ length }) => new Uint8Array(length));
  }

  clone(): GuestModel {
    return new GuestModel(
      this.shape,
      this.#bytes.map((bytes) => bytes.slice()),
    );
  }

  /** The regions with their bytes. */
  get contents(): readonly { readonly start: number; readonly bytes: Uint8Array<ArrayBuffer> }[] {
    return this.shape.regions.map(({ start }, index) => ({
      start,
      bytes: this.#bytes[index] as Uint8Array<ArrayBuffer>,
    }));
  }

  /** A view of what is in the range. */
  view(offset: number, length: number): Uint8Array<ArrayBuffer> {
    for (const { start, bytes } of this.contents) {
      if (offset >= start && offset + length <= start + bytes.byteLength) {
        return bytes.subarray(offset - start, offset - start + length);
      }
    }
    throw new Error(`test bug: ${String(length)} bytes at ${String(offset)} lie in no region`);
  }

  /** Does to the model what request number `index` does to the disk. */
  apply(request: GuestRequest, index: number): void {
    switch (request.op) {
      case 'write':
        this.view(request.offset, request.length).set(payload(index, request.offset, request.length));
        return;
      case 'write-zeroes':
        this.view(request.offset, request.length).fill(0);
        return;
      case 'discard': {
        const dropped = discardedRange(this.shape, request.offset, request.length);
        if (dropped.length > 0) this.view(dropped.start, dropped.length).fill(0);
        return;
      }
      case 'read':
      case 'flush':
        return;
    }
  }
}

/** What reads as zeroes after a discard of the range; the rest of it is unchanged. */
export function discardedRange(shape: DiskShape, offset: number, length: number): Region {
  switch (shape.format) {
    case 'raw':
      return { start: offset, length };
    case 'qed':
      return { start: offset, length: 0 };
    case 'btree':
    case 'qcow2': {
      // Whole clusters; the last cluster of the disk is whole where the disk ends.
      const { clusterSize, virtualSize } = shape;
      const start = Math.ceil(offset / clusterSize) * clusterSize;
      const end = offset + length;
      const last = end === virtualSize ? end : Math.floor(end / clusterSize) * clusterSize;
      return { start, length: Math.max(0, last - start) };
    }
  }
}

/** The bytes that write number `index` puts into the range: never zero, no two sectors alike. */
export function payload(index: number, offset: number, length: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(length / 4);
  const wordsPerSector = SECTOR / 4;
  for (let sector = 0; sector < length / SECTOR; sector++) {
    const tag = ((index + 1) << 20) | ((offset / SECTOR + sector) % 0x10_0000);
    words.fill(tag, sector * wordsPerSector, (sector + 1) * wordsPerSector);
  }
  return new Uint8Array(words.buffer);
}

/** Makes request number `index` of a disk; what a read answers is dropped. */
export async function performRequest(
  backend: BlockBackend,
  request: GuestRequest,
  index: number,
): Promise<void> {
  switch (request.op) {
    case 'read':
      await backend.read(request.offset, new Uint8Array(request.length));
      return;
    case 'write':
      await backend.write(request.offset, payload(index, request.offset, request.length), request);
      return;
    case 'write-zeroes':
      await backend.writeZeroes(request.offset, request.length, request);
      return;
    case 'discard':
      await backend.discard(request.offset, request.length);
      return;
    case 'flush':
      await backend.flush();
      return;
  }
}

/**
 * Some sectors of data and some of none, the same for every disk of a shape: what a backing file
 * holds.
 */
export function backingContents(shape: DiskShape): GuestModel {
  const model = new GuestModel(shape);
  for (const { start, bytes } of model.contents) {
    const stretch = Math.max(SECTOR * 3, Math.floor(bytes.byteLength / 7 / SECTOR) * SECTOR);
    for (let at = 0; at < bytes.byteLength; at += 2 * stretch) {
      const length = Math.min(stretch, bytes.byteLength - at);
      bytes.set(payload(4000, start + at, length), at);
    }
  }
  return model;
}

/** Requests of every kind, size and place within the regions of a disk. */
export function guestRequest(shape: DiskShape): fc.Arbitrary<GuestRequest> {
  return fc.tuple(guestOp, guestRange(shape), fc.boolean()).map(([kind, range, fua]): GuestRequest => {
    switch (kind) {
      case 'flush':
        return { op: 'flush' };
      case 'read':
      case 'discard':
        return { op: kind, ...range };
      case 'write':
        return { op: 'write', ...range, fua };
      case 'zero-keep':
        return { op: 'write-zeroes', ...range, fua, unmap: false };
      case 'zero-unmap':
        return { op: 'write-zeroes', ...range, fua, unmap: true };
    }
  });
}

const guestOp = fc.oneof(
  { weight: 6, arbitrary: fc.constant('write' as const) },
  { weight: 2, arbitrary: fc.constant('read' as const) },
  {
    weight: 4,
    arbitrary: fc.constantFrom(
      'flush' as const,
      'discard' as const,
      'zero-keep' as const,
      'zero-unmap' as const,
    ),
  },
);

/**
 * A range of whole sectors inside one region: any, on cluster borders, or up to the region's end.
 */
function guestRange(shape: DiskShape): fc.Arbitrary<{ offset: number; length: number }> {
  const cluster = Math.max(shape.clusterSize, 4096) / SECTOR;
  const choice = fc.record({
    region: fc.nat(shape.regions.length - 1),
    place: fc.nat(0xffff),
    length: fc.oneof(fc.integer({ min: 1, max: 16 }), fc.integer({ min: 1, max: 3 * cluster })),
    snap: fc.constantFrom('none', 'none', 'start', 'both', 'end'),
  });
  return choice.map(({ region, place, length, snap }) => {
    const { start, length: bytes } = shape.regions[region] as Region;
    const sectors = bytes / SECTOR;
    let first = Math.floor((place / 0x1_0000) * sectors);
    if (snap === 'start' || snap === 'both') first -= first % cluster;
    let count = snap === 'both' ? Math.ceil(length / cluster) * cluster : length;
    if (snap === 'end') first = Math.max(0, sectors - count);
    count = Math.min(count, sectors - first);
    return { offset: start + first * SECTOR, length: count * SECTOR };
  });
}
