import { expect, test } from 'vitest';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { NullDevice } from '../../src/device/null-device.ts';
import { PAGE_BYTES, SparseBytes } from '../../src/device/sparse-bytes.ts';

test('a sparse file of terabytes takes the memory of what is written', () => {
  const bytes = new SparseBytes();
  bytes.growTo(2 ** 52);
  bytes.write(2 ** 51 + 5, Uint8Array.of(1, 2));
  expect(bytes.storedBytes).toBe(PAGE_BYTES);
  bytes.clear(0, 2 ** 52);
  expect(bytes.storedBytes).toBe(0);
  expect(bytes.size).toBe(2 ** 52);
});

test('a chunk that is cleared as a whole is given back', () => {
  const bytes = new SparseBytes();
  bytes.write(0, new Uint8Array(4 * PAGE_BYTES).fill(1));
  bytes.clear(1, 2 * PAGE_BYTES);
  expect(bytes.storedBytes).toBe(3 * PAGE_BYTES);
  const wanted = new Uint8Array(4 * PAGE_BYTES).fill(1).fill(0, 1, 2 * PAGE_BYTES + 1);
  expect(Buffer.compare(bytes.contents(), wanted)).toBe(0);
});

test('growing a file that was cut never uncovers old bytes', () => {
  const bytes = new SparseBytes();
  bytes.write(0, new Uint8Array(1000).fill(1));
  bytes.resize(10);
  bytes.resize(1000);
  expect(bytes.contents().lastIndexOf(1)).toBe(9);
});

test('a clone shares nothing with its origin', () => {
  const device = new MemoryDevice({ label: 'backing:1' });
  device.write(0, Uint8Array.of(1), 'data');
  const copy = device.clone();
  copy.write(0, Uint8Array.of(2), 'data');
  device.write(1, Uint8Array.of(3), 'data');
  expect([...device.contents()]).toEqual([1, 3]);
  expect([...copy.contents()]).toEqual([2]);
  expect(copy.label).toBe('backing:1');
});

test('a request after close, an unaligned one and a change of a read-only device are bugs', () => {
  const device = new MemoryDevice({ requestAlignment: 512 });
  expect(() => device.write(3, new Uint8Array(512), 'data')).toThrow('internal error: request not aligned');
  device.close();
  expect(() => device.read(0, new Uint8Array(512), 'data')).toThrow('internal error: request to a closed');
  const readOnly = new MemoryDevice({ readOnly: true });
  expect(() => readOnly.truncate(5, 'data')).toThrow('internal error: change of a device');
});

test('the null device keeps metadata and forgets guest data, also over old metadata', () => {
  const device = new NullDevice();
  device.write(0, new Uint8Array(8).fill(1), 'l2-table');
  device.write(4, new Uint8Array(8).fill(2), 'data');
  device.writeMerged(12, [
    { purpose: 'cow', bytes: Uint8Array.of(3) },
    { purpose: 'header', bytes: Uint8Array.of(4) },
  ]);
  expect([...device.contents()]).toEqual([1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4]);
  device.write(1_000_000, new Uint8Array(5), 'data');
  expect(device.size()).toBe(1_000_005);
});
