/**
 * Which operations zero or discard a range, for all that a place may and may not have: the order is
 * QEMU's.
 */

import { describe, expect, test } from 'vitest';

import { FaultDevice, type FaultRule } from '../../src/device/fault.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { WriteLog } from '../../src/device/write-log.ts';
import { discardRange, zeroWithoutWriting } from '../../src/device/zeroing.ts';
import { SlowDevice } from './slow-device.ts';

interface Place {
  readonly name: string;
  readonly canZeroRange?: boolean;
  readonly canPunchHole?: boolean;
  /** Operations that fail, by the system's code: found out by trying. */
  readonly failing?: Readonly<Record<string, string>>;
  readonly keep: readonly string[] | false;
  readonly unmap: readonly string[] | false;
  readonly discard: readonly string[];
}

const ZERO = 'zero-range';
const HOLE = 'punch-hole';

const PLACES: readonly Place[] = [
  { name: 'all operations', keep: [ZERO], unmap: [HOLE], discard: [HOLE] },
  {
    name: 'holes only, as known beforehand (tmpfs)',
    canZeroRange: false,
    canPunchHole: true,
    keep: [HOLE, 'reserve'],
    unmap: [HOLE],
    discard: [HOLE],
  },
  {
    name: 'holes only, as found out (tmpfs)',
    failing: { [ZERO]: 'ENOTSUP' },
    keep: [HOLE, 'reserve'],
    unmap: [HOLE],
    discard: [HOLE],
  },
  {
    name: 'zero-range that refuses these arguments',
    failing: { [ZERO]: 'EINVAL' },
    keep: [HOLE, 'reserve'],
    unmap: [HOLE],
    discard: [HOLE],
  },
  {
    name: 'zero-range only',
    canZeroRange: true,
    canPunchHole: false,
    keep: [ZERO],
    unmap: [ZERO],
    discard: [],
  },
  {
    name: 'zero-range only, as found out',
    failing: { [HOLE]: 'ENOSYS' },
    keep: [ZERO],
    unmap: [ZERO],
    discard: [],
  },
  { name: 'none, as known beforehand', canZeroRange: false, keep: false, unmap: false, discard: [] },
  {
    name: 'none, as found out',
    failing: { [ZERO]: 'ENOTSUP', [HOLE]: 'ENOTSUP', reserve: 'ENOTSUP' },
    keep: false,
    unmap: false,
    discard: [],
  },
];

describe.each(PLACES)('with $name', ({ canZeroRange, canPunchHole, failing = {}, ...expected }) => {
  const rule: FaultRule = ({ op }) => failing[op];
  const make = (): { readonly log: WriteLog; readonly memory: MemoryDevice } => {
    const memory = new MemoryDevice({ canZeroRange, canPunchHole });
    memory.write(0, new Uint8Array(8192).fill(1), 'data');
    return { memory, log: new WriteLog(new FaultDevice(memory, rule)) };
  };
  const done = (log: WriteLog): string[] => log.entries.map(({ op }) => op);

  test.each([false, true])(
    'a range is zeroed without a write, or nothing is done (may unmap: %s)',
    async (mayUnmap) => {
      for (const slow of [false, true]) {
        const { log, memory } = make();
        const device = slow ? new SlowDevice(log) : log;
        const answer = await zeroWithoutWriting(device, 4096, 4096, 'data', mayUnmap);
        const operations = mayUnmap ? expected.unmap : expected.keep;
        expect(answer).toBe(operations !== false);
        expect(done(log)).toEqual(operations === false ? [] : operations);
        expect([...memory.contents().subarray(4096)].every((byte) => byte === (answer ? 0 : 1))).toBe(true);
        expect(memory.contents()[4095]).toBe(1);
      }
    },
  );

  test('a discard is a hole or nothing, and never an error', async () => {
    const { log, memory } = make();
    await discardRange(log, 0, 4096, 'data');
    await discardRange(new SlowDevice(log), 4096, 4096, 'data');
    expect(done(log)).toEqual([...expected.discard, ...expected.discard]);
    expect(memory.size()).toBe(8192);
  });
});

test('past the end, reserved space is zero already: neither zero-range nor holes are needed', async () => {
  const memory = new MemoryDevice();
  const rule: FaultRule = ({ op }) => (op === 'zero-range' || op === 'punch-hole' ? 'ENOTSUP' : undefined);
  const log = new WriteLog(new FaultDevice(memory, rule));
  expect(await zeroWithoutWriting(log, 0, 4096, 'data')).toBe(true);
  expect(await zeroWithoutWriting(log, 0, 4096, 'data')).toBe(false);
  expect(log.entries.map(({ op }) => op)).toEqual(['reserve']);
  expect(memory.size()).toBe(4096);
});

test.each(['zero-range', 'punch-hole', 'reserve'])(
  'a full disk at %s is an error, not a missing operation',
  async (failing) => {
    const memory = new MemoryDevice({ canZeroRange: failing === 'zero-range', canPunchHole: true });
    const device = new FaultDevice(memory, ({ op }) => (op === failing ? 'ENOSPC' : undefined));
    await expect(async () => zeroWithoutWriting(device, 0, 4096, 'data')).rejects.toThrow('ENOSPC');
  },
);
