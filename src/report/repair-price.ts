/**
 * What metadata that is repaired after a crash saves while the guest writes, and what the repair costs:
 * lazy refcounts, or a format that is repaired when it was in use, compared with eager refcounts.
 *
 * Invariant: a figure is of the engine's own run and repair on a modelled device, with nothing in the
 * page cache after the crash. Only the size of the image is scaled, as the repair reads every table.
 */

import { groupedText } from '../core/number-text.ts';

export interface RepairPrice {
  /** `cellKey` of the eager cell. */
  readonly eager: string;
  /** Guest writes before the crash. */
  readonly guestWrites: number;
  /** Per guest write. */
  readonly savedSyncs: number;
  /** Bytes that the opening after the crash reads, and what it changes. */
  readonly readBytes: number;
  readonly changes: number;
  readonly syncs: number;
  readonly onDevices: readonly RepairOnDevice[];
  /** Per byte of further data in the image; absent where it is not known. */
  readonly readBytesPerByte?: number | undefined;
}

export interface RepairOnDevice {
  readonly device: string;
  /** Nanoseconds per guest write; not above 0: nothing. */
  readonly savedNs: number;
  /** Nanoseconds that the opening takes longer than an eager one. */
  readonly repairNs: number;
  /** Nanoseconds per byte of further data; absent where it is not known. */
  readonly nsPerByte?: number | undefined;
}

/** Data that an image may hold besides: as it is, and as disks in use are. Bytes. */
export const FURTHER_DATA: readonly number[] = [0, 2 ** 34, 2 ** 37, 2 ** 40];

/** The data that a price is known for. */
export function furtherData({ readBytesPerByte }: Pick<RepairPrice, 'readBytesPerByte'>): readonly number[] {
  return readBytesPerByte === undefined ? FURTHER_DATA.slice(0, 1) : FURTHER_DATA;
}

export function repairReadBytes(
  { readBytes, readBytesPerByte = 0 }: Pick<RepairPrice, 'readBytes' | 'readBytesPerByte'>,
  data: number,
): number {
  return readBytes + readBytesPerByte * data;
}

/** Nanoseconds. */
export function repairTimeNs({ repairNs, nsPerByte = 0 }: RepairOnDevice, data: number): number {
  return Math.max(0, repairNs) + nsPerByte * data;
}

/** Guest writes after which the savings are as large; `undefined`: never. */
export function writesToBreakEven(price: RepairOnDevice, data: number): number | undefined {
  return price.savedNs > 0 ? Math.ceil(repairTimeNs(price, data) / price.savedNs) : undefined;
}

export function breakEvenText(price: RepairOnDevice, data: number): string {
  const writes = writesToBreakEven(price, data);
  return writes === undefined ? 'never' : groupedText(writes);
}

/** How the chart and the table are read. */
export const REPAIR_HELP =
  'Each sync that is saved saves time while the guest writes; after a crash the image opens later, as it is repaired. The numbers are guest writes after which the first makes up for the second.';
