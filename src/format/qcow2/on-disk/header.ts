/**
 * The qcow2 header cluster: its fixed fields, header extensions and backing file name, and how they
 * are read.
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
 * Invariant: `parseHeader` trusts nothing and bounds everything, and keeps the fields and
 * extensions that it does not know, for `header-writer` to write them back.
 */

import { textUpToNul } from '../../../core/byte-text.ts';
import { alignDown, ceilDiv, SECTOR_SIZE } from '../../../core/alignment.ts';
import { readU64be, viewOf } from '../../../core/bytes.ts';
import { Qcow2BenchError, hex } from '../../../core/error.ts';
import { LIMITS } from '../../../core/limits.ts';
import { COMPRESSION_TYPES, type CompressionType } from '../../image-shape.ts';
import { EXTENSION, featureName, parseExtensions, type HeaderExtension } from './header-extensions.ts';
import {
  CLUSTER_BITS_MAX,
  CLUSTER_BITS_MIN,
  ENTRY_SIZE,
  EXTENDED_CLUSTER_MIN,
  INCOMPATIBLE,
  OFFSET_LIMIT,
} from './layout.ts';

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

export const V2_LENGTH = 72;
const V3_LENGTH_MIN = 104;
/** What QEMU 7.2 writes. */
export const V3_LENGTH = 112;
const REFCOUNT_ORDER_MAX = 6;
/** Version 2 always has 16-bit refcounts. */
const V2_REFCOUNT_ORDER = 4;
/** Incompatible features that an image may have to be opened here. */
const SUPPORTED_INCOMPATIBLE =
  INCOMPATIBLE.dirty |
  INCOMPATIBLE.corrupt |
  INCOMPATIBLE.externalDataFile |
  INCOMPATIBLE.compressionType |
  INCOMPATIBLE.extendedL2;

/** "crypt_method" of the header, by number. */
const CRYPT_METHODS = [undefined, 'aes', 'luks'] as const;

const KNOWN_EXTENSIONS: ReadonlySet<number> = new Set(Object.values(EXTENSION));

/** The header as values. Sizes in bytes, offsets in bytes from the start of the file. */
export interface Qcow2Header {
  readonly version: 2 | 3;
  readonly backingFile: string | undefined;
  readonly backingFormat: string | undefined;
  /**
   * Name of the external data file, as stored; the incompatible feature bit says whether there is
   * one.
   */
  readonly dataFile: string | undefined;
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
  readonly compressionType: CompressionType;
  /** Only of a header that was read to describe the image. */
  readonly encryption?: 'aes' | 'luks' | undefined;
  /** Fields after the ones known here, kept on rewrite. */
  readonly unknownFields: Uint8Array;
  /**
   * Extensions that are not rebuilt from the other fields, in the order in which a rewrite puts
   * them.
   */
  readonly otherExtensions: readonly HeaderExtension[];
}

/**
 * What an image is opened for. A check takes tables that are where nothing can be, and reports
 * them; for any other use they would read as empty, so the image is refused. An encrypted image can
 * be described alone.
 */
export type OpenPurpose = 'use' | 'check' | 'describe';

/**
 * Parses and checks a header.
 *
 * @param bytes the file's first cluster, or the whole file if that is shorter
 * @throws Qcow2BenchError with a code `qcow2-…` that names the field, its offset and the rule it
 *   breaks
 */
export function parseHeader(bytes: Uint8Array, path: string, purpose: OpenPurpose = 'use'): Qcow2Header {
  const reader = new HeaderReader(bytes, path, purpose);
  const version = reader.version();
  const clusterBits = reader.clusterBits();
  const encryption = reader.encryption();
  const headerLength = version === 2 ? V2_LENGTH : reader.headerLength();
  const refcountOrder = version === 2 ? V2_REFCOUNT_ORDER : reader.refcountOrder();
  const extensions = reader.extensions(headerLength, encryption === 'luks');
  const incompatible = version === 2 ? 0 : reader.incompatible(extensions);
  const storedSize = reader.u64(FIELD.virtualSize, 'the virtual size');
  const l1Entries = reader.l1Entries(storedSize, incompatible);
  const refcountTableClusters = reader.refcountTableClusters();
  const snapshotCount = reader.snapshotCount();
  const backingFormat = extensions.find(({ type }) => type === EXTENSION.backingFormat);
  const dataFile = extensions.find(({ type }) => type === EXTENSION.dataFile);
  return {
    version,
    backingFile: reader.backingFile(),
    backingFormat: backingFormat === undefined ? undefined : textUpToNul(backingFormat.data),
    dataFile: dataFile === undefined ? undefined : textUpToNul(dataFile.data),
    clusterBits,
    // A part of a sector at the end is not to be reached, as in QEMU.
    virtualSize: alignDown(storedSize, SECTOR_SIZE),
    l1Entries,
    l1Offset: reader.tableOffset(FIELD.l1Offset, 'the L1 table offset'),
    refcountTableOffset: reader.tableOffset(FIELD.refcountTableOffset, 'the refcount table offset'),
    refcountTableClusters,
    snapshotCount,
    snapshotsOffset: reader.tableOffset(FIELD.snapshotsOffset, 'the snapshot table offset'),
    incompatible,
    compatible: version === 2 ? 0n : reader.bits(FIELD.compatible),
    autoclear: version === 2 ? 0n : reader.bits(FIELD.autoclear),
    refcountOrder,
    compressionType: version === 2 ? 'zlib' : reader.compressionType(headerLength, incompatible),
    encryption,
    unknownFields: headerLength > V3_LENGTH ? bytes.slice(V3_LENGTH, headerLength) : new Uint8Array(0),
    otherExtensions: extensionsToKeep(extensions),
  };
}

/**
 * QEMU writes unknown extensions after the known ones and the last one first, so they turn around
 * at each opening.
 */
function extensionsToKeep(extensions: readonly HeaderExtension[]): readonly HeaderExtension[] {
  const bitmaps = extensions.filter(({ type }) => type === EXTENSION.bitmaps);
  return [...bitmaps, ...extensions.filter(({ type }) => !KNOWN_EXTENSIONS.has(type)).reverse()];
}

/** Reads the fixed fields, each with the check that belongs to it. */
class HeaderReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #path: string;
  readonly #purpose: OpenPurpose;

  constructor(bytes: Uint8Array, path: string, purpose: OpenPurpose) {
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
    this.#path = path;
    this.#purpose = purpose;
    if (bytes.byteLength < FIELD.version + 4) {
      const length = String(bytes.byteLength);
      this.#fail('truncated-header', 0, `the file has ${length} bytes, too few for a qcow2 header`);
    }
    const magic = this.#u32(FIELD.magic);
    if (magic !== MAGIC) {
      this.#fail('bad-magic', 0, `found ${hex(magic)} instead of 'QFI\\xfb'; this is not a qcow2 image`);
    }
  }

  version(): 2 | 3 {
    const version = this.#u32(FIELD.version);
    if (version !== 2 && version !== 3) {
      const message = `qcow2 version ${String(version)} is not supported; use version 2 or 3`;
      return this.#fail('bad-version', FIELD.version, message);
    }
    const length = version === 2 ? V2_LENGTH : V3_LENGTH_MIN;
    if (this.#bytes.byteLength < length) {
      const message = `the header is truncated: version ${String(version)} needs ${String(length)} bytes`;
      this.#fail('truncated-header', this.#bytes.byteLength, message);
    }
    return version;
  }

  clusterBits(): number {
    const clusterBits = this.#u32(FIELD.clusterBits);
    if (clusterBits < CLUSTER_BITS_MIN || clusterBits > CLUSTER_BITS_MAX) {
      const message = `cluster_bits is ${String(clusterBits)}; it must be 9 to 21 (512 B to 2 MiB)`;
      this.#fail('bad-cluster-bits', FIELD.clusterBits, message);
    }
    return clusterBits;
  }

  encryption(): 'aes' | 'luks' | undefined {
    const method = this.#u32(FIELD.cryptMethod);
    const known = CRYPT_METHODS[method];
    if (method === 0 || (known !== undefined && this.#purpose === 'describe')) return known;
    const name = known?.toUpperCase() ?? `by method ${String(method)}`;
    const message = `encrypted images (${name}) are not supported: decrypt a copy with 'qemu-img convert'`;
    return this.#fail('encrypted', FIELD.cryptMethod, message);
  }

  headerLength(): number {
    const length = this.#u32(FIELD.headerLength);
    if (length < V3_LENGTH_MIN || length % 8 !== 0 || length > this.#cluster().byteLength) {
      const rule = 'it must be a multiple of 8 from 104 to the cluster size and within the file';
      this.#fail('bad-header-length', FIELD.headerLength, `header_length is ${String(length)}; ${rule}`);
    }
    return length;
  }

  refcountOrder(): number {
    const order = this.#u32(FIELD.refcountOrder);
    if (order > REFCOUNT_ORDER_MAX) {
      const message = `refcount_order is ${String(order)}; it must be 0 to 6 (1 to 64 bits)`;
      this.#fail('bad-refcount-order', FIELD.refcountOrder, message);
    }
    return order;
  }

  extensions(headerLength: number, hasKeys: boolean): HeaderExtension[] {
    const backingOffset = readU64be(this.#view, FIELD.backingOffset) ?? Infinity;
    const range = { start: headerLength, end: backingOffset === 0 ? Infinity : backingOffset };
    return parseExtensions(this.#cluster(), range, { path: this.#path, hasKeys });
  }

  incompatible(extensions: readonly HeaderExtension[]): number {
    const bits = this.bits(FIELD.incompatible);
    const unsupported = bits & ~BigInt(SUPPORTED_INCOMPATIBLE);
    const names: string[] = [];
    for (let bit = 0; bit < 64; bit++) {
      if (((unsupported >> BigInt(bit)) & 1n) === 0n) continue;
      names.push(`bit ${String(bit)} (${featureName(bit, extensions)})`);
    }
    if (names.length > 0) {
      const message = `the image needs incompatible features that are not supported here: ${names.join(', ')}`;
      this.#fail('unsupported-feature', FIELD.incompatible, message);
    }
    return Number(bits);
  }

  /**
   * The type and its feature bit vouch for each other: the bit is set exactly if the type is not
   * zlib.
   */
  compressionType(headerLength: number, incompatible: number): CompressionType {
    const number = headerLength > FIELD.compressionType ? this.#view.getUint8(FIELD.compressionType) : 0;
    const hasBit = (incompatible & INCOMPATIBLE.compressionType) !== 0;
    const type = COMPRESSION_TYPES[number];
    if (type !== undefined && hasBit === (type !== 'zlib')) return type;
    const bit = `incompatible feature bit 3 (compression type) is ${hasBit ? '' : 'not '}set`;
    const rule = 'valid are 0 (zlib) without the bit and 1 (zstd) with it';
    const message = `the compression type is ${String(number)}, and ${bit}; ${rule}`;
    return this.#fail('bad-compression-type', FIELD.compressionType, message);
  }

  l1Entries(virtualSize: number, incompatible: number): number {
    const entries = this.#u32(FIELD.l1Entries);
    if (entries * ENTRY_SIZE > LIMITS.l1TableBytes) {
      const most = String(LIMITS.l1TableBytes / ENTRY_SIZE);
      const message = `the L1 table has ${String(entries)} entries; at most ${most} (32 MiB) are allowed`;
      this.#fail('l1-too-large', FIELD.l1Entries, message);
    }
    const clusterSize = 2 ** this.clusterBits();
    const isExtended = (incompatible & INCOMPATIBLE.extendedL2) !== 0;
    if (isExtended && clusterSize < EXTENDED_CLUSTER_MIN) {
      const message = `extended L2 entries need clusters of at least 16384 bytes; the image has ${String(clusterSize)}`;
      this.#fail('subclusters-too-small', FIELD.clusterBits, message);
    }
    const entrySize = isExtended ? 2 * ENTRY_SIZE : ENTRY_SIZE;
    if (entries < ceilDiv(virtualSize, (clusterSize / entrySize) * clusterSize)) {
      const message = `the L1 table has ${String(entries)} entries, too few for a disk of ${String(virtualSize)} bytes`;
      this.#fail('l1-too-small', FIELD.l1Entries, message);
    }
    return entries;
  }

  refcountTableClusters(): number {
    const clusters = this.#u32(FIELD.refcountTableClusters);
    if (clusters === 0 && this.#purpose !== 'check') {
      this.#fail('no-refcount-table', FIELD.refcountTableClusters, 'the refcount table has 0 clusters');
    }
    if (clusters * 2 ** this.clusterBits() > LIMITS.refcountTableBytes) {
      const message = `the refcount table has ${String(clusters)} clusters; at most 8 MiB are allowed`;
      this.#fail('refcount-table-too-large', FIELD.refcountTableClusters, message);
    }
    return clusters;
  }

  snapshotCount(): number {
    const count = this.#u32(FIELD.snapshotCount);
    if (count > LIMITS.snapshotCount) {
      const most = String(LIMITS.snapshotCount);
      const message = `the header claims ${String(count)} snapshots; at most ${most} are allowed`;
      this.#fail('too-many-snapshots', FIELD.snapshotCount, message);
    }
    return count;
  }

  /**
   * The offset of a table in a field; aligned to a cluster even if the table is empty, as QEMU has
   * it.
   */
  tableOffset(field: number, name: string): number {
    const offset = this.#purpose !== 'check' ? this.u64(field, name) : this.#anyOffset(field, name);
    const clusterSize = 2 ** this.clusterBits();
    if (offset % clusterSize !== 0) {
      const message = `${name} ${hex(offset)} is not a multiple of the cluster size ${hex(clusterSize)}`;
      this.#fail('unaligned-offset', field, message);
    }
    return offset;
  }

  backingFile(): string | undefined {
    const stored = this.bits(FIELD.backingOffset);
    const length = this.#u32(FIELD.backingLength);
    if (stored === 0n) return undefined;
    // Behind the header cluster even a name of no bytes is refused, as in QEMU.
    if (length === 0 && stored <= BigInt(2 ** this.clusterBits())) return undefined;
    if (length > LIMITS.backingFileNameBytes) {
      const message = `the backing file name has ${String(length)} bytes; at most 1023 are allowed`;
      this.#fail('backing-name-too-long', FIELD.backingLength, message);
    }
    const offset = readU64be(this.#view, FIELD.backingOffset) ?? Infinity;
    if (offset < V2_LENGTH || offset + length > this.#cluster().byteLength) {
      const message = `the backing file name at ${hex(stored)} is outside the header cluster`;
      this.#fail('bad-backing-offset', FIELD.backingOffset, message);
    }
    return textUpToNul(this.#bytes.subarray(offset, offset + length));
  }

  /** A field of 64 bits. */
  bits(field: number): bigint {
    return this.#view.getBigUint64(field);
  }

  /** A number of 64 bits, refused above 2^53 − 1. */
  u64(field: number, name: string): number {
    const value = readU64be(this.#view, field);
    if (value !== undefined) return value;
    return this.#fail('offset-too-large', field, `${name} is ${hex(this.bits(field))}, above 2^53 − 1`);
  }

  /**
   * An offset that a check reports as past the end of any file: aligned ones are exact beyond 2^53
   * too.
   */
  #anyOffset(field: number, name: string): number {
    const offset = Number(this.bits(field));
    if (BigInt(offset) === this.bits(field) && offset < OFFSET_LIMIT - LIMITS.l1TableBytes) return offset;
    return this.u64(field, name);
  }

  #u32(field: number): number {
    return this.#view.getUint32(field);
  }

  #cluster(): Uint8Array {
    return this.#bytes.subarray(0, 2 ** this.clusterBits());
  }

  #fail(code: string, offset: number, message: string): never {
    throw new Qcow2BenchError(`qcow2-${code}`, message, { path: this.#path, offset });
  }
}
