/**
 * Which library packs and unpacks compressed clusters.
 *
 * Invariant: packing gives the bytes that QEMU 7.2 writes where the system's own library is to be had; elsewhere it
 * gives those of Node's library, which every reader unpacks to the same cluster. `libraryOf` says which it is.
 */

import type { CompressionType } from '../image-shape.ts';
import type { ClusterCodec } from './cluster-codec.ts';
import { nodeCodec } from './node-compression.ts';
import { loadSystemCodec } from './system-compression.ts';

/** Whose library packs clusters: the system's, as in QEMU, or Node's, for a reason in words. */
export type CompressionLibrary =
  | { readonly origin: 'system'; readonly version: string }
  | { readonly origin: 'node'; readonly reason: string };

interface Choice {
  readonly codec: ClusterCodec;
  readonly library: CompressionLibrary;
}

const choices = new Map<CompressionType, Choice>();

/** The codec of a type: one for the whole program, as its calls do not overlap. */
export function clusterCodec(type: CompressionType): ClusterCodec {
  return choose(type).codec;
}

/** Where the bytes that `clusterCodec` makes come from. */
export function libraryOf(type: CompressionType): CompressionLibrary {
  return choose(type).library;
}

function choose(type: CompressionType): Choice {
  let choice = choices.get(type);
  if (choice === undefined) {
    const loaded = loadSystemCodec(type);
    choice = loaded.ok
      ? { codec: loaded.codec, library: { origin: 'system', version: loaded.version } }
      : { codec: nodeCodec(type), library: { origin: 'node', reason: loaded.reason } };
    choices.set(type, choice);
  }
  return choice;
}
