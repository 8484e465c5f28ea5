import { deflateRawSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { Random } from '../../../src/core/random.ts';
import { COMPRESSION_TYPES } from '../../../src/format/image-shape.ts';
import type { ClusterCodec } from '../../../src/format/qcow2/compression/cluster-codec.ts';
import { nodeCodec } from '../../../src/format/qcow2/compression/node-compression.ts';
import { loadSystemCodec } from '../../../src/format/qcow2/compression/system-compression.ts';

const CLUSTER = 65_536;

const codecs = COMPRESSION_TYPES.flatMap((type) => {
  const system = loadSystemCodec(type);
  return [
    { name: `${type} of Node`, type, codec: nodeCodec(type) },
    ...(system.ok ? [{ name: `${type} of the system`, type, codec: system.codec }] : []),
  ];
});

function clusterOf(seed: number, size: number): Uint8Array {
  const random = new Random(seed);
  const kind = seed % 4;
  const bytes = new Uint8Array(size);
  if (kind === 0) return bytes.fill(seed);
  for (let at = 0; at < size; at++) {
    if (kind === 1) bytes[at] = random.below(256);
    else if (kind === 2) bytes[at] = 97 + random.below(5);
    else if (random.chance(0.05)) bytes[at] = random.below(256);
  }
  return bytes;
}

function packed(codec: ClusterCodec, cluster: Uint8Array): Uint8Array | undefined {
  return codec.compress(cluster, cluster.byteLength - 1)?.slice();
}

describe('compressed clusters', () => {
  it('are packed by the system libraries on Linux', () => {
    if (process.platform !== 'linux') return;
    for (const type of COMPRESSION_TYPES) expect(loadSystemCodec(type)).toMatchObject({ ok: true });
  });

  it('are unpacked by every library, whichever packed them, with other bytes behind', () => {
    for (const size of [512, 4096, CLUSTER, 2 * 1024 * 1024]) {
      for (let seed = 0; seed < (size > CLUSTER ? 4 : 12); seed++) {
        const cluster = clusterOf(seed, size);
        for (const from of codecs) {
          const stream = packed(from.codec, cluster);
          if (stream === undefined) continue;
          expect(stream.byteLength).toBeLessThan(size);
          for (const trailing of [new Uint8Array(0), new Uint8Array(300), clusterOf(1, 511)]) {
            const stored = Buffer.concat([stream, trailing]);
            for (const to of codecs) {
              if (to.type !== from.type) continue;
              const target = new Uint8Array(size).fill(0xee);
              const what = `seed ${String(seed)}, ${String(size)}: ${from.name} to ${to.name}`;
              expect(to.codec.decompress(stored, target), what).toBe(true);
              expect(Buffer.compare(target, cluster), what).toBe(0);
            }
          }
        }
      }
    }
  });
});

describe.each(codecs)('$name', ({ type, codec }) => {
  const compress = (bytes: Uint8Array): Uint8Array =>
    type === 'zlib' ? deflateRawSync(bytes) : zstdCompressSync(bytes);
  const unpacks = (stored: Uint8Array): boolean => codec.decompress(stored, new Uint8Array(CLUSTER));

  it('packs to the same bytes on other threads, several at a time', async () => {
    for (const size of [4096, CLUSTER]) {
      const clusters = Array.from({ length: 24 }, (_, seed) => clusterOf(seed, size));
      const alone = clusters.map((cluster) => packed(codec, cluster));
      // The synchronous calls in between use memory of their own.
      const apart = clusters.map((cluster) => {
        const answer = codec.compressApart(cluster, size - 1);
        packed(codec, cluster);
        return answer;
      });
      expect(alone.filter((stream) => stream !== undefined).length).toBeGreaterThan(10);
      for (const [index, stream] of (await Promise.all(apart)).entries()) {
        const expected = alone[index];
        expect(stream === undefined).toBe(expected === undefined);
        expect(Buffer.compare(stream ?? Buffer.of(), expected ?? Buffer.of()), String(index)).toBe(0);
      }
    }
  });

  it('does not pack what would not become smaller', () => {
    expect(packed(codec, clusterOf(1, CLUSTER))).toBeUndefined();
    expect(packed(codec, clusterOf(2, CLUSTER))).toBeDefined();
  });

  it('takes a stream only if it is whole and of exactly one cluster', () => {
    const stream = compress(new Uint8Array(CLUSTER));
    expect(unpacks(stream)).toBe(true);
    expect(unpacks(stream.subarray(0, stream.byteLength - 1))).toBe(false);
    for (const length of [0, 1, CLUSTER - 1, CLUSTER + 1, 2 * CLUSTER]) {
      expect(unpacks(compress(new Uint8Array(length))), String(length)).toBe(false);
    }
    expect(unpacks(new Uint8Array(0))).toBe(false);
    expect(unpacks(new Uint8Array(2 * CLUSTER))).toBe(false);
    expect(unpacks(clusterOf(1, 2 * CLUSTER))).toBe(false);
  });

  it('refuses a stream that would fill gigabytes, without taking them', () => {
    const bomb = compress(new Uint8Array(96 * 1024 * 1024));
    const before = process.memoryUsage().rss;
    for (let round = 0; round < 50; round++) expect(unpacks(bomb.subarray(0, 2 * CLUSTER))).toBe(false);
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * 1024 * 1024);
  });

  it('goes on after whatever it refused', () => {
    unpacks(clusterOf(1, CLUSTER));
    packed(codec, clusterOf(1, CLUSTER));
    const cluster = clusterOf(2, CLUSTER);
    const target = new Uint8Array(CLUSTER);
    expect(codec.decompress(packed(codec, cluster) ?? new Uint8Array(0), target)).toBe(true);
    expect(Buffer.compare(target, cluster)).toBe(0);
  });
});

describe.each(codecs.filter(({ type }) => type === 'zstd'))('$name', ({ codec }) => {
  it('joins frames, and gives up on ones that never fill the cluster', () => {
    const half = zstdCompressSync(new Uint8Array(CLUSTER / 2).fill(9));
    const target = new Uint8Array(CLUSTER);
    expect(codec.decompress(Buffer.concat([half, half]), target)).toBe(true);
    expect(target.every((byte) => byte === 9)).toBe(true);
    const empty = zstdCompressSync(new Uint8Array(0));
    const endless = Buffer.concat(
      Array.from({ length: Math.floor((2 * CLUSTER) / empty.byteLength) }, () => empty),
    );
    expect(codec.decompress(endless, target)).toBe(false);
    // Skippable frames carry nothing either.
    const skippable = Buffer.alloc(2 * CLUSTER);
    for (let at = 0; at < skippable.byteLength; at += 8) skippable.writeUInt32LE(0x184d2a50, at);
    expect(codec.decompress(skippable, target)).toBe(false);
  });
});
