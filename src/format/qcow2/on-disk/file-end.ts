/**
 * When a table is cut off by the end of its file: as soon as one of its bytes is past the end.
 *
 * What is past the end reads as zeroes, and zeroes in a table mean "nothing is there". So a table
 * that the header or a snapshot leads to is not used as it reads: opening refuses the image, or the
 * one snapshot that the table belongs to, and a check reports it. L2 tables and refcount blocks are
 * read as they are, as in QEMU.
 */

import { hex } from '../../../core/error.ts';
import { FIELD, type Qcow2Header } from './header.ts';
import { ENTRY_SIZE } from './layout.ts';

export interface TableBytes {
  readonly offset: number;
  /** 0 for a table without entries, which is nowhere cut off. */
  readonly length: number;
}

/** A table that the header leads to. */
export interface HeaderTable extends TableBytes {
  readonly name: string;
  readonly purpose: 'l1-table' | 'refcount-table' | 'snapshot-table';
  /** Where the header has its offset. */
  readonly field: number;
}

export function isCutOff({ offset, length }: TableBytes, fileSize: number): boolean {
  return length > 0 && offset + length > fileSize;
}

/** What is wrong with a table that is cut off, behind its name. */
export function cutOffText({ offset, length }: TableBytes, fileSize: number): string {
  return `at ${hex(offset)} ends at ${hex(offset + length)}, but the file ends at ${hex(fileSize)}`;
}

export function l1TableOf({ l1Offset, l1Entries }: Qcow2Header): HeaderTable {
  const length = l1Entries * ENTRY_SIZE;
  return { name: 'L1 table', purpose: 'l1-table', offset: l1Offset, length, field: FIELD.l1Offset };
}

export function refcountTableOf(header: Qcow2Header): HeaderTable {
  const { refcountTableOffset: offset, refcountTableClusters, clusterBits } = header;
  const length = refcountTableClusters * 2 ** clusterBits;
  const field = FIELD.refcountTableOffset;
  return { name: 'refcount table', purpose: 'refcount-table', offset, length, field };
}

/** @param table as its entries were read: the header has only their number */
export function snapshotTableOf(
  { snapshotsOffset: offset }: Qcow2Header,
  { byteLength, padding }: { readonly byteLength: number; readonly padding: number },
): HeaderTable {
  const length = byteLength - padding;
  return { name: 'snapshot table', purpose: 'snapshot-table', offset, length, field: FIELD.snapshotsOffset };
}
