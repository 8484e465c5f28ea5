import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AlignedDevice } from '../../src/device/aligned-device.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { FaultDevice } from '../../src/device/fault.ts';
import { HostLog } from '../../src/device/host-log.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { SlowDevice } from './slow-device.ts';
import { describeBlockDevice } from './conformance.ts';

describeBlockDevice({
  name: 'alignment over memory in blocks of 512',
  make: () => new AlignedDevice(new MemoryDevice({ requestAlignment: 512 })),
  endMultiple: 512,
});

/** The operations that reach a device of 512-byte blocks, as `op offset length purpose`. */
function recorded(initial: number): { device: AlignedDevice; ops: string[]; memory: MemoryDevice } {
  const ops: string[] = [];
  const memory = new MemoryDevice({ requestAlignment: 512 });
  memory.write(0, new Uint8Array(initial).fill(1), 'data');
  const log = new HostLog(memory, {
    phases: { phase: 'run' },
    sink: (record) => {
      if (record.op === 'sync') return;
      const parts = record.parts?.map((part) => part.join(':')).join(' ') ?? record.purpose;
      ops.push(`${record.op} ${String(record.offset)} ${String(record.length)} ${parts}`);
    },
  });
  return { device: new AlignedDevice(log), ops, memory };
}

describe('an unaligned request', () => {
  test('of eight bytes is a read and a write of its block', async () => {
    const { device, ops } = recorded(8192);
    await device.write(72, new Uint8Array(8), 'header');
    expect(ops).toEqual(['read 0 512 header', 'write 0 512 header']);
  });

  test('across two neighbouring blocks is one read and one write of both', async () => {
    const { device, ops } = recorded(8192);
    await device.write(1020, new Uint8Array(8), 'l1-table');
    expect(ops).toEqual(['read 512 1024 l1-table', 'write 512 1024 l1-table']);
  });

  test('cut at both ends reads the first and last block and writes once', async () => {
    const { device, ops, memory } = recorded(8192);
    await device.write(100, new Uint8Array(3000).fill(2), 'data');
    expect(ops).toEqual(['read 0 512 data', 'read 3072 512 data', 'write 0 3584 data']);
    const wanted = new Uint8Array(8192).fill(1).fill(2, 100, 3100);
    expect(Buffer.compare(memory.contents(), wanted)).toBe(0);
  });

  test('cut at one end reads that block only', async () => {
    const { device, ops } = recorded(8192);
    await device.write(512, new Uint8Array(1000), 'data');
    await device.write(100, new Uint8Array(924), 'data');
    expect(ops).toEqual([
      'read 1024 512 data',
      'write 512 1024 data',
      'read 0 512 data',
      'write 0 1024 data',
    ]);
  });

  test('to write several parts stays one write with its parts', async () => {
    const { device, ops } = recorded(8192);
    await device.writeMerged(100, [
      { purpose: 'cow', bytes: new Uint8Array(412) },
      { purpose: 'data', bytes: new Uint8Array(512) },
      { purpose: 'cow', bytes: new Uint8Array(100) },
    ]);
    expect(ops).toEqual(['read 0 512 data', 'read 1024 512 data', 'write 0 1536 cow:512 data:512 cow:512']);
  });

  test('to zero a range writes its ends and zeroes the blocks between', async () => {
    const { device, ops, memory } = recorded(8192);
    await device.zeroRange(100, 3000, 'cow');
    expect(ops).toEqual([
      'read 0 512 cow',
      'read 3072 512 cow',
      'write 0 512 cow',
      'zero-range 512 2560 cow',
      'write 3072 512 cow',
    ]);
    expect(Buffer.compare(memory.contents(), new Uint8Array(8192).fill(1).fill(0, 100, 3100))).toBe(0);
  });

  test('to read is one read of the blocks around it', async () => {
    const { device, ops } = recorded(8192);
    await device.read(500, new Uint8Array(600), 'data');
    expect(ops).toEqual(['read 0 1536 data']);
  });

  test('at the end makes the file end at a block boundary', async () => {
    const { device } = recorded(0);
    await device.write(0, new Uint8Array(10), 'data');
    expect(device.size()).toBe(512);
  });
});

test('an aligned request passes as it is', async () => {
  const { device, ops } = recorded(0);
  await device.write(512, new Uint8Array(1024), 'data');
  await device.zeroRange(0, 512, 'cow');
  await device.read(0, new Uint8Array(512), 'data');
  expect(ops).toEqual(['write 512 1024 data', 'zero-range 0 512 cow', 'read 0 512 data']);
});

test('a failed request leaves the next one working', async () => {
  let failing = true;
  const memory = new MemoryDevice({ requestAlignment: 512 });
  const device = new AlignedDevice(
    new FaultDevice(memory, ({ op }) => (op === 'write' && failing ? 'EIO' : undefined)),
  );
  expect(() => device.write(3, Uint8Array.of(1), 'header')).toThrow('EIO');
  failing = false;
  await device.write(3, Uint8Array.of(4), 'header');
  expect(memory.contents()[3]).toBe(4);
});

describe('on a device that takes its time', () => {
  const slow = (): { device: BlockDevice; memory: MemoryDevice; below: SlowDevice } => {
    const memory = new MemoryDevice({ requestAlignment: 512 });
    const below = new SlowDevice(memory);
    return { device: new AlignedDevice(below), memory, below };
  };

  test('writes into one block at the same time lose nothing', async () => {
    const write = fc.record({ offset: fc.nat(2000), length: fc.integer({ min: 1, max: 900 }) });
    const property = fc.asyncProperty(fc.array(write, { maxLength: 12 }), async (writes) => {
      const { device, memory } = slow();
      const bits = writes.map(({ offset, length }, index) => ({ offset, length, value: index + 1 }));
      await Promise.all(
        bits.map(async (bit) => {
          await device.write(bit.offset, new Uint8Array(bit.length).fill(bit.value), 'data');
        }),
      );
      // Overlapping writes may land in any order, but each byte holds what one of its writers
      // wrote.
      for (const [at, byte] of memory.contents().entries()) {
        const writers = bits.filter(({ offset, length }) => offset <= at && at < offset + length);
        const allowed = writers.length === 0 ? [0] : writers.map(({ value }) => value);
        if (!allowed.includes(byte)) expect.fail(`byte ${String(at)} is ${String(byte)}`);
      }
    });
    await fc.assert(property, { numRuns: 100 });
  });

  test('requests that share no block run side by side', async () => {
    const { device, below } = slow();
    const both = [3, 5000].map(async (offset) => {
      await device.write(offset, Uint8Array.of(1), 'data');
    });
    expect(below.begun).toEqual(['read 0 512', 'read 4608 512']);
    await Promise.all(both);
  });

  test('an aligned write waits for a padded one on its block, and a failure does not block it', async () => {
    const { device, memory, below } = slow();
    let failed = false;
    below.gate = async () => {
      await new Promise((resolve) => setImmediate(resolve));
      if (!failed) {
        failed = true;
        throw new Error('first read fails');
      }
    };
    const padded = device.write(3, Uint8Array.of(1), 'data');
    const whole = device.write(0, new Uint8Array(512).fill(9), 'data');
    expect(below.begun).toEqual(['read 0 512']);
    await expect(padded).rejects.toThrow('first read fails');
    await whole;
    expect(memory.contents().every((byte) => byte === 9)).toBe(true);
  });
});
