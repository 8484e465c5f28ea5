/**
 * A file as text: where it has bytes other than zero, and which. Sectors of one value are a run,
 * others are in Base64. Image files of a TiB become a few kilobytes.
 */

import { createHash } from 'node:crypto';

import type { BlockDevice } from '../../src/device/block-device.ts';
import { DeviceFilter } from '../../src/device/filter.ts';
import { SECTOR_SIZE } from '../../src/workload/request.ts';
import { sectorValue } from '../../src/peer/uniform-bytes.ts';

/** `[offset, length, value]` or `[offset, bytes]`, in bytes. */
type Piece = readonly [number, number, number] | readonly [number, string];

export interface PackedFile {
  readonly size: number;
  /**
   * Offset and length of what the file system stored: engines look at the holes of a raw backing
   * file.
   */
  readonly stored: readonly (readonly [number, number])[];
  readonly pieces: readonly Piece[];
}

type Readable = Pick<BlockDevice, 'size' | 'extentAt' | 'read'>;

export async function packFile(file: Readable): Promise<PackedFile> {
  const pieces: Piece[] = [];
  let run: { offset: number; length: number; value: number } | undefined;
  let odd: { offset: number; bytes: Uint8Array[] } | undefined;
  let end = 0;
  const close = (): void => {
    if (run !== undefined) pieces.push([run.offset, run.length, run.value]);
    if (odd !== undefined) pieces.push([odd.offset, Buffer.concat(odd.bytes).toString('base64')]);
    run = undefined;
    odd = undefined;
  };
  for await (const { offset, sector } of storedSectors(file)) {
    const value = sectorValue(sector);
    if (offset !== end || run?.value !== value || value === undefined) {
      // Odd sectors in a row share a piece.
      if (offset !== end || value !== undefined || odd === undefined) close();
    }
    end = offset + sector.byteLength;
    if (value === undefined) (odd ??= { offset, bytes: [] }).bytes.push(sector.slice());
    else (run ??= { offset, length: 0, value }).length += sector.byteLength;
  }
  close();
  return { size: file.size(), stored: storedExtents(file), pieces };
}

/**
 * What is zero is left out, but for a first block that was written: by it O_DIRECT shows what it
 * asks of requests.
 */
export async function unpackFile(packed: PackedFile, device: BlockDevice): Promise<void> {
  if (packed.stored[0]?.[0] === 0) await device.write(0, new Uint8Array(SECTOR_SIZE), 'data');
  for (const [offset, second, value] of packed.pieces) {
    const bytes =
      typeof second === 'string' ? Buffer.from(second, 'base64') : new Uint8Array(second).fill(value ?? 0);
    await device.write(offset, bytes, 'data');
  }
  await device.truncate(packed.size, 'data');
}

/** A hash of a file's length and bytes, whatever it stores as holes. */
export async function hashFile(file: Readable): Promise<string> {
  const hash = createHash('sha256').update(`size ${String(file.size())}`);
  for await (const { offset, sector } of storedSectors(file)) {
    hash.update(` ${String(offset)} `).update(sector);
  }
  return hash.digest('hex').slice(0, 32);
}

/** Answers with the holes that a file had when it was packed, whatever the device below stores. */
export class PackedHoles extends DeviceFilter {
  readonly #packed: PackedFile;

  constructor(inner: BlockDevice, packed: PackedFile) {
    super(inner);
    this.#packed = packed;
  }

  override extentAt(offset: number): { readonly isData: boolean; readonly length: number } {
    for (const [start, length] of this.#packed.stored) {
      if (offset < start) return { isData: false, length: start - offset };
      if (offset < start + length) return { isData: true, length: start + length - offset };
    }
    return { isData: false, length: this.#packed.size - offset };
  }
}

function storedExtents(file: Readable): readonly (readonly [number, number])[] {
  const extents: (readonly [number, number])[] = [];
  for (let at = 0; at < file.size();) {
    const { isData, length } = file.extentAt(at);
    if (isData) extents.push([at, length]);
    at += length;
  }
  return extents;
}

/** Every sector that is not all zero. The bytes hold until the next one is asked for. */
async function* storedSectors(
  file: Readable,
): AsyncGenerator<{ readonly offset: number; readonly sector: Uint8Array }, undefined> {
  const size = file.size();
  const chunk = new Uint8Array(1024 * 1024);
  for (let at = 0; at < size;) {
    const { isData, length } = file.extentAt(at);
    const end = at + length;
    for (let offset = at; isData && offset < end; offset += chunk.byteLength) {
      const bytes = chunk.subarray(0, Math.min(chunk.byteLength, end - offset));
      await file.read(offset, bytes, 'data');
      for (let inChunk = 0; inChunk < bytes.byteLength; inChunk += SECTOR_SIZE) {
        const sector = bytes.subarray(inChunk, inChunk + SECTOR_SIZE);
        if (sectorValue(sector) !== 0) yield { offset: offset + inChunk, sector };
      }
    }
    at = end;
  }
  return undefined;
}
