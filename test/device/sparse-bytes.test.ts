import fc from 'fast-check';
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
  // A range that was given back is there again when it is written.
  for (const at of [2 ** 51 + 5, 0]) bytes.write(at, Uint8Array.of(3));
  const target = new Uint8Array(1);
  bytes.read(2 ** 51 + 5, target);
  expect([...target]).toEqual([3]);
});

test('a chunk that is cleared as a whole is given back', () => {
  const bytes = new SparseBytes();
  bytes.write(0, mixed(4 * PAGE_BYTES));
  bytes.clear(1, 2 * PAGE_BYTES);
  expect(bytes.storedBytes).toBe(3 * PAGE_BYTES);
  const wanted = mixed(4 * PAGE_BYTES).fill(0, 1, 2 * PAGE_BYTES + 1);
  expect(Buffer.compare(bytes.contents(), wanted)).toBe(0);
});

test('a page of one byte takes no memory, and is data', () => {
  const bytes = new SparseBytes();
  bytes.write(0, new Uint8Array(3 * PAGE_BYTES).fill(7));
  bytes.write(3 * PAGE_BYTES, new Uint8Array(PAGE_BYTES));
  expect(bytes.storedBytes).toBe(0);
  expect(bytes.extentAt(0)).toEqual({ isData: true, length: 4 * PAGE_BYTES });
  bytes.write(PAGE_BYTES + 5, Uint8Array.of(8));
  expect(bytes.storedBytes).toBe(PAGE_BYTES);
  bytes.write(PAGE_BYTES, new Uint8Array(PAGE_BYTES).fill(9));
  expect(bytes.storedBytes).toBe(0);
});

const PAGES = 6;
const change = fc.record({
  op: fc.constantFrom('write', 'write', 'write', 'part', 'clear', 'resize', 'clone'),
  from: fc.oneof(
    fc.nat(PAGES * PAGE_BYTES),
    fc.nat(PAGES - 1).map((page) => page * PAGE_BYTES),
  ),
  length: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.nat(3 * PAGE_BYTES), fc.constant(PAGE_BYTES)),
  byte: fc.constantFrom(0, 1, 255),
  kind: fc.constantFrom('one byte', 'one byte', 'mixed', 'one byte but for the middle'),
});

test('pages of one byte, mixed ones and holes read as a plain array', () => {
  const property = fc.property(fc.array(change, { maxLength: 30 }), (changes) => {
    let bytes = new SparseBytes();
    const model = new Uint8Array(10 * PAGE_BYTES);
    let size = 0;
    for (const { op, from, length, byte, kind } of changes) {
      const end = from + length;
      const written = kind === 'mixed' ? mixed(length) : new Uint8Array(length).fill(byte);
      if (kind === 'one byte but for the middle') written[Math.floor(length / 2)] = 77;
      if (op === 'clone') bytes = bytes.clone();
      else if (op === 'clear') {
        bytes.clear(from, length);
        model.fill(0, from, end);
      } else if (op === 'resize') {
        bytes.resize(from);
        model.fill(0, from);
        size = from;
      } else {
        // Only the second half differs from what the file has.
        const half = op === 'part' ? Math.floor(length / 2) : 0;
        if (half > 0) written.set(model.subarray(from, from + half));
        bytes.write(from, written, half, length);
        model.set(written, from);
        size = Math.max(size, end);
      }
      const target = new Uint8Array(model.length).fill(3);
      bytes.read(0, target);
      expect(Buffer.compare(target, model)).toBe(0);
      expect(Buffer.compare(bytes.contents(), model.subarray(0, size))).toBe(0);
    }
  });
  fc.assert(property, { numRuns: 300 });
});

/** Bytes that are not all alike in any page. */
function mixed(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (index % 251) + 1);
}

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
