/**
 * What packs and unpacks compressed clusters (qcow2 specification, "Header", byte 104: compression
 * type).
 *
 *   zlib   a raw deflate stream with a window of 2^12 bytes
 *   zstd   one or more Zstandard frames
 *
 * Invariant: unpacking never takes more memory than a cluster, whatever the stream claims, and ends
 * with its input.
 */

export interface ClusterCodec {
  /**
   * Packs a cluster.
   *
   * @param limit the most bytes that the answer may have
   * @returns the stream, valid until the next call, or `undefined` if it would exceed `limit`
   */
  compress(cluster: Uint8Array, limit: number): Uint8Array | undefined;
  /**
   * As `compress`, on another thread, with the same bytes; several may be at work. The cluster must
   * not change meanwhile, and the answer belongs to the caller.
   */
  compressApart(cluster: Uint8Array, limit: number): Promise<Uint8Array | undefined>;
  /**
   * Unpacks the stream with which `stored` begins; what follows it there belongs to somebody else.
   *
   * @returns whether the stream is sound and fills `target` exactly; if not, `target` holds
   *   anything
   */
  decompress(stored: Uint8Array, target: Uint8Array): boolean;
}

/** How QEMU 7.2 packs clusters with deflate, found by comparing its bytes. */
export const DEFLATE = {
  /** zlib's default, 6 today. */
  level: -1,
  windowBits: 12,
  memLevel: 9,
} as const;
