import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { constants, gzipSync, zstdCompressSync } from 'node:zlib';

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { readUnpacked } from '../../../src/workload/trace/unpacked-file.ts';
import { ZstdFrame } from '../../../src/core/zstd-frame.ts';
import { testDirectory } from '../../test-directory.ts';
import { temporaryFile } from './trace-files.ts';

async function unpacked(content: Uint8Array): Promise<Buffer> {
  return unpackedFile(temporaryFile(content));
}

async function unpackedFile(path: string): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of readUnpacked(path)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Bytes that compress to blocks of every kind: repeated, random, empty. */
const contents = fc
  .array(
    fc.oneof(
      fc.uint8Array({ maxLength: 2000 }),
      fc.tuple(fc.nat(255), fc.nat(200_000)).map(([byte, n]) => new Uint8Array(n).fill(byte)),
    ),
    {
      maxLength: 4,
    },
  )
  .map((parts) => Buffer.concat(parts));

const zstdOptions = fc.record({
  level: fc.constantFrom(1, 3, 12),
  checksum: fc.boolean(),
  contentSize: fc.boolean(),
});

function zstd(
  content: Uint8Array,
  options: { level: number; checksum: boolean; contentSize: boolean },
): Buffer {
  return zstdCompressSync(content, {
    params: {
      [constants.ZSTD_c_compressionLevel]: options.level,
      [constants.ZSTD_c_checksumFlag]: options.checksum ? 1 : 0,
      [constants.ZSTD_c_contentSizeFlag]: options.contentSize ? 1 : 0,
    },
  });
}

/** A frame that holds no data (RFC 8878, 3.1.2). */
function skippable(content: Uint8Array): Buffer {
  const frame = Buffer.alloc(8 + content.length);
  frame.writeUInt32LE(0x184d2a57, 0);
  frame.writeUInt32LE(content.length, 4);
  frame.set(content, 8);
  return frame;
}

test('what is not compressed comes out as it is, the empty file too', async () => {
  const text = Buffer.from('hello\n'.repeat(100_000));
  expect(await unpacked(text)).toEqual(text);
  expect(await unpacked(Buffer.alloc(0))).toEqual(Buffer.alloc(0));
  expect(await unpacked(Buffer.from([0x1f]))).toEqual(Buffer.from([0x1f]));
});

test('all members of a gzip file and all frames of a Zstandard file come out, in order', async () => {
  const part = fc.oneof(
    fc
      .tuple(contents, zstdOptions)
      .map(([content, options]) => ({ content, packed: zstd(content, options) })),
    fc
      .uint8Array({ maxLength: 300 })
      .map((hidden) => ({ content: Buffer.alloc(0), packed: skippable(hidden) })),
  );
  await fc.assert(
    fc.asyncProperty(contents, fc.array(part, { maxLength: 3 }), async (first, parts) => {
      const packed = [
        zstd(first, { level: 3, checksum: true, contentSize: true }),
        ...parts.map((each) => each.packed),
      ];
      const expected = Buffer.concat([first, ...parts.map(({ content }) => content)]);
      expect(await unpacked(Buffer.concat(packed))).toEqual(expected);
      const gzipped = Buffer.concat([gzipSync(first), ...parts.map(({ content }) => gzipSync(content))]);
      expect(await unpacked(gzipped)).toEqual(expected);
    }),
    { numRuns: 25 },
  );
});

test('a frame ends at the same byte however it is cut into pieces', () => {
  fc.assert(
    fc.property(contents, zstdOptions, fc.integer({ min: 1, max: 9 }), (content, options, step) => {
      const packed = Buffer.concat([zstd(content, options), Buffer.from('what follows')]);
      const frame = new ZstdFrame();
      let taken = 0;
      while (!frame.complete && taken < packed.length) {
        taken += frame.advance(packed.subarray(taken, taken + step));
      }
      expect(frame.complete).toBe(true);
      expect(taken).toBe(packed.length - 12);
    }),
    { numRuns: 40 },
  );
});

describe('an error, never a shorter stream', () => {
  const text = Buffer.from('0123456789'.repeat(50));
  const frame = zstdCompressSync(text);

  test('a second frame that is cut', async () => {
    await expect(unpacked(Buffer.concat([frame, frame.subarray(0, frame.length - 1)]))).rejects.toThrow();
    await expect(unpacked(Buffer.concat([frame, frame.subarray(0, 3)]))).rejects.toThrow();
    await expect(unpacked(Buffer.concat([frame, skippable(text).subarray(0, 20)]))).rejects.toThrow();
  });

  test('foreign bytes after a frame or a member', async () => {
    await expect(unpacked(Buffer.concat([frame, Buffer.from('hello')]))).rejects.toThrow(
      'is followed by unrelated bytes',
    );
    await expect(unpacked(Buffer.concat([gzipSync(text), Buffer.from('hello')]))).rejects.toThrow();
  });

  test('a frame with a block of the reserved type', async () => {
    const broken = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x00, 0x07, 0x00, 0x00]);
    await expect(unpacked(broken)).rejects.toThrow();
  });
});

const zstdTool = (() => {
  try {
    execFileSync('zstd', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

test.skipIf(!zstdTool)('files of the zstd tool are read, also when they were joined', async () => {
  const folder = testDirectory();
  const plain = join(folder, 'plain');
  const text = Buffer.from(Array.from({ length: 30_000 }, (_, n) => `${String(n * 7)},write\n`).join(''));
  writeFileSync(plain, text);
  execFileSync('zstd', ['-q', '-9', plain, '-o', `${plain}.zst`]);
  execFileSync('zstd', ['-q', '-1', '--no-check', plain, '-o', `${plain}.2.zst`]);
  const joined = Buffer.concat([readFileSync(`${plain}.zst`), readFileSync(`${plain}.2.zst`)]);
  expect((await unpacked(joined)).equals(Buffer.concat([text, text]))).toBe(true);
});
