import { expect, test } from 'vitest';

import { parseDeviceStat } from '../../src/device/loop-device.ts';

// The fields of Linux's Documentation/block/stat.rst, in its order.
const READS = '  11  1  80  3';
const WRITES = '22 2 640 4';
const BUSY = '0 5 6';
const DISCARDS = '33 3 1280 7';
const FLUSHES = '44 8';

test('the counts of a device are read in the order of the kernel, sectors as 512 bytes', () => {
  expect(parseDeviceStat(`${READS} ${WRITES} ${BUSY} ${DISCARDS} ${FLUSHES}\n`)).toEqual({
    reads: 11,
    readBytes: 80 * 512,
    writes: 22,
    writeBytes: 640 * 512,
    discards: 33,
    discardBytes: 1280 * 512,
    flushes: 44,
  });
});

test('an older kernel counts no flushes, which is not 0 flushes', () => {
  expect(parseDeviceStat(`${READS} ${WRITES} ${BUSY} ${DISCARDS}\n`).flushes).toBeUndefined();
  expect(parseDeviceStat(`${READS} ${WRITES} ${BUSY}\n`)).toMatchObject({ discards: 0, flushes: undefined });
});
