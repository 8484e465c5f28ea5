import { expect, test } from 'vitest';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { HostLog, type HostLogRecord } from '../../src/device/host-log.ts';
import { HostMeter, type HostCounts } from '../../src/device/host-meter.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { Meter } from '../../src/device/meter.ts';

const EMPTY = { ops: 0, bytes: 0, byPurpose: {} };
const NOTHING: HostCounts = {
  writes: EMPTY,
  zeroRanges: EMPTY,
  punchHoles: EMPTY,
  truncates: EMPTY,
  reads: EMPTY,
  syncs: { ops: 0, elided: 0, byCause: {} },
};

async function run(device: BlockDevice): Promise<void> {
  await device.zeroRange(327_680, 65_536, 'cow');
  await device.write(327_680, new Uint8Array(4096), 'data');
  await device.writeMerged(393_216, [
    { purpose: 'cow', bytes: new Uint8Array(28_672) },
    { purpose: 'data', bytes: new Uint8Array(4096) },
    { purpose: 'cow', bytes: new Uint8Array(32_768) },
  ]);
  await device.write(131_072, new Uint8Array(65_536), 'refcount-block');
  await device.sync('l2-after-refcount');
  await device.sync('writethrough');
  await device.sync('writethrough');
  await device.punchHole(0, 512, 'data');
  await device.truncate(1_000_000, 'data');
  await device.read(0, new Uint8Array(512), 'backing-read');
}

test('every operation is counted by purpose, every sync by cause, in the shape of the result file', async () => {
  const meter = new HostMeter();
  const device = new Meter(new MemoryDevice(), meter);
  meter.enterPhase('run');
  await run(device);
  meter.countElided();
  expect(meter.counts('run')).toEqual({
    writes: {
      ops: 3,
      bytes: 135_168,
      byPurpose: {
        'refcount-block': { ops: 1, bytes: 65_536 },
        data: { ops: 2, bytes: 8192 },
        cow: { ops: 0, bytes: 61_440 },
      },
    },
    zeroRanges: { ops: 1, bytes: 65_536, byPurpose: { cow: { ops: 1, bytes: 65_536 } } },
    punchHoles: { ops: 1, bytes: 512, byPurpose: { data: { ops: 1, bytes: 512 } } },
    truncates: { ops: 1, bytes: 0, byPurpose: { data: { ops: 1, bytes: 0 } } },
    reads: { ops: 1, bytes: 512, byPurpose: { 'backing-read': { ops: 1, bytes: 512 } } },
    syncs: { ops: 3, elided: 1, byCause: { 'l2-after-refcount': 1, writethrough: 2 } },
  });
  expect(meter.counts('open')).toEqual(NOTHING);
  expect(meter.counts('close')).toEqual(NOTHING);
});

test('phases are counted apart, and several files go into one meter', async () => {
  const meter = new HostMeter();
  const image = new Meter(new MemoryDevice(), meter);
  const backing = new Meter(new MemoryDevice({ label: 'backing:0' }), meter);
  await image.read(0, new Uint8Array(104), 'header');
  await backing.read(0, new Uint8Array(104), 'header');
  meter.enterPhase('close');
  await image.sync('close');
  expect(meter.counts('open').reads).toMatchObject({ ops: 2, bytes: 208 });
  expect(meter.counts('run')).toEqual(NOTHING);
  expect(meter.counts('close').syncs).toEqual({ ops: 1, elided: 0, byCause: { close: 1 } });
});

test('counts handed out do not change afterwards', () => {
  const meter = new HostMeter();
  const before = meter.counts('open');
  meter.count('write', 'data', 1);
  expect(before).toEqual(NOTHING);
});

test('the host log holds every operation in order of issue, in the form of the documentation', async () => {
  const records: HostLogRecord[] = [];
  const device = new HostLog(new MemoryDevice(), {
    phases: { phase: 'run' },
    sink: (record) => records.push(record),
  });
  await run(device);
  const at = { phase: 'run', file: 'image' };
  expect(JSON.parse(JSON.stringify(records))).toEqual([
    { ...at, op: 'zero-range', offset: 327_680, length: 65_536, purpose: 'cow' },
    { ...at, op: 'write', offset: 327_680, length: 4096, purpose: 'data' },
    {
      ...at,
      op: 'write',
      offset: 393_216,
      length: 65_536,
      purpose: 'data',
      parts: [
        ['cow', 28_672],
        ['data', 4096],
        ['cow', 32_768],
      ],
    },
    { ...at, op: 'write', offset: 131_072, length: 65_536, purpose: 'refcount-block' },
    { ...at, op: 'sync', cause: 'l2-after-refcount' },
    { ...at, op: 'sync', cause: 'writethrough' },
    { ...at, op: 'sync', cause: 'writethrough' },
    { ...at, op: 'punch-hole', offset: 0, length: 512, purpose: 'data' },
    { ...at, op: 'truncate', offset: 1_000_000, length: 0, purpose: 'data' },
    { ...at, op: 'read', offset: 0, length: 512, purpose: 'backing-read' },
  ]);
  expect(JSON.stringify(records[1])).toBe(
    '{"phase":"run","op":"write","file":"image","offset":327680,"length":4096,"purpose":"data"}',
  );
});
