/**
 * Constants of the qcow2 on-disk format (QEMU's docs/interop/qcow2.txt). All integers are
 * big-endian.
 *
 *   cluster 0   header, header extensions, backing file name
 *   anywhere    L1 table (contiguous clusters), L2 tables (one cluster each),
 *               refcount table (contiguous clusters), refcount blocks (one cluster each),
 *               snapshot table, guest data
 *
 *   guest offset ── L1 index ─▶ L1 entry ─▶ L2 table ── L2 index ─▶ L2 entry ─▶ data cluster
 *   host cluster ── table index ─▶ refcount-table entry ─▶ refcount block ── block index ─▶ refcount
 */

/** Bytes of an L1, refcount-table or (without extended L2 entries) L2 entry: one word. */
export const ENTRY_SIZE = 8;

/** With extended L2 entries a cluster is so many subclusters, each of at least 512 bytes. */
export const SUBCLUSTERS = 32;

/** Clusters may be 2^9 to 2^21 bytes ("cluster_bits"). */
export const CLUSTER_BITS_MIN = 9;
export const CLUSTER_BITS_MAX = 21;

/** The least cluster that has subclusters. */
export const EXTENDED_CLUSTER_MIN = SUBCLUSTERS * 2 ** CLUSTER_BITS_MIN;

/** Incompatible features, bits 0 to 31 (section "Header", bytes 72–79). */
export const INCOMPATIBLE = {
  dirty: 0x1,
  corrupt: 0x2,
  externalDataFile: 0x4,
  compressionType: 0x8,
  extendedL2: 0x10,
} as const;

/** Compatible features, bits 0 to 31 (bytes 80–87). */
export const COMPATIBLE = { lazyRefcounts: 0x1 } as const;

/** Autoclear features, bits 0 to 31 (bytes 88–95). */
export const AUTOCLEAR = { bitmaps: 0x1, rawExternalData: 0x2 } as const;

/** Masks of the high 32-bit half of L1, L2 and refcount-table entries. */
export const HIGH = {
  /** Bits 32 to 55 of the host offset. */
  offset: 0x00ff_ffff,
  /** Bit 63: the refcount of the target is exactly one. */
  copied: 0x8000_0000,
  /** Bit 62 of an L2 entry: a compressed cluster descriptor. */
  compressed: 0x4000_0000,
} as const;

/** Masks of the low 32-bit half. */
export const LOW = {
  /** Bits 9 to 31 of the host offset. */
  offset: 0xffff_fe00,
  /** Bit 0 of an L2 entry: the cluster reads as zeroes (version 3). */
  zero: 0x1,
} as const;

/** Host offsets have 56 bits in the format; beyond 2^53 − 1 this program says so and stops. */
export const TWO_32 = 0x1_0000_0000;
/** From here on no system reads or writes: offsets of files are signed. */
export const OFFSET_LIMIT = 2 ** 63;

/** Names of the feature bits that QEMU 7.2 writes into the feature name table, in its order. */
export const FEATURE_NAMES: readonly {
  readonly type: 0 | 1 | 2;
  readonly bit: number;
  readonly name: string;
}[] = [
  { type: 0, bit: 0, name: 'dirty bit' },
  { type: 0, bit: 1, name: 'corrupt bit' },
  { type: 0, bit: 2, name: 'external data file' },
  { type: 0, bit: 3, name: 'compression type' },
  { type: 0, bit: 4, name: 'extended L2 entries' },
  { type: 1, bit: 0, name: 'lazy refcounts' },
  { type: 2, bit: 0, name: 'bitmaps' },
  { type: 2, bit: 1, name: 'raw external data' },
];
