/**
 * The header of a QED image: its layout, the rules each field must keep, and changing its feature
 * bits.
 *
 * Little-endian, at offset 0 (QED specification, "Header"):
 *
 *      0        4             8           12            16                24
 *      +--------+-------------+-----------+-------------+-----------------+
 *      | QED\0  | clusterSize | tableSize | headerSize  | features        |
 *      +--------+-------------+-----------+-------------+-----------------+
 *      24                32              40             48                56
 *      +-----------------+---------------+--------------+-----------------+
 *      | compatible      | autoclear     | l1Offset     | virtual size    |
 *      +-----------------+---------------+--------------+-----------------+
 *      56               60               64
 *      +----------------+----------------+
 *      | backing offset | backing length |   clusterSize in bytes, tableSize and headerSize in clusters
 *      +----------------+----------------+
 *
 *      features:  bit 0  backing file         bit 1  need check
 *                 bit 2  backing format is raw, not to be probed
 *
 * Invariants: nothing is taken from a header before every field it depends on has been checked;
 * bits this code does not know are kept as they are, except unknown autoclear bits, which a writer
 * must clear.
 */

import { alignUp, isAligned, isPowerOfTwo, SECTOR_SIZE } from '../../core/alignment.ts';
import { readU64le, viewOf, writeU64le } from '../../core/bytes.ts';
import { hex, Qcow2BenchError } from '../../core/error.ts';
import { formatSize } from '../../core/size.ts';
import { LIMITS } from '../../core/limits.ts';
import {
  CLUSTER_SIZE_MAX,
  CLUSTER_SIZE_MIN,
  qedGeometry,
  TABLE_CLUSTERS_MAX,
  virtualSizeMax,
  type QedGeometry,
} from './geometry.ts';

/** Bytes of the header's fields; the rest of its first cluster may hold the backing file's name. */
export const HEADER_SIZE = 64;

const MAGIC = 0x00444551;
const AT = {
  magic: 0,
  clusterSize: 4,
  tableClusters: 8,
  headerClusters: 12,
  features: 16,
  autoclear: 32,
  l1Offset: 40,
  virtualSize: 48,
  backingOffset: 56,
  backingLength: 60,
} as const;

const FEATURE_BACKING = 0x1;
const FEATURE_NEED_CHECK = 0x2;
const FEATURE_BACKING_RAW = 0x4;
const FEATURES_KNOWN = FEATURE_BACKING | FEATURE_NEED_CHECK | FEATURE_BACKING_RAW;

export interface QedHeader {
  readonly geometry: QedGeometry;
  /** The image was not closed cleanly: its tables may hold offsets that are not valid. */
  readonly needCheck: boolean;
  /** A bit of `autoclear` is set; a writer must clear it first, since none is known. */
  readonly hasAutoclear: boolean;
  /** Host offset of the first-level table, bytes. */
  readonly l1Offset: number;
  /** Bytes. */
  readonly virtualSize: number;
  readonly backing: QedBackingPlace | undefined;
}

/** Where the header says the name of the backing file is. */
export interface QedBackingPlace {
  /** Bytes from the start of the file. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
  /** The image says that the backing file is raw; otherwise it does not name a format. */
  readonly isRaw: boolean;
}

/**
 * Reads and checks the header.
 *
 * @param bytes the file's first `HEADER_SIZE` bytes, or all there are.
 * @param file its path, for errors, and its length in bytes.
 * @throws Qcow2BenchError `qed-truncated`, `qed-bad-magic`, `qed-unknown-feature`,
 *   `qed-bad-cluster-size`, `qed-bad-table-size`, `qed-table-too-large`, `qed-bad-header-size`,
 *   `qed-bad-l1-offset`, `qed-bad-image-size` or `qed-bad-backing-name`.
 */
export function parseQedHeader(
  bytes: Uint8Array,
  file: { readonly path: string; readonly size: number },
): QedHeader {
  const { path } = file;
  if (bytes.byteLength < HEADER_SIZE || file.size < HEADER_SIZE) {
    throw new Qcow2BenchError(
      'qed-truncated',
      `the file has ${String(file.size)} bytes, fewer than the ${String(HEADER_SIZE)} of a QED header: the file is not a QED image or is truncated`,
      { path, offset: 0 },
    );
  }
  const view = viewOf(bytes);
  const magic = view.getUint32(AT.magic, true);
  if (magic !== MAGIC) {
    throw fieldError('qed-bad-magic', path, AT.magic, {
      found: `the file begins with ${hex(magic)}`,
      rule: `a QED image begins with 'QED\\0' (${hex(MAGIC)}): check --format`,
    });
  }
  checkFeatures(view, path);
  const geometry = parseGeometry(view, path);
  return {
    geometry,
    needCheck: (view.getUint32(AT.features, true) & FEATURE_NEED_CHECK) !== 0,
    hasAutoclear: view.getUint32(AT.autoclear, true) !== 0 || view.getUint32(AT.autoclear + 4, true) !== 0,
    l1Offset: parseL1Offset(view, geometry, file),
    virtualSize: parseVirtualSize(view, geometry, path),
    backing: parseBackingPlace(view, geometry, path),
  };
}

/** What a new image's header says. */
export interface NewQedHeader {
  readonly clusterSize: number;
  readonly tableClusters: number;
  readonly virtualSize: number;
  /** The name is right behind the header's fields; its length in bytes. */
  readonly backing: { readonly nameLength: number; readonly isRaw: boolean } | undefined;
}

/** The header of a new image: one header cluster, the first-level table right behind it. */
export function encodeQedHeader(header: NewQedHeader): Uint8Array {
  const bytes = new Uint8Array(HEADER_SIZE);
  const view = viewOf(bytes);
  view.setUint32(AT.magic, MAGIC, true);
  view.setUint32(AT.clusterSize, header.clusterSize, true);
  view.setUint32(AT.tableClusters, header.tableClusters, true);
  view.setUint32(AT.headerClusters, 1, true);
  writeU64le(view, AT.l1Offset, header.clusterSize);
  writeU64le(view, AT.virtualSize, header.virtualSize);
  if (header.backing !== undefined) {
    const raw = header.backing.isRaw ? FEATURE_BACKING_RAW : 0;
    view.setUint32(AT.features, FEATURE_BACKING | raw, true);
    view.setUint32(AT.backingOffset, HEADER_SIZE, true);
    view.setUint32(AT.backingLength, header.backing.nameLength, true);
  }
  return bytes;
}

/** Sets or clears the need-check bit in the header's bytes and clears all autoclear bits. */
export function patchQedHeader(bytes: Uint8Array, change: { readonly needCheck: boolean }): void {
  const view = viewOf(bytes);
  const others = view.getUint32(AT.features, true) & ~FEATURE_NEED_CHECK;
  view.setUint32(AT.features, others | (change.needCheck ? FEATURE_NEED_CHECK : 0), true);
  writeU64le(view, AT.autoclear, 0);
}

/** Gives the header's bytes another size of the disk. */
export function patchQedSize(bytes: Uint8Array, virtualSize: number): void {
  writeU64le(viewOf(bytes), AT.virtualSize, virtualSize);
}

function checkFeatures(view: DataView, path: string): void {
  const unknown = (view.getUint32(AT.features, true) & ~FEATURES_KNOWN) >>> 0;
  const unknownHigh = view.getUint32(AT.features + 4, true);
  if (unknown === 0 && unknownHigh === 0) return;
  const value = (BigInt(unknownHigh) << 32n) | BigInt(unknown);
  throw fieldError('qed-unknown-feature', path, AT.features, {
    found: `feature bits ${hex(value)} are set`,
    rule: `only ${hex(FEATURES_KNOWN)} are supported`,
  });
}

function parseGeometry(view: DataView, path: string): QedGeometry {
  const clusterSize = view.getUint32(AT.clusterSize, true);
  checkClusterSize(clusterSize, { path, offset: AT.clusterSize });
  const tableClusters = view.getUint32(AT.tableClusters, true);
  if (!isPowerOfTwo(tableClusters) || tableClusters > TABLE_CLUSTERS_MAX) {
    throw fieldError('qed-bad-table-size', path, AT.tableClusters, {
      found: `the table size is ${String(tableClusters)} clusters`,
      rule: `it must be 1, 2, 4, 8 or ${String(TABLE_CLUSTERS_MAX)}`,
    });
  }
  checkTableBytes(clusterSize * tableClusters, { path, offset: AT.tableClusters });
  const headerClusters = view.getUint32(AT.headerClusters, true);
  // QEMU's bound: the header's length in bytes fits 32 bits.
  if (headerClusters === 0 || headerClusters * clusterSize > 0xffff_ffff) {
    throw fieldError('qed-bad-header-size', path, AT.headerClusters, {
      found: `the header has ${String(headerClusters)} clusters of ${formatSize(clusterSize)}`,
      rule: 'it must have at least one and be shorter than 4 GiB',
    });
  }
  return qedGeometry({ clusterSize, tableClusters, headerClusters });
}

/** The rule for cluster sizes, for images read and images to be made. */
export function checkClusterSize(clusterSize: number, place: { path: string; offset?: number }): void {
  if (isPowerOfTwo(clusterSize) && clusterSize >= CLUSTER_SIZE_MIN && clusterSize <= CLUSTER_SIZE_MAX) return;
  throw new Qcow2BenchError(
    'qed-bad-cluster-size',
    `the cluster size is ${String(clusterSize)} bytes: it must be a power of two from ${formatSize(CLUSTER_SIZE_MIN)} to ${formatSize(CLUSTER_SIZE_MAX)}`,
    place,
  );
}

/** The memory a table may take, for images read and images to be made. */
export function checkTableBytes(tableSize: number, place: { path: string; offset?: number }): void {
  if (tableSize <= LIMITS.l1TableBytes) return;
  throw new Qcow2BenchError(
    'qed-table-too-large',
    `a table has ${formatSize(tableSize)}; the limit is ${formatSize(LIMITS.l1TableBytes)}: use smaller clusters`,
    place,
  );
}

/** The rule for the disk's size, for images read and images to be made. */
export function checkVirtualSize(
  virtualSize: number,
  geometry: QedGeometry,
  place: { path: string; offset?: number },
): void {
  if (isAligned(virtualSize, SECTOR_SIZE) && virtualSize <= virtualSizeMax(geometry)) return;
  throw new Qcow2BenchError(
    'qed-bad-image-size',
    `the disk's size is ${String(virtualSize)} bytes: it must be a multiple of ${String(SECTOR_SIZE)} and at most ${formatSize(virtualSizeMax(geometry))} with clusters of ${formatSize(geometry.clusterSize)}`,
    place,
  );
}

function parseVirtualSize(view: DataView, geometry: QedGeometry, path: string): number {
  const virtualSize = readU64le(view, AT.virtualSize);
  if (virtualSize === undefined) {
    throw tooLarge('qed-bad-image-size', "the disk's size", path, AT.virtualSize);
  }
  checkVirtualSize(virtualSize, geometry, { path, offset: AT.virtualSize });
  return virtualSize;
}

function parseL1Offset(
  view: DataView,
  geometry: QedGeometry,
  file: { readonly path: string; readonly size: number },
): number {
  const { path } = file;
  const l1Offset = readU64le(view, AT.l1Offset);
  if (l1Offset === undefined) {
    throw tooLarge('qed-bad-l1-offset', "the first-level table's offset", path, AT.l1Offset);
  }
  const { clusterSize, headerSize, tableSize } = geometry;
  const end = alignUp(file.size, SECTOR_SIZE);
  if (!isAligned(l1Offset, clusterSize) || l1Offset < headerSize || l1Offset + tableSize > end) {
    throw fieldError('qed-bad-l1-offset', path, AT.l1Offset, {
      found: `the first-level table is at ${hex(l1Offset)}`,
      rule: `it must be cluster aligned, start at ${hex(headerSize)} or later, and its ${formatSize(tableSize)} must be within the file's ${String(file.size)} bytes`,
    });
  }
  return l1Offset;
}

function parseBackingPlace(view: DataView, geometry: QedGeometry, path: string): QedBackingPlace | undefined {
  const features = view.getUint32(AT.features, true);
  if ((features & FEATURE_BACKING) === 0) return undefined;
  const offset = view.getUint32(AT.backingOffset, true);
  const length = view.getUint32(AT.backingLength, true);
  if (length === 0 || length > LIMITS.backingFileNameBytes) {
    throw fieldError('qed-bad-backing-name', path, AT.backingLength, {
      found: `the backing file's name has ${String(length)} bytes`,
      rule: `it must have 1 to ${String(LIMITS.backingFileNameBytes)}`,
    });
  }
  if (offset < HEADER_SIZE || offset + length > geometry.headerSize) {
    throw fieldError('qed-bad-backing-name', path, AT.backingOffset, {
      found: `the backing file's name is at ${hex(offset)}, ${String(length)} bytes long`,
      rule: `it must be after the header's fields and before ${hex(geometry.headerSize)}`,
    });
  }
  return { offset, length, isRaw: (features & FEATURE_BACKING_RAW) !== 0 };
}

function fieldError(
  code: string,
  path: string,
  offset: number,
  what: { readonly found: string; readonly rule: string },
): Qcow2BenchError {
  return new Qcow2BenchError(code, `${what.found}; ${what.rule}`, { path, offset });
}

function tooLarge(code: string, what: string, path: string, offset: number): Qcow2BenchError {
  return new Qcow2BenchError(code, `${what} is 2^53 or more, which is not a valid file offset`, {
    path,
    offset,
  });
}
