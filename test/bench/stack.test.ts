import { describe, expect, it } from 'vitest';

import { openStack } from '../../src/bench/stack.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { HostLogRecord } from '../../src/device/host-log.ts';
import { MEMORY_CAPABILITIES, MemoryStorage } from '../../src/device/memory-storage.ts';
import { PHASES } from '../../src/device/operation.ts';
import { WriteLog } from '../../src/device/write-log.ts';
import { CACHE_MODE_RULES, CACHE_MODES } from '../../src/format/cache-mode.ts';
import { createImage } from '../../src/format/registry.ts';

const MIB = 1024 * 1024;

async function qcow2In(storage: MemoryStorage, name: string, backing?: string): Promise<void> {
  await createImage({
    device: storage.create(name),
    format: 'qcow2',
    virtualSize: 16 * MIB,
    backingFile: backing === undefined ? undefined : { name: backing, format: 'qcow2' },
  });
}

describe('phases', () => {
  it('follow the life of the image', async () => {
    const storage = new MemoryStorage();
    await qcow2In(storage, 'a');
    const log: HostLogRecord[] = [];
    const hostLog = (record: HostLogRecord): void => void log.push(record);
    await using stack = await openStack({
      storage,
      imageName: 'a',
      format: 'qcow2',
      cache: 'writeback',
      hostLog,
    });
    await stack.backend.write(0, new Uint8Array(4096), { fua: false });
    await stack.close();
    const phases = log.map(({ phase }) => phase);
    expect([...new Set(phases)]).toEqual(['open', 'run', 'close']);
    expect(stack.meter.counts('run').writes.byPurpose.data?.bytes).toBe(4096);
    expect(stack.meter.counts('close').syncs.ops).toBeGreaterThan(0);
  });
});

describe('direct modes', () => {
  it.each(CACHE_MODES)(
    'open every file of the chain alike, with only whole blocks below: %s',
    async (cache) => {
      const { direct } = CACHE_MODE_RULES[cache];
      const storage = new MemoryStorage();
      await qcow2In(storage, 'base');
      await qcow2In(storage, 'top', 'base');
      const opened: [string, number][] = [];
      const wrap = (device: BlockDevice): BlockDevice => {
        opened.push([device.label, device.requestAlignment]);
        return device;
      };
      await using stack = await openStack({ storage, imageName: 'top', format: 'qcow2', cache, wrap });
      await stack.backend.write(512, new Uint8Array(1024), { fua: true });
      await stack.close();
      const alignment = direct ? 512 : 1;
      expect(opened).toEqual([
        ['image', alignment],
        ['backing:0', alignment],
      ]);
    },
  );

  it('are refused where there is no O_DIRECT, and never served buffered', async () => {
    const reason = 'the file system zfs at /tank has no O_DIRECT';
    const storage = new MemoryStorage({ ...MEMORY_CAPABILITIES, direct: { ok: false, reason } });
    await qcow2In(storage, 'a');
    const opening = openStack({ storage, imageName: 'a', format: 'qcow2', cache: 'none' });
    await expect(opening).rejects.toMatchObject({ code: 'no-o-direct' });
  });
});

it('a backing file is open read-only', async () => {
  const storage = new MemoryStorage();
  await qcow2In(storage, 'base');
  await qcow2In(storage, 'top', 'base');
  const devices = new Map<string, BlockDevice>();
  const wrap = (device: BlockDevice): BlockDevice => {
    devices.set(device.label, device);
    return device;
  };
  await using stack = await openStack({
    storage,
    imageName: 'top',
    format: 'qcow2',
    cache: 'writeback',
    wrap,
  });
  expect(stack.image.backing).toBeDefined();
  expect(() => devices.get('backing:0')?.write(0, new Uint8Array(512), 'data')).toThrow(/read-only/);
});

it('leaving the scope without close writes nothing more, as a crash does', async () => {
  const storage = new MemoryStorage();
  await qcow2In(storage, 'a');
  let log: WriteLog | undefined;
  const wrap = (device: BlockDevice): BlockDevice => (log = new WriteLog(device));
  let before: number | undefined;
  {
    await using stack = await openStack({
      storage,
      imageName: 'a',
      format: 'qcow2',
      cache: 'writeback',
      wrap,
    });
    await stack.backend.write(0, new Uint8Array(4096), { fua: false });
    before = log?.entries.length;
  }
  expect(before).toBeGreaterThan(0);
  expect(log?.entries.length).toBe(before);
});

it('an unmetered stack counts nothing', async () => {
  const storage = new MemoryStorage();
  await qcow2In(storage, 'a');
  await using stack = await openStack({
    storage,
    imageName: 'a',
    format: 'qcow2',
    cache: 'unsafe',
    metered: false,
  });
  await stack.backend.write(0, new Uint8Array(4096), { fua: true });
  expect(stack.meter.counts('run').writes.ops).toBe(0);
});

it('unsafe passes on no sync, and elides none', async () => {
  const storage = new MemoryStorage();
  await qcow2In(storage, 'a');
  await using stack = await openStack({ storage, imageName: 'a', format: 'qcow2', cache: 'unsafe' });
  await stack.backend.write(0, new Uint8Array(4096), { fua: true });
  await stack.backend.flush();
  await stack.close();
  for (const phase of PHASES) {
    expect(stack.meter.counts(phase).syncs).toEqual({ ops: 0, elided: 0, byCause: {} });
  }
});

it('a flush with nothing to make durable is counted as elided, below which the device sees no sync', async () => {
  const storage = new MemoryStorage();
  await qcow2In(storage, 'a');
  await using stack = await openStack({ storage, imageName: 'a', format: 'qcow2', cache: 'writeback' });
  await stack.backend.write(0, new Uint8Array(4096), { fua: true });
  const { ops } = stack.meter.counts('run').syncs;
  await stack.backend.flush();
  await stack.backend.flush();
  expect(stack.meter.counts('run').syncs).toMatchObject({ ops, elided: 2 });
});

it('errors of requests name where the image is', async () => {
  const storage = new MemoryStorage();
  await qcow2In(storage, 'a');
  await using stack = await openStack({ storage, imageName: 'a', format: 'qcow2', cache: 'writeback' });
  expect(() => stack.backend.discard(1, 512)).toThrow(/^memory:a, /);
});
