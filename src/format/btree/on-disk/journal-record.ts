/**
 * A record of the journal: what one flush changed in the tree that the superblock leads to. Each
 * fills one block.
 *
 *      magic · checksum · generation of the superblock · number · operations · checksums of data
 *
 * Invariant: a record holds for one superblock and one place only, so that what was written to the
 * journal before is never taken for one.
 */

import { readU64le, viewOf, writeU64le } from '../../../core/bytes.ts';
import { checksum } from './checksum.ts';
import { BLOCK_SIZE, NO_EXTENT, ZERO_EXTENT } from './layout.ts';
import { readProofs, writeProofs, type Proofs } from './superblock.ts';

/** `QBTJ`. */
const RECORD_MAGIC = 0x4a54_4251;
const HEADER = 32;
export const RECORD_FIELD = { checksum: 4, base: 8, sequence: 16, operations: 20, proofs: 24 } as const;
const OPERATION_BYTES = 12;
const PROOF_BYTES = 8;
const CHECKED_FROM = 8;

/** Guest blocks, how many, and the host block or what there is in its place. */
export type MapOperation = readonly [guest: number, blocks: number, host: number];

export interface JournalRecord {
  readonly operations: readonly MapOperation[];
  readonly proofs: Proofs;
}

/** Whether a record can hold so much. */
export function fitsRecord(operations: number, proofs: number): boolean {
  return HEADER + operations * OPERATION_BYTES + proofs * PROOF_BYTES <= BLOCK_SIZE;
}

/** Writes a record into `bytes`, a block. */
export function encodeRecord(
  bytes: Uint8Array<ArrayBuffer>,
  { operations, proofs }: JournalRecord,
  { base, sequence }: { readonly base: number; readonly sequence: number },
): void {
  bytes.fill(0);
  const view = viewOf(bytes);
  view.setUint32(0, RECORD_MAGIC, true);
  writeU64le(view, RECORD_FIELD.base, base);
  view.setUint32(RECORD_FIELD.sequence, sequence, true);
  view.setUint32(RECORD_FIELD.operations, operations.length, true);
  view.setUint32(RECORD_FIELD.proofs, proofs.size, true);
  let at = HEADER;
  for (const [guest, blocks, host] of operations) {
    view.setUint32(at, guest, true);
    view.setUint32(at + 4, blocks, true);
    view.setUint32(at + 8, host, true);
    at += OPERATION_BYTES;
  }
  writeProofs(view, at, proofs);
  view.setUint32(RECORD_FIELD.checksum, checksum(bytes.subarray(CHECKED_FROM)), true);
}

/** Reads a record; `undefined` if there is none for this superblock in this place. */
export function decodeRecord(
  bytes: Uint8Array,
  { base, sequence }: { readonly base: number; readonly sequence: number },
): JournalRecord | undefined {
  const view = viewOf(bytes);
  if (view.getUint32(0, true) !== RECORD_MAGIC) return undefined;
  if (view.getUint32(RECORD_FIELD.checksum, true) !== checksum(bytes.subarray(CHECKED_FROM))) {
    return undefined;
  }
  if (readU64le(view, RECORD_FIELD.base) !== base) return undefined;
  if (view.getUint32(RECORD_FIELD.sequence, true) !== sequence) return undefined;
  const count = view.getUint32(RECORD_FIELD.operations, true);
  const proofs = view.getUint32(RECORD_FIELD.proofs, true);
  if (!fitsRecord(count, proofs)) return undefined;
  const operations: MapOperation[] = [];
  for (let index = 0; index < count; index++) {
    const at = HEADER + index * OPERATION_BYTES;
    operations.push([view.getUint32(at, true), view.getUint32(at + 4, true), view.getUint32(at + 8, true)]);
  }
  return { operations, proofs: readProofs(view, HEADER + count * OPERATION_BYTES, proofs) };
}

/** @returns in words, which operation is not possible; `undefined` if all are */
export function wrongOperation({ operations }: JournalRecord, guestBlocks: number): string | undefined {
  for (const [index, [guest, blocks, host]] of operations.entries()) {
    if (blocks > 0 && guest + blocks <= guestBlocks && host !== 1) continue;
    return `operation ${String(index)} of a record is past the end of the disk, or leads to a superblock`;
  }
  return undefined;
}

/**
 * The record as it is to be applied: what was mapped and let go again before the flush may be past the
 * end of the file, as no sync was to write it.
 */
export function within({ operations, proofs }: JournalRecord, hostBlocks: number): JournalRecord {
  const inFile = operations.map(([guest, blocks, host]): MapOperation => {
    const isPlace = host !== ZERO_EXTENT && host !== NO_EXTENT;
    return [guest, blocks, isPlace && host + blocks > hostBlocks ? NO_EXTENT : host];
  });
  return { operations: inFile, proofs };
}
