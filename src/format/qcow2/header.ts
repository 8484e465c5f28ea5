/**
 * The codec of the qcow2 header cluster: fixed fields, header extensions, backing file name.
 *
 *   byte   0 magic "QFI\xfb"          4 version             8 backing offset u64    16 backing length
 *         20 cluster_bits            24 virtual size u64   32 crypt method
 *         36 L1 entries              40 L1 offset u64      48 refcount table offset u64
 *         56 refcount table clusters 60 snapshot count     64 snapshots offset u64
 *   version 3:
 *         72 incompatible u64        80 compatible u64     88 autoclear u64
 *         96 refcount_order         100 header_length     104 compression type u8, 7 bytes padding
 *   then header extensions {type u32, length u32, data, padding to 8}, then the backing file name
 *
 * (QEMU's docs/interop/qcow2.txt, sections "Header" and "Header extensions".)
 *
 * Invariants: `parseHeader` trusts nothing and bounds everything; `serializeHeader` writes the canonical
 * form that QEMU 7.2 writes, keeping fields and extensions that neither knows.
 */

import { viewOf, readU64be, writeU64be } from '../../core/bytes.ts';
import { Qcow2BenchError, hex } from '../../core/error.ts';
import { LIMITS } from '../../core/limits.ts';
import { CLUSTER_BITS_MAX, CLUSTER_BITS_MIN, ENTRY_SIZE, FEATURE_NAMES, INCOMPATIBLE } from './layout.ts';

export const MAGIC = 0x5146_49fb;

/** Byte offsets of the fixed fields. */
export const FIELD = {
  magic: 0,
  version: 4,
  backingOffset: 8,
  backingLength: 16,
  clusterBits: 20,
  virtualSize: 24,
  cryptMethod: 32,
  l1Entries: 36,
  l1Offset: 40,
  refcountTableOffset: 48,
  refcountTableClusters: 56,
  snapshotCount: 60,
  snapshotsOffset: 64,
  incompatible: 72,
  compatible: 80,
  autoclear: 88,
  refcountOrder: 96,
  headerLength: 100,
  compressionType: 104,
} as const;

const V2_LENGTH = 72;
const V3_LENGTH_MIN = 104;
/** What QEMU 7.2 writes. */
const V3_LENGTH = 112;
const REFCOUNT_ORDER_MAX = 6;
const FEATURE_NAME_BYTES = 48;
/** QEMU leaves the feature name table out of clusters up to this size. */
const FEATURE_NAMES_MIN_CLUSTER = 4096;

const EXTENSION = {
  end: 0,
  backingFormat: 0xe279_2aca,
  featureNames: 0x6803_f857,
  bitmaps: 0x2385_2875,
  encryption: 0x0537_be77,
  dataFile: 0x4441_5441,
} as const;

export interface HeaderExtension {
  readonly type: number;
  readonly data: Uint8Array;
}

/** The header as values. Sizes in bytes, offsets in bytes from the start of the file. */
export interface Qcow2Header {
  readonly version: 2 | 3;
  readonly backingFile: string | undefined;
  readonly backingFormat: string | undefined;
  readonly clusterBits: number;
  readonly virtualSize: number;
  readonly l1Entries: number;
  readonly l1Offset: number;
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
  readonly snapshotCount: number;
  readonly snapshotsOffset: number;
  /** Bits of `INCOMPATIBLE`; no other can be set. */
  readonly incompatible: number;
  /** Unknown compatible features are kept. */
  readonly compatible: bigint;
  /** Unknown autoclear features are cleared before the first write. */
  readonly autoclear: bigint;
  readonly refcountOrder: number;
  /** Fields after the ones known here, kept on rewrite. */
  readonly unknownFields: Uint8Array;
  /** Extensions that are not rebuilt from the other fields, in file order, kept on rewrite. */
  readonly otherExtensions: readonly HeaderExtension[];
}

/** How many bytes of the file `parseHeader` wants: one cluster of the largest size, or the whole file. */
export const HEADER_READ_SIZE = 2 ** CLUSTER_BITS_MAX;

/**
 * Parses and checks a header.
 *
 * @param bytes the file's first bytes, up to `HEADER_READ_SIZE`
 * @throws Qcow2BenchError with a code `qcow2-…` that names the field, its offset and the rule it breaks
 */
export function parseHeader(bytes: Uint8Array, path: string): Qcow2Header {
  const fail = (code: string, offset: number, message: string): never => {
    throw new Qcow2BenchError(`qcow2-${code}`, message, { path, offset });
  };
  const view = viewOf(bytes);
  if (bytes.byteLength < 8) {
    fail('truncated-header', 0, `the file has ${String(bytes.byteLength)} bytes, too few for a qcow2 header`);
  }
  if (view.getUint32(FIELD.magic) !== MAGIC) {
    fail(
      'bad-magic',
      0,
      `the file does not begin with the qcow2 magic 'QFI\\xfb' (found ${hex(view.getUint32(0))}); it is not a qcow2 image`,
    );
  }
  const version = view.getUint32(FIELD.version);
  if (version !== 2 && version !== 3) {
    return fail(
      'bad-version',
      FIELD.version,
      `qcow2 version ${String(version)} is not supported; versions 2 and 3 are`,
    );
  }
  const fixedLength = version === 2 ? V2_LENGTH : V3_LENGTH_MIN;
  if (bytes.byteLength < fixedLength) {
    fail(
      'truncated-header',
      bytes.byteLength,
      `the header is cut: version ${String(version)} needs ${String(fixedLength)} bytes`,
    );
  }

  const u32 = (offset: number): number => view.getUint32(offset);
  const u64 = (offset: number, name: string): number =>
    readU64be(view, offset) ??
    fail('offset-too-large', offset, `${name} is ${hex(view.getBigUint64(offset))}, above 2^53 − 1`);

  const clusterBits = u32(FIELD.clusterBits);
  if (clusterBits < CLUSTER_BITS_MIN || clusterBits > CLUSTER_BITS_MAX) {
    fail(
      'bad-cluster-bits',
      FIELD.clusterBits,
      `cluster_bits is ${String(clusterBits)}; it must be 9 to 21 (512 B to 2 MiB)`,
    );
  }
  const clusterSize = 2 ** clusterBits;
  const crypt = u32(FIELD.cryptMethod);
  if (crypt !== 0) {
    fail(
      'encrypted',
      FIELD.cryptMethod,
      `the image is encrypted (method ${String(crypt)}); encrypted images are not supported`,
    );
  }

  let headerLength = V2_LENGTH;
  let incompatible = 0;
  let refcountOrder = 4;
  if (version === 3) {
    headerLength = u32(FIELD.headerLength);
    if (
      headerLength < V3_LENGTH_MIN ||
      headerLength % 8 !== 0 ||
      headerLength > clusterSize ||
      headerLength > bytes.byteLength
    ) {
      fail(
        'bad-header-length',
        FIELD.headerLength,
        `header_length is ${String(headerLength)}; it must be a multiple of 8 from 104 to the cluster size and within the file`,
      );
    }
    refcountOrder = u32(FIELD.refcountOrder);
    if (refcountOrder > REFCOUNT_ORDER_MAX) {
      fail(
        'bad-refcount-order',
        FIELD.refcountOrder,
        `refcount_order is ${String(refcountOrder)}; it must be 0 to 6 (1 to 64 bits)`,
      );
    }
  }
  const extensions = parseExtensions(
    bytes.subarray(0, Math.min(clusterSize, bytes.byteLength)),
    headerLength,
    backingOffsetOf(view),
    path,
  );
  if (version === 3) {
    incompatible = checkIncompatible(view, extensions, path);
    if (headerLength > FIELD.compressionType) checkCompressionType(view, incompatible, path);
  }

  const virtualSize = u64(FIELD.virtualSize, 'the virtual size');
  const l1Entries = u32(FIELD.l1Entries);
  const refcountTableClusters = u32(FIELD.refcountTableClusters);
  const snapshotCount = u32(FIELD.snapshotCount);
  if (l1Entries * ENTRY_SIZE > LIMITS.l1TableBytes) {
    fail(
      'l1-too-large',
      FIELD.l1Entries,
      `the L1 table has ${String(l1Entries)} entries; at most ${String(LIMITS.l1TableBytes / ENTRY_SIZE)} (32 MiB) are allowed`,
    );
  }
  if (l1Entries < Math.ceil(virtualSize / ((clusterSize / ENTRY_SIZE) * clusterSize))) {
    fail(
      'l1-too-small',
      FIELD.l1Entries,
      `the L1 table has ${String(l1Entries)} entries, too few for a disk of ${String(virtualSize)} bytes`,
    );
  }
  if (refcountTableClusters === 0) {
    fail(
      'no-refcount-table',
      FIELD.refcountTableClusters,
      'the refcount table has 0 clusters; the image is corrupt',
    );
  }
  if (refcountTableClusters * clusterSize > LIMITS.refcountTableBytes) {
    fail(
      'refcount-table-too-large',
      FIELD.refcountTableClusters,
      `the refcount table has ${String(refcountTableClusters)} clusters; at most 8 MiB are allowed`,
    );
  }
  if (snapshotCount > LIMITS.snapshotCount) {
    fail(
      'too-many-snapshots',
      FIELD.snapshotCount,
      `the header claims ${String(snapshotCount)} snapshots; at most 65,536 are allowed`,
    );
  }
  const tableOffset = (offset: number, name: string, used: boolean): number => {
    const value = u64(offset, name);
    if (used && value % clusterSize !== 0) {
      fail(
        'unaligned-offset',
        offset,
        `${name} ${hex(value)} is not a multiple of the cluster size ${hex(clusterSize)}`,
      );
    }
    return value;
  };

  return {
    version,
    backingFile: parseBackingFile(bytes, clusterSize, path),
    backingFormat: textOf(extensions.find((extension) => extension.type === EXTENSION.backingFormat)?.data),
    clusterBits,
    virtualSize,
    l1Entries,
    l1Offset: tableOffset(FIELD.l1Offset, 'the L1 table offset', l1Entries > 0),
    refcountTableOffset: tableOffset(FIELD.refcountTableOffset, 'the refcount table offset', true),
    refcountTableClusters,
    snapshotCount,
    snapshotsOffset: tableOffset(FIELD.snapshotsOffset, 'the snapshot table offset', snapshotCount > 0),
    incompatible,
    compatible: version === 3 ? view.getBigUint64(FIELD.compatible) : 0n,
    autoclear: version === 3 ? view.getBigUint64(FIELD.autoclear) : 0n,
    refcountOrder,
    unknownFields: headerLength > V3_LENGTH ? bytes.slice(V3_LENGTH, headerLength) : new Uint8Array(0),
    otherExtensions: extensions.filter(
      (extension) => extension.type !== EXTENSION.backingFormat && extension.type !== EXTENSION.featureNames,
    ),
  };
}

/**
 * The header cluster in QEMU's canonical form.
 *
 * @throws Qcow2BenchError `qcow2-header-full` if extensions and backing file name do not fit one cluster
 */
export function serializeHeader(header: Qcow2Header, path: string): Uint8Array<ArrayBuffer> {
  const clusterSize = 2 ** header.clusterBits;
  const bytes = new Uint8Array(clusterSize);
  const view = viewOf(bytes);
  view.setUint32(FIELD.magic, MAGIC);
  view.setUint32(FIELD.version, header.version);
  view.setUint32(FIELD.clusterBits, header.clusterBits);
  writeU64be(view, FIELD.virtualSize, header.virtualSize);
  view.setUint32(FIELD.l1Entries, header.l1Entries);
  writeU64be(view, FIELD.l1Offset, header.l1Offset);
  writeU64be(view, FIELD.refcountTableOffset, header.refcountTableOffset);
  view.setUint32(FIELD.refcountTableClusters, header.refcountTableClusters);
  view.setUint32(FIELD.snapshotCount, header.snapshotCount);
  writeU64be(view, FIELD.snapshotsOffset, header.snapshotsOffset);
  let position = V2_LENGTH;
  if (header.version === 3) {
    position = V3_LENGTH + header.unknownFields.byteLength;
    writeU64be(view, FIELD.incompatible, header.incompatible);
    view.setBigUint64(FIELD.compatible, header.compatible);
    view.setBigUint64(FIELD.autoclear, header.autoclear);
    view.setUint32(FIELD.refcountOrder, header.refcountOrder);
    view.setUint32(FIELD.headerLength, position);
    bytes.set(header.unknownFields, V3_LENGTH);
  }

  const extensions: HeaderExtension[] = [];
  if (header.backingFormat !== undefined) {
    extensions.push({ type: EXTENSION.backingFormat, data: Buffer.from(header.backingFormat) });
  }
  if (header.version === 3 && clusterSize > FEATURE_NAMES_MIN_CLUSTER) {
    extensions.push({ type: EXTENSION.featureNames, data: featureNameTable() });
  }
  extensions.push(...header.otherExtensions, { type: EXTENSION.end, data: new Uint8Array(0) });
  const name = Buffer.from(header.backingFile ?? '');
  const needed =
    extensions.reduce((sum, { data }) => sum + 8 + Math.ceil(data.byteLength / 8) * 8, position) +
    name.byteLength;
  if (needed > clusterSize) {
    throw new Qcow2BenchError(
      'qcow2-header-full',
      `header extensions and backing file name need ${String(needed)} bytes; they must fit the header's cluster of ${String(clusterSize)}`,
      { path },
    );
  }
  for (const { type, data } of extensions) {
    view.setUint32(position, type);
    view.setUint32(position + 4, data.byteLength);
    bytes.set(data, position + 8);
    position += 8 + Math.ceil(data.byteLength / 8) * 8;
  }
  if (name.byteLength > 0) {
    writeU64be(view, FIELD.backingOffset, position);
    view.setUint32(FIELD.backingLength, name.byteLength);
    bytes.set(name, position);
  }
  return bytes;
}

function backingOffsetOf(view: DataView): number {
  return readU64be(view, FIELD.backingOffset) ?? Number.MAX_SAFE_INTEGER;
}

/** Reads extensions up to the end marker, the backing file name, or the end of the header cluster. */
function parseExtensions(
  cluster: Uint8Array,
  start: number,
  backingOffset: number,
  path: string,
): HeaderExtension[] {
  const view = viewOf(cluster);
  const end = backingOffset > 0 ? Math.min(backingOffset, cluster.byteLength) : cluster.byteLength;
  const found: HeaderExtension[] = [];
  let offset = start;
  while (offset + 8 <= end) {
    const type = view.getUint32(offset);
    const length = view.getUint32(offset + 4);
    if (type === EXTENSION.end) break;
    if (length > end - offset - 8) {
      throw new Qcow2BenchError(
        'qcow2-extension-too-long',
        `the header extension ${hex(type)} claims ${String(length)} bytes, past the end of the header`,
        { path, offset },
      );
    }
    found.push({ type, data: cluster.slice(offset + 8, offset + 8 + length) });
    offset += 8 + Math.ceil(length / 8) * 8;
  }
  return found;
}

function checkIncompatible(view: DataView, extensions: readonly HeaderExtension[], path: string): number {
  const known = INCOMPATIBLE.dirty | INCOMPATIBLE.corrupt;
  const bits = view.getBigUint64(FIELD.incompatible);
  const unsupported = bits & ~BigInt(known);
  if (unsupported === 0n) return Number(bits);
  const names: string[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if (((unsupported >> BigInt(bit)) & 1n) === 1n) {
      names.push(`bit ${String(bit)} (${featureName(bit, extensions)})`);
    }
  }
  throw new Qcow2BenchError(
    'qcow2-unsupported-feature',
    `the image needs incompatible features that are not supported here: ${names.join(', ')}`,
    { path, offset: FIELD.incompatible },
  );
}

function checkCompressionType(view: DataView, incompatible: number, path: string): void {
  const type = view.getUint8(FIELD.compressionType);
  if (type !== 0 && (incompatible & INCOMPATIBLE.compressionType) === 0) {
    throw new Qcow2BenchError(
      'qcow2-bad-compression-type',
      `the compression type is ${String(type)} but the incompatible feature bit 3 (compression type) is not set`,
      { path, offset: FIELD.compressionType },
    );
  }
}

/** The format's own name of a feature wins over what the image's table claims. */
function featureName(bit: number, extensions: readonly HeaderExtension[]): string {
  const own = FEATURE_NAMES.find((feature) => feature.type === 0 && feature.bit === bit);
  if (own !== undefined) return own.name;
  const table =
    extensions.find((extension) => extension.type === EXTENSION.featureNames)?.data ?? new Uint8Array(0);
  for (let at = 0; at + FEATURE_NAME_BYTES <= table.byteLength; at += FEATURE_NAME_BYTES) {
    if (table[at] === 0 && table[at + 1] === bit) {
      const name = textOf(table.subarray(at + 2, at + FEATURE_NAME_BYTES)) ?? '';
      return `the image calls it '${name.replace(/[^\x20-\x7e]/g, '?')}'`;
    }
  }
  return 'unnamed';
}

function parseBackingFile(bytes: Uint8Array, clusterSize: number, path: string): string | undefined {
  const view = viewOf(bytes);
  if (view.getBigUint64(FIELD.backingOffset) === 0n) return undefined;
  const offset = backingOffsetOf(view);
  const length = view.getUint32(FIELD.backingLength);
  if (length > LIMITS.backingFileNameBytes) {
    throw new Qcow2BenchError(
      'qcow2-backing-name-too-long',
      `the backing file name has ${String(length)} bytes; at most 1023 are allowed`,
      { path, offset: FIELD.backingLength },
    );
  }
  if (offset + length > Math.min(clusterSize, bytes.byteLength) || offset < V2_LENGTH) {
    throw new Qcow2BenchError(
      'qcow2-bad-backing-offset',
      `the backing file name at ${hex(view.getBigUint64(FIELD.backingOffset))} lies outside the header cluster`,
      { path, offset: FIELD.backingOffset },
    );
  }
  return length === 0 ? undefined : textOf(bytes.subarray(offset, offset + length));
}

/** UTF-8 text up to the first NUL. */
function textOf(bytes: Uint8Array | undefined): string | undefined {
  if (bytes === undefined) return undefined;
  const end = bytes.indexOf(0);
  return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString('utf8');
}

function featureNameTable(): Uint8Array {
  const table = new Uint8Array(FEATURE_NAMES.length * FEATURE_NAME_BYTES);
  for (const [index, { type, bit, name }] of FEATURE_NAMES.entries()) {
    table.set([type, bit], index * FEATURE_NAME_BYTES);
    table.set(Buffer.from(name), index * FEATURE_NAME_BYTES + 2);
  }
  return table;
}
