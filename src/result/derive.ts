/**
 * Figures derived from exact counts: what a guest write costs.
 *
 * Invariants:
 * - Costs are those from the first request to the end of close. Close belongs to it because a mode
 *   that puts work off would look free without it; open is left out, as no write caused it.
 * - A figure whose denominator is zero is `null`, never 0 or infinite.
 * - Zero-ranges are distinguished from writes: the file system zeroes the range, no data is
 *   transferred.
 */

import type { Counts, OperationKind } from './schema.ts';
import { METADATA_PURPOSES, PURPOSES, SYNC_CAUSES, type Purpose, type SyncCause } from './vocabulary.ts';

export interface Figures {
  /** Syncs per guest write. */
  readonly syncsPerWrite: number | null;
  /** Syncs per guest write that allocated. */
  readonly syncsPerAllocatingWrite: number | null;
  /** Syncs that rule R1 spared, per guest write. */
  readonly elidedPerWrite: number | null;
  /** Bytes written for metadata, per guest write. */
  readonly metadataBytesPerWrite: number | null;
  /** Write operations for metadata, per guest write. */
  readonly metadataWritesPerWrite: number | null;
  /** Bytes written around guest data (copied or zero fill), per guest write. */
  readonly fillBytesPerWrite: number | null;
  /** All bytes written, per guest write. */
  readonly bytesPerWrite: number | null;
  /** Bytes written ÷ bytes of guest writes. */
  readonly writeAmplification: number | null;
  /** Bytes zeroed by zero-ranges ÷ bytes of guest writes; not part of `writeAmplification`. */
  readonly zeroRangeAmplification: number | null;
}

/** Syncs and bytes from the first request to the end of close. */
export function deriveFigures(counts: Counts): Figures {
  const { writes, allocatingWrites, writeBytes } = counts.guest;
  const syncs = counts.run.syncs.ops + counts.close.syncs.ops;
  const bytes = total(counts, 'writes');
  const metadata = sumOf(METADATA_PURPOSES.map((purpose) => share(counts, 'writes', purpose)));
  return {
    syncsPerWrite: ratio(syncs, writes),
    syncsPerAllocatingWrite: ratio(syncs, allocatingWrites),
    elidedPerWrite: ratio(counts.run.syncs.elided + counts.close.syncs.elided, writes),
    metadataBytesPerWrite: ratio(metadata.bytes, writes),
    metadataWritesPerWrite: ratio(metadata.ops, writes),
    fillBytesPerWrite: ratio(share(counts, 'writes', 'cow').bytes, writes),
    bytesPerWrite: ratio(bytes, writes),
    writeAmplification: ratio(bytes, writeBytes),
    zeroRangeAmplification: ratio(total(counts, 'zeroRanges'), writeBytes),
  };
}

/** Syncs per guest write, by cause; causes that never came are left out. */
export function syncsPerWriteByCause(counts: Counts): ReadonlyMap<SyncCause, number> {
  const result = new Map<SyncCause, number>();
  for (const cause of SYNC_CAUSES) {
    const ops = (counts.run.syncs.byCause[cause] ?? 0) + (counts.close.syncs.byCause[cause] ?? 0);
    const perWrite = ratio(ops, counts.guest.writes);
    if (perWrite !== null && ops > 0) result.set(cause, perWrite);
  }
  return result;
}

/** Bytes written per guest write, by purpose; purposes nothing was written for are left out. */
export function bytesPerWriteByPurpose(counts: Counts): ReadonlyMap<Purpose, number> {
  const result = new Map<Purpose, number>();
  for (const purpose of PURPOSES) {
    const { bytes } = share(counts, 'writes', purpose);
    const perWrite = ratio(bytes, counts.guest.writes);
    if (perWrite !== null && bytes > 0) result.set(purpose, perWrite);
  }
  return result;
}

interface Share {
  readonly ops: number;
  readonly bytes: number;
}

function share(counts: Counts, kind: OperationKind, purpose: Purpose): Share {
  const parts = [counts.run[kind].byPurpose[purpose], counts.close[kind].byPurpose[purpose]];
  return sumOf(parts.filter((part) => part !== undefined));
}

function sumOf(shares: readonly Share[]): Share {
  let ops = 0;
  let bytes = 0;
  for (const item of shares) {
    ops += item.ops;
    bytes += item.bytes;
  }
  return { ops, bytes };
}

function total(counts: Counts, kind: OperationKind): number {
  return counts.run[kind].bytes + counts.close[kind].bytes;
}

function ratio(numerator: number, denominator: number): number | null {
  return denominator === 0 ? null : numerator / denominator;
}
