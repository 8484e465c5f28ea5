/**
 * Which library packs and unpacks compressed clusters.
 *
 * Invariant: packing gives the bytes that QEMU 7.2 writes where the system's own library is
 * available; elsewhere it gives those of Node's library, which every reader unpacks to the same
 * cluster.
 */

import type { CompressionType } from '../../image-shape.ts';
import type { ClusterCodec } from './cluster-codec.ts';
import { nodeCodec } from './node-compression.ts';
import { loadSystemCodec } from './system-compression.ts';

interface Chosen {
  readonly codec: ClusterCodec;
  readonly library: string;
}

const chosen = new Map<CompressionType, Chosen>();

/** The codec of a type: one for the whole program, as its calls do not overlap. */
export function clusterCodec(type: CompressionType): ClusterCodec {
  return choose(type).codec;
}

/** Which library that is, and why it is not the system's: `zlib 1.2.13 of the system`. */
export function compressionLibrary(type: CompressionType): string {
  return choose(type).library;
}

function choose(type: CompressionType): Chosen {
  let choice = chosen.get(type);
  if (choice === undefined) {
    const loaded = loadSystemCodec(type);
    choice = loaded.ok
      ? { codec: loaded.codec, library: `${loaded.version} of the system` }
      : { codec: nodeCodec(type), library: `${nodeLibrary(type)} of Node.js: ${loaded.reason}` };
    chosen.set(type, choice);
  }
  return choice;
}

function nodeLibrary(type: CompressionType): string {
  return `${type} ${process.versions[type] ?? ''}`.trimEnd();
}
