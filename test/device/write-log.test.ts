import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Qcow2BenchError, systemCode } from '../../src/core/error.ts';
import { FaultDevice } from '../../src/device/fault.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { WriteLog } from '../../src/device/write-log.ts';
import { SlowDevice } from './slow-device.ts';

test('the state after n entries is the file as it was then, whatever was written', async () => {
  const change = fc.record({
    kind: fc.constantFrom('write', 'merged', 'zero', 'punch', 'truncate', 'sync'),
    offset: fc.nat(3000),
    length: fc.integer({ min: 1, max: 2000 }),
    value: fc.integer({ min: 1, max: 255 }),
  });
  const property = fc.asyncProperty(
    fc.array(change, { maxLength: 20 }),
    fc.nat(2000),
    async (changes, baseLength) => {
      const base = new MemoryDevice();
      base.write(0, new Uint8Array(baseLength).fill(0xbb), 'data');
      const device = base.clone();
      const log = new WriteLog(device);
      const states = [device.contents()];
      for (const { kind, offset, length, value } of changes) {
        const bytes = new Uint8Array(length).fill(value);
        if (kind === 'write') await log.write(offset, bytes, 'data');
        else if (kind === 'zero') await log.zeroRange(offset, length, 'cow');
        else if (kind === 'punch') await log.punchHole(offset, length, 'data');
        else if (kind === 'truncate') await log.truncate(offset, 'data');
        else if (kind === 'sync') await log.sync('guest-flush');
        else {
          await log.writeMerged(offset, [
            { purpose: 'cow', bytes },
            { purpose: 'data', bytes: Uint8Array.of(value, 3) },
          ]);
        }
        bytes.fill(0xff); // The log has its own copy.
        states.push(device.contents());
      }
      for (const [count, state] of states.entries()) {
        expect(Buffer.compare(log.stateAfter(count, base).contents(), state)).toBe(0);
      }
    },
  );
  await fc.assert(property, { numRuns: 60 });
});

test('a sync covers what was done when it was issued', async () => {
  const log = new WriteLog(new SlowDevice(new MemoryDevice()));
  await log.write(0, Uint8Array.of(1), 'data');
  const syncing = log.sync('fua');
  await Promise.all([syncing, log.write(1, Uint8Array.of(2), 'data')]);
  await log.sync('close');
  const syncs = log.entries.filter((entry) => entry.op === 'sync');
  expect(syncs.map(({ cause, covers }) => [cause, covers])).toEqual([
    ['fua', 1],
    ['close', 3],
  ]);
});

test('an operation that failed is not in the log', () => {
  const log = new WriteLog(new FaultDevice(new MemoryDevice(), () => 'EIO'));
  expect(() => log.write(0, Uint8Array.of(1), 'data')).toThrow();
  expect(log.entries).toEqual([]);
});

test('a fault hits the operation that the rule names, and is reported as by a host file', async () => {
  const inner = new MemoryDevice({ path: 'disk.qcow2' });
  const device = new FaultDevice(inner, ({ op, purpose, opIndex }) =>
    op === 'write' && purpose === 'l2-table' && opIndex === 1 ? 'ENOSPC' : undefined,
  );
  await device.write(0, Uint8Array.of(1), 'l2-table');
  let error: unknown;
  try {
    await device.write(0x40000, Uint8Array.of(2), 'l2-table');
  } catch (caught) {
    error = caught;
  }
  expect(error).toBeInstanceOf(Qcow2BenchError);
  expect(error).toMatchObject({ code: 'host-write-failed', path: 'disk.qcow2', offset: 0x40000 });
  expect(String(error)).toContain(
    'disk.qcow2, offset 0x40000: a write failed with ENOSPC: the file system is full',
  );
  expect(error instanceof Error ? systemCode(error.cause) : undefined).toBe('ENOSPC');
  expect(inner.size()).toBe(1);
});

test('after a failed sync every later one fails', () => {
  const device = new FaultDevice(new MemoryDevice(), ({ op, opIndex }) =>
    op === 'sync' && opIndex === 0 ? 'EIO' : undefined,
  );
  expect(() => device.sync('fua')).toThrow('EIO');
  expect(() => device.sync('fua')).toThrow('EIO');
});
