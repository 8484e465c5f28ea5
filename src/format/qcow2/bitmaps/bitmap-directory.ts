/**
 * The codec of persistent dirty bitmaps: header extension, directory, bitmap tables.
 *
 *   extension  byte 0 bitmaps u32   4 reserved u32   8 directory bytes u64   16 directory offset u64
 *   entry      byte 0 table offset u64   8 table entries u32   12 flags u32   16 type u8   17 granularity bits u8
 *             18 name length u16        20 extra data length u32, then extra data, name, padding to 8
 *   table      entries of 8 bytes: host offset of a cluster of bits (bits 9 to 55), or 0: all zeroes, with bit 0: all ones
 *
 * (qcow2 specification, "Bitmaps extension" and "Bitmaps".)
 *
 * Invariant: every length is bounded before memory is taken for it.
 */

import { textUpToNul } from '../../../core/byte-text.ts';
import { alignUp, ceilDiv } from '../../../core/alignment.ts';
import { readU64be, viewOf, writeU64be } from '../../../core/bytes.ts';
import { Qcow2BenchError } from '../../../core/error.ts';
import { LIMITS } from '../../../core/limits.ts';
import type { HostOffset } from '../../../core/offsets.ts';
import { allocatePages } from '../../../core/page-memory.ts';
import { isCutOff } from '../on-disk/file-end.ts';
import { EXTENSION, type HeaderExtension } from '../on-disk/header-extensions.ts';
import type { HeaderStore } from '../metadata/header-store.ts';
import { AUTOCLEAR, ENTRY_SIZE, HIGH, LOW, OFFSET_LIMIT, TWO_32 } from '../on-disk/layout.ts';

const EXTENSION_LENGTH = 24;
const EXTENSION_FIELD = { count: 0, reserved: 4, directorySize: 8, directoryOffset: 16 } as const;
const FIELD = {
  tableOffset: 0,
  tableEntries: 8,
  flags: 12,
  type: 16,
  granularityBits: 17,
  nameLength: 18,
  extraLength: 20,
} as const;
const FIXED_LENGTH = 24;
const DIRTY_TRACKING = 1;
export const GRANULARITY_BITS_MIN = 9;
export const GRANULARITY_BITS_MAX = 31;
export const NAME_BYTES_MAX = 1023;

export const BITMAP_FLAG = {
  /** It is open for writing, or was when a program died: what it says is not to be trusted. */
  inUse: 0x1,
  /** It tracks writes as soon as the image is opened. */
  auto: 0x2,
} as const;

/** An entry of the directory. */
export interface BitmapEntry {
  readonly name: string;
  readonly nameBytes: Uint8Array;
  /** Guest bytes of one bit, as a power of two. */
  readonly granularityBits: number;
  /** Bits of `BITMAP_FLAG`. */
  readonly flags: number;
  readonly tableOffset: HostOffset;
  readonly tableEntries: number;
}

export interface BitmapDirectory {
  readonly offset: number;
  readonly byteLength: number;
  readonly entries: readonly BitmapEntry[];
}

/** The bitmaps extension of a header, and whether what it says is in step with the disk. */
export function bitmapsExtension(
  header: HeaderStore,
): { readonly extension: HeaderExtension; readonly isConsistent: boolean } | undefined {
  const { otherExtensions, autoclear } = header.values;
  const extension = otherExtensions.find(({ type }) => type === EXTENSION.bitmaps);
  if (extension === undefined) return undefined;
  return { extension, isConsistent: (autoclear & BigInt(AUTOCLEAR.bitmaps)) !== 0n };
}

/** The extension that leads to a directory. */
export function encodeBitmapsExtension({ offset, byteLength, entries }: BitmapDirectory): HeaderExtension {
  const data = new Uint8Array(EXTENSION_LENGTH);
  viewOf(data).setUint32(EXTENSION_FIELD.count, entries.length);
  writeU64be(viewOf(data), EXTENSION_FIELD.directorySize, byteLength);
  writeU64be(viewOf(data), EXTENSION_FIELD.directoryOffset, offset);
  return { type: EXTENSION.bitmaps, data };
}

/** The directory's bytes. */
export function encodeBitmapEntries(entries: readonly BitmapEntry[]): Uint8Array<ArrayBuffer> {
  const length = entries.reduce((sum, entry) => sum + entryLength(entry.nameBytes.byteLength), 0);
  const bytes = allocatePages(Math.max(1, length)).subarray(0, length);
  const view = viewOf(bytes);
  let at = 0;
  for (const entry of entries) {
    writeU64be(view, at + FIELD.tableOffset, entry.tableOffset);
    view.setUint32(at + FIELD.tableEntries, entry.tableEntries);
    view.setUint32(at + FIELD.flags, entry.flags);
    view.setUint8(at + FIELD.type, DIRTY_TRACKING);
    view.setUint8(at + FIELD.granularityBits, entry.granularityBits);
    view.setUint16(at + FIELD.nameLength, entry.nameBytes.byteLength);
    bytes.set(entry.nameBytes, at + FIXED_LENGTH);
    at += entryLength(entry.nameBytes.byteLength);
  }
  return bytes;
}

/** An image whose bitmaps are broken can still be read, as nothing reads them on the way. */
function badBitmaps(header: HeaderStore, what: string, offset?: number): Qcow2BenchError {
  const message = `${what}; 'convert' copies the disk without its bitmaps`;
  return new Qcow2BenchError('qcow2-bad-bitmaps', message, { path: header.device.path, offset });
}

function checkExtensionLength(header: HeaderStore, { data }: HeaderExtension): void {
  if (data.byteLength === EXTENSION_LENGTH) return;
  throw badBitmaps(
    header,
    `the bitmaps extension has ${String(data.byteLength)} bytes, not ${String(EXTENSION_LENGTH)}`,
  );
}

/**
 * The directory of bitmaps that are in step with the disk; `undefined` where there are none. As in
 * QEMU, an extension of another length is refused even then.
 *
 * @throws Qcow2BenchError `qcow2-bad-bitmaps`
 */
export async function readConsistentDirectory(header: HeaderStore): Promise<BitmapDirectory | undefined> {
  const found = bitmapsExtension(header);
  if (found === undefined) return undefined;
  checkExtensionLength(header, found.extension);
  return found.isConsistent ? readBitmapDirectory(header, found.extension) : undefined;
}

/**
 * @throws Qcow2BenchError `qcow2-bad-bitmaps` naming the rule that the extension or an entry breaks
 */
export async function readBitmapDirectory(
  header: HeaderStore,
  extension: HeaderExtension,
): Promise<BitmapDirectory> {
  const { device, values } = header;
  const { data } = extension;
  const clusterSize = 2 ** values.clusterBits;
  const fail = (what: string, offset?: number): never => {
    throw badBitmaps(header, what, offset);
  };
  checkExtensionLength(header, extension);
  const view = viewOf(data);
  if (view.getUint32(EXTENSION_FIELD.reserved) !== 0) {
    fail('the reserved field of the bitmaps extension is not zero');
  }
  const count = view.getUint32(EXTENSION_FIELD.count);
  if (count === 0 || count > LIMITS.bitmapCount) {
    fail(
      `the bitmaps extension claims ${String(count)} bitmaps; it must be 1 to ${String(LIMITS.bitmapCount)}`,
    );
  }
  const byteLength =
    readU64be(view, EXTENSION_FIELD.directorySize) ?? fail('the bitmap directory is above 2^53 − 1 bytes');
  const offset =
    readU64be(view, EXTENSION_FIELD.directoryOffset) ?? fail('the bitmap directory offset is above 2^53 − 1');
  if (byteLength === 0 || byteLength > LIMITS.bitmapDirectoryBytes) {
    fail(`the bitmap directory has ${String(byteLength)} bytes; at most 64 MiB are allowed`, offset);
  }
  const isCut = isCutOff({ offset, length: byteLength }, device.size());
  if (offset === 0 || offset % clusterSize !== 0 || isCut) {
    fail('the bitmap directory is not cluster aligned or is outside the file', offset);
  }
  const bytes = allocatePages(byteLength);
  await device.read(offset, bytes, 'bitmap');
  const entries = decodeEntries(bytes, clusterSize, (what, at) => fail(what, offset + at));
  if (entries.length !== count) {
    fail(
      `the bitmap directory has ${String(entries.length)} entries, not the ${String(count)} of the header`,
      offset,
    );
  }
  return { offset, byteLength, entries };
}

function decodeEntries(
  bytes: Uint8Array,
  clusterSize: number,
  fail: (what: string, at: number) => never,
): BitmapEntry[] {
  const view = viewOf(bytes);
  const entries: BitmapEntry[] = [];
  const names = new Set<string>();
  for (let at = 0; at < bytes.byteLength;) {
    const name = `bitmap ${String(entries.length)}`;
    if (at + FIXED_LENGTH > bytes.byteLength) fail(`${name} is cut by the end of the directory`, at);
    const nameLength = view.getUint16(at + FIELD.nameLength);
    const end = at + entryLength(nameLength);
    if (view.getUint32(at + FIELD.extraLength) !== 0) {
      fail(`${name} has unknown extra data`, at);
    }
    if (nameLength === 0 || nameLength > NAME_BYTES_MAX || end > bytes.byteLength) {
      fail(
        `${name} has a name of ${String(nameLength)} bytes; it must be 1 to 1023, within the directory`,
        at,
      );
    }
    const flags = view.getUint32(at + FIELD.flags);
    if ((flags & ~(BITMAP_FLAG.inUse | BITMAP_FLAG.auto)) !== 0) fail(`${name} has unknown flags`, at);
    if (view.getUint8(at + FIELD.type) !== DIRTY_TRACKING) fail(`${name} is of an unknown type`, at);
    const granularityBits = view.getUint8(at + FIELD.granularityBits);
    if (granularityBits < GRANULARITY_BITS_MIN || granularityBits > GRANULARITY_BITS_MAX) {
      fail(`${name} has a granularity of 2^${String(granularityBits)} bytes; it must be 2^9 to 2^31`, at);
    }
    const nameBytes = bytes.slice(at + FIXED_LENGTH, at + FIXED_LENGTH + nameLength);
    const text = textUpToNul(nameBytes);
    if (names.has(text)) fail(`two bitmaps are named '${text}'`, at);
    names.add(text);
    const high = view.getUint32(at + FIELD.tableOffset);
    const low = view.getUint32(at + FIELD.tableOffset + 4);
    const tableOffset = high * TWO_32 + low;
    // A sum above 2^53 is rounded, but has the remainder of its low half if that is 0.
    if (tableOffset === 0 || tableOffset >= OFFSET_LIMIT || low % clusterSize !== 0) {
      fail(`the table of ${name} is not cluster aligned or has an impossible offset`, at);
    }
    const tableEntries = view.getUint32(at + FIELD.tableEntries);
    if (tableEntries === 0 || tableEntries * clusterSize > LIMITS.bitmapBytes) {
      fail(`the table of ${name} has ${String(tableEntries)} entries, which does not fit the disk`, at);
    }
    entries.push({
      name: text,
      nameBytes,
      granularityBits,
      flags,
      tableOffset,
      tableEntries,
    });
    at = end;
  }
  return entries;
}

function entryLength(nameLength: number): number {
  return alignUp(FIXED_LENGTH + nameLength, 8);
}

/** The content of a bitmap's range according to its table entry. */
export type BitmapCluster =
  { readonly kind: 'zeroes' | 'ones' } | { readonly kind: 'stored'; readonly hostOffset: HostOffset };

/**
 * The table of a bitmap.
 *
 * @param pastEnd what is past the end of the file is refused, or taken as it is read: a table as
 *   zeroes, a cluster by its offset
 * @throws Qcow2BenchError `qcow2-bad-bitmaps`
 */
export async function readBitmapTable(
  header: HeaderStore,
  { name, tableOffset, tableEntries }: BitmapEntry,
  pastEnd: 'refused' | 'taken' = 'refused',
): Promise<readonly BitmapCluster[]> {
  const { device, values } = header;
  const clusterSize = 2 ** values.clusterBits;
  const fileSize = device.size();
  const end = alignUp(fileSize, clusterSize);
  const length = tableEntries * ENTRY_SIZE;
  if (isCutOff({ offset: tableOffset, length }, fileSize) && pastEnd === 'refused') {
    throw badBitmaps(header, `the table of bitmap '${name}' is outside the file`, tableOffset);
  }
  if (tableOffset >= fileSize) return [];
  const bytes = allocatePages(length);
  await device.read(tableOffset, bytes, 'bitmap');
  const view = viewOf(bytes);
  const fail = (what: string, offset: number): never => {
    throw badBitmaps(header, `a cluster of bitmap '${name}' ${what}`, offset);
  };
  return Array.from({ length: tableEntries }, (_, index): BitmapCluster => {
    const high = view.getUint32(index * ENTRY_SIZE);
    const low = view.getUint32(index * ENTRY_SIZE + 4);
    const hostOffset = (high & HIGH.offset) * TWO_32 + ((low & LOW.offset) >>> 0);
    // Bit 0 means all ones, and only where there is no cluster.
    const known = hostOffset === 0 ? LOW.offset | 1 : LOW.offset;
    if ((high & ~HIGH.offset) !== 0 || (low & ~known) !== 0) {
      fail('has reserved bits set', tableOffset + index * ENTRY_SIZE);
    }
    if (hostOffset === 0) return { kind: (low & 1) === 0 ? 'zeroes' : 'ones' };
    if (hostOffset % clusterSize !== 0) fail('is not aligned', hostOffset);
    if (isCutOff({ offset: hostOffset, length: clusterSize }, end) && pastEnd === 'refused') {
      fail('is outside the file', hostOffset);
    }
    return { kind: 'stored', hostOffset };
  });
}

/**
 * Whether a part of a bitmap is past the end of the file; what is there reads as zeroes, which
 * would be "nothing changed".
 */
export function isBitmapCutOff(
  { device, values }: HeaderStore,
  { tableOffset, tableEntries }: BitmapEntry,
  clusters: readonly BitmapCluster[],
): boolean {
  const clusterSize = 2 ** values.clusterBits;
  const fileSize = device.size();
  const end = alignUp(fileSize, clusterSize);
  return (
    isCutOff({ offset: tableOffset, length: tableEntries * ENTRY_SIZE }, fileSize) ||
    clusters.some(
      (each) => each.kind === 'stored' && isCutOff({ offset: each.hostOffset, length: clusterSize }, end),
    )
  );
}

/** Entries of the table of a bitmap of that granularity for a disk of `virtualSize` bytes. */
export function bitmapTableEntries(
  { granularityBits }: Pick<BitmapEntry, 'granularityBits'>,
  disk: { readonly virtualSize: number; readonly clusterSize: number },
): number {
  return ceilDiv(ceilDiv(ceilDiv(disk.virtualSize, 2 ** granularityBits), 8), disk.clusterSize);
}

/**
 * Returns the clusters of the consistent bitmaps, as a check counts them: past the end of the file
 * too.
 *
 * @throws Qcow2BenchError `qcow2-bad-bitmaps` for all that QEMU does not open an image with;
 *   `qcow2-bitmaps-too-large`
 */
export async function visitBitmaps(
  header: HeaderStore,
  visit: (offset: number, byteLength: number) => void,
): Promise<void> {
  const directory = await readConsistentDirectory(header);
  if (directory === undefined) return;
  const { virtualSize, clusterBits } = header.values;
  const clusterSize = 2 ** clusterBits;
  visit(directory.offset, directory.byteLength);
  let tableBytes = 0;
  for (const entry of directory.entries) {
    checkFits(header, entry, { virtualSize, clusterSize });
    tableBytes += entry.tableEntries * ENTRY_SIZE;
    if (tableBytes > LIMITS.bitmapTableBytes) {
      throw new Qcow2BenchError(
        'qcow2-bitmaps-too-large',
        `the tables of the bitmaps have more than ${String(LIMITS.bitmapTableBytes)} bytes: remove '${entry.name}' with bitmap --remove`,
        { path: header.device.path, offset: entry.tableOffset },
      );
    }
    visit(entry.tableOffset, entry.tableEntries * ENTRY_SIZE);
    for (const cluster of await readBitmapTable(header, entry, 'taken')) {
      if (cluster.kind === 'stored') visit(cluster.hostOffset, clusterSize);
    }
  }
}

/**
 * A bitmap whose bits are trusted has one for each part of the disk.
 *
 * @throws Qcow2BenchError `qcow2-bad-bitmaps`
 */
export function checkFits(
  header: HeaderStore,
  entry: BitmapEntry,
  disk: { readonly virtualSize: number; readonly clusterSize: number },
): void {
  const isTrusted = (entry.flags & BITMAP_FLAG.inUse) === 0;
  if (!isTrusted || entry.tableEntries === bitmapTableEntries(entry, disk)) return;
  const what = `the table of bitmap '${entry.name}' has ${String(entry.tableEntries)} entries, which does not fit the disk`;
  throw badBitmaps(header, what, entry.tableOffset);
}
