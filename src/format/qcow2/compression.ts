/**
 * Which library packs and unpacks compressed clusters.
 *
 * Invariant: packing gives the bytes that QEMU 7.2 writes where the system's own library is to be had; elsewhere it
 * gives those of Node's library, which every reader unpacks to the same cluster.
 */

import type { CompressionType } from '../image-shape.ts';
import type { ClusterCodec } from './cluster-codec.ts';
import { nodeCodec } from './node-compression.ts';
import { loadSystemCodec } from './system-compression.ts';

const codecs = new Map<CompressionType, ClusterCodec>();

/** The codec of a type: one for the whole program, as its calls do not overlap. */
export function clusterCodec(type: CompressionType): ClusterCodec {
  let codec = codecs.get(type);
  if (codec === undefined) {
    const loaded = loadSystemCodec(type);
    codec = loaded.ok ? loaded.codec : nodeCodec(type);
    codecs.set(type, codec);
  }
  return codec;
}
