/**
 * Compressed clusters by the libraries inside Node: other versions than the system's, so the same
 * cluster packs to other bytes than QEMU writes. Used where the system's libraries are not
 * available.
 */

import { promisify } from 'node:util';
import {
  deflateRaw,
  deflateRawSync,
  inflateRawSync,
  zstdCompress,
  zstdCompressSync,
  zstdDecompressSync,
} from 'node:zlib';
import { ZstdFrame } from '../../../core/zstd-frame.ts';
import type { CompressionType } from '../../image-shape.ts';
import { DEFLATE, type ClusterCodec } from './cluster-codec.ts';

const deflateRawApart = promisify(deflateRaw);
const zstdCompressApart = promisify(zstdCompress);

export function nodeCodec(type: CompressionType): ClusterCodec {
  switch (type) {
    case 'zlib':
      return ZLIB;
    case 'zstd':
      return ZSTD;
  }
}

const ZLIB: ClusterCodec = {
  compress: (cluster, limit) => {
    const { windowBits, memLevel } = DEFLATE;
    return within(limit, deflateRawSync(cluster, { windowBits, memLevel }));
  },
  compressApart: async (cluster, limit) => {
    const { windowBits, memLevel } = DEFLATE;
    return within(limit, await deflateRawApart(cluster, { windowBits, memLevel }));
  },
  decompress: (stored, target) =>
    fills(target, () =>
      // What follows the stream in its last sector belongs to the next cluster; inflate stops
      // before it.
      inflateRawSync(stored, { maxOutputLength: target.byteLength }),
    ),
};

const ZSTD: ClusterCodec = {
  compress: (cluster, limit) =>
    within(limit, zstdCompressSync(cluster, { pledgedSrcSize: cluster.byteLength })),
  compressApart: async (cluster, limit) =>
    within(limit, await zstdCompressApart(cluster, { pledgedSrcSize: cluster.byteLength })),
  decompress: (stored, target) => {
    let from = 0;
    let filled = 0;
    while (filled < target.byteLength) {
      const frame = cutFrame(stored.subarray(from));
      if (frame === undefined) return false;
      from += frame.byteLength;
      const maxOutputLength = target.byteLength - filled;
      const part = unpacked(() => zstdDecompressSync(frame, { maxOutputLength }));
      if (part === undefined) return false;
      target.set(part, filled);
      filled += part.byteLength;
    }
    return true;
  },
};

/** The frame with which the bytes begin: Node refuses to unpack one that anything follows. */
function cutFrame(bytes: Uint8Array): Uint8Array | undefined {
  const frame = new ZstdFrame();
  try {
    const length = frame.advance(bytes);
    return frame.complete ? bytes.subarray(0, length) : undefined;
  } catch {
    return undefined;
  }
}

function within(limit: number, packed: Uint8Array): Uint8Array | undefined {
  return packed.byteLength <= limit ? packed : undefined;
}

function fills(target: Uint8Array, unpack: () => Uint8Array): boolean {
  const cluster = unpacked(unpack);
  if (cluster?.byteLength !== target.byteLength) return false;
  target.set(cluster);
  return true;
}

/**
 * What a library unpacks, or `undefined` if it finds the stream unsound or longer than it may be.
 */
function unpacked(unpack: () => Uint8Array): Uint8Array | undefined {
  try {
    return unpack();
  } catch {
    return undefined;
  }
}
