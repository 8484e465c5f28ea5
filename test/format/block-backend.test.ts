import { beforeEach, describe, expect, it } from 'vitest';
import { LIMITS } from '../../src/core/limits.ts';
import type { Pending } from '../../src/core/pending.ts';
import type { SyncCause } from '../../src/device/purpose.ts';
import { BlockBackend } from '../../src/format/block-backend.ts';
import { CACHE_MODES, type CacheMode } from '../../src/format/cache-mode.ts';
import type { DiskImage } from '../../src/format/disk-image.ts';
import { rejectionCodeOf } from './rejection.ts';

const SIZE = 1024 * 1024;
let requests: string[];
/** What the image answers; set to a promise to model a device that takes its time. */
let answer: () => Pending;

const image: DiskImage = {
  format: 'raw',
  virtualSize: SIZE,
  clusterSize: 1,
  backing: undefined,
  allocatingWrites: 0,
  metadataInMemory: 0,
  read: (offset, target) => note(`read ${String(offset)} ${String(target.byteLength)}`),
  write: (offset, bytes) => note(`write ${String(offset)} ${String(bytes.byteLength)}`),
  writeZeroes: (offset, length, { unmap }) =>
    note(`zeroes ${String(offset)} ${String(length)} ${String(unmap)}`),
  discard: (offset, length) => note(`discard ${String(offset)} ${String(length)}`),
  flush: (cause: SyncCause) => note(`flush ${cause}`),
  map: async () => ({ kind: 'data', length: 1, hostOffset: 0 }),
  close: async () => {},
  abandon: async () => {},
};

function note(request: string): Pending {
  requests.push(request);
  return answer();
}

function backend(cacheMode: CacheMode, readOnly = false): BlockBackend {
  return new BlockBackend({ image, cacheMode, readOnly, path: 'disk.img' });
}

beforeEach(() => {
  requests = [];
  answer = () => undefined;
});

const sector = new Uint8Array(512);
const noFua = { fua: false };

describe('flushes that the cache mode asks for', () => {
  it.each(CACHE_MODES)('%s flushes after writes as QEMU defines it', async (cacheMode) => {
    const target = backend(cacheMode);
    await target.write(0, sector, noFua);
    await target.writeZeroes(512, 512, { fua: false, unmap: true });
    const flush = cacheMode === 'writethrough' || cacheMode === 'directsync' ? ['flush writethrough'] : [];
    expect(requests).toEqual(['write 0 512', ...flush, 'zeroes 512 512 true', ...flush]);
  });

  it('FUA flushes once: as fua in a writeback mode, as writethrough in a writethrough mode', async () => {
    await backend('writeback').write(0, sector, { fua: true });
    await backend('writethrough').writeZeroes(0, 512, { fua: true, unmap: false });
    expect(requests).toEqual(['write 0 512', 'flush fua', 'zeroes 0 512 false', 'flush writethrough']);
  });

  it.each(CACHE_MODES)('neither reads nor discards are followed by a flush in %s', async (cacheMode) => {
    await backend(cacheMode).read(0, sector);
    await backend(cacheMode).discard(0, 512);
    expect(requests).toEqual(['read 0 512', 'discard 0 512']);
  });

  it('a guest flush is a guest flush', async () => {
    await backend('writethrough').flush();
    expect(requests).toEqual(['flush guest-flush']);
  });

  it('a write that waits is flushed only when it is done', async () => {
    let finish = (): void => {};
    answer = () => new Promise((resolve) => (finish = resolve));
    const pending = backend('writethrough').write(0, sector, noFua);
    await Promise.resolve();
    expect(requests).toEqual(['write 0 512']);
    answer = () => undefined;
    finish();
    await pending;
    expect(requests).toEqual(['write 0 512', 'flush writethrough']);
  });

  it('a write that fails is not flushed', async () => {
    answer = () => Promise.reject(new Error('disk'));
    await expect(backend('writethrough').write(0, sector, noFua)).rejects.toThrow('disk');
    expect(requests).toEqual(['write 0 512']);
  });

  it('one flush is in flight at a time, and the others follow in the order they came', async () => {
    const finish: (() => void)[] = [];
    answer = () => new Promise((resolve) => finish.push(resolve));
    const target = backend('writeback');
    const flushes = [target.flush(), target.flush(), target.flush()];
    for (let done = 1; done <= 3; done++) {
      expect(requests).toHaveLength(done);
      finish.shift()?.();
      await flushes[done - 1];
    }
  });

  it('a flush that fails lets the next one go on', async () => {
    answer = () => {
      throw new Error('disk');
    };
    const target = backend('writeback');
    expect(() => target.flush()).toThrow('disk');
    answer = () => Promise.reject(new Error('late'));
    await expect(target.flush()).rejects.toThrow('late');
    answer = () => undefined;
    expect(target.flush()).toBeUndefined();
  });

  it('answers at once when the image does', () => {
    const target = backend('writethrough');
    expect(target.write(0, sector, noFua)).toBeUndefined();
    expect(target.read(0, sector)).toBeUndefined();
    expect(target.flush()).toBeUndefined();
  });
});

describe('requests that are refused before the image sees them', () => {
  const target = backend('writeback');
  it.each<[string, string, () => Pending]>([
    ['an offset within a sector', 'request-unaligned', () => target.read(100, sector)],
    ['a length of part of a sector', 'request-unaligned', () => target.write(0, new Uint8Array(100), noFua)],
    ['a negative offset', 'request-out-of-range', () => target.read(-512, sector)],
    ['an offset that is no number', 'request-unaligned', () => target.discard(NaN, 512)],
    ['an endless length', 'request-out-of-range', () => target.discard(0, Infinity)],
    ['a request over the end', 'request-out-of-range', () => target.write(SIZE, sector, noFua)],
    [
      'zeroes over the end',
      'request-out-of-range',
      () => target.writeZeroes(512, SIZE, { fua: false, unmap: false }),
    ],
  ])('%s: %s', async (_what, code, request) => {
    expect(await rejectionCodeOf(request)).toBe(code);
    expect(requests).toEqual([]);
  });

  it('more data than one transfer may carry, though zeroes may be that long', async () => {
    const size = LIMITS.transferBytes + 512;
    const large = new BlockBackend({ image: { ...image, virtualSize: size }, cacheMode: 'writeback' });
    expect(await rejectionCodeOf(() => large.write(0, new Uint8Array(size), noFua))).toBe('request-too-long');
    expect(await rejectionCodeOf(() => large.read(0, new Uint8Array(size)))).toBe('request-too-long');
    await large.writeZeroes(0, size, { fua: false, unmap: false });
    expect(requests).toHaveLength(1);
  });

  it('changes of an image that is open read-only; its flush does nothing', async () => {
    const reader = backend('writethrough', true);
    const changes = [
      () => reader.write(0, sector, noFua),
      () => reader.writeZeroes(0, 512, { fua: false, unmap: false }),
      () => reader.discard(0, 512),
    ];
    for (const change of changes) expect(await rejectionCodeOf(change)).toBe('image-read-only');
    await reader.flush();
    expect(requests).toEqual([]);
  });

  it('a request that ends exactly at the end is served', async () => {
    await target.read(SIZE - 512, sector);
    expect(requests).toEqual([`read ${String(SIZE - 512)} 512`]);
  });
});
