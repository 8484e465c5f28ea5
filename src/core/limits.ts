/**
 * What a file may claim before memory is taken for it. The figures are QEMU 7.2's where it has one,
 * so that an image QEMU opens is not refused here.
 */
export const LIMITS = {
  /** Bytes of an L1 table. */
  l1TableBytes: 32 * 1024 * 1024,
  /** Bytes of a refcount table. */
  refcountTableBytes: 8 * 1024 * 1024,
  /** Tables that one metadata cache may hold. */
  cacheSlots: 2 ** 24,
  snapshotCount: 65_536,
  snapshotTableBytes: 64 * 1024 * 1024,
  snapshotExtraBytes: 1024,
  bitmapCount: 65_535,
  bitmapDirectoryBytes: 64 * 1024 * 1024,
  /** Bytes of one bitmap, in whole clusters. */
  bitmapBytes: 512 * 1024 * 1024,
  /** Bytes of the tables of all bitmaps of an image that is checked. */
  bitmapTableBytes: 64 * 1024 * 1024,
  /** Bytes of memory for the bitmaps of an image that is open for writing. */
  bitmapMemoryBytes: 512 * 1024 * 1024,
  backingFileNameBytes: 1023,
  /** Backing files of one image; QEMU has no limit, libvirt has this one. */
  backingChainDepth: 200,
  /** Bytes of a workload file. */
  workloadFileBytes: 1024 * 1024,
  /** Combinations of the axes of one run. */
  matrixCells: 100_000,
  /** Machines that one matrix is split over. */
  shards: 1024,
  /** Bytes of one line of a trace. */
  traceLineBytes: 4096,
  /** Bytes of a result file. */
  resultFileBytes: 256 * 1024 * 1024,
  /** Bytes of a history. */
  historyFileBytes: 256 * 1024 * 1024,
  /** Bytes of a host log that is read. */
  hostLogBytes: 256 * 1024 * 1024,
  /** Bytes of a file of limits for the gate. */
  gateFileBytes: 1024 * 1024,
  /**
   * Bytes of one guest read or write (requests without data may be longer): the usual NBD maximum.
   */
  transferBytes: 32 * 1024 * 1024,
} as const;
