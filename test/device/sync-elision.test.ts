import { describe, expect, test } from 'vitest';
import type { Pending } from '../../src/core/pending.ts';
import { FaultDevice } from '../../src/device/fault.ts';
import { HostMeter } from '../../src/device/host-meter.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { Meter } from '../../src/device/meter.ts';
import { SyncElision } from '../../src/device/sync-elision.ts';
import { discardRange } from '../../src/device/zeroing.ts';
import { SlowDevice } from './slow-device.ts';

function synchronous(options: { neverSync?: boolean } = {}): { device: SyncElision; issued: () => object } {
  const meter = new HostMeter();
  const device = new SyncElision(new Meter(new MemoryDevice(), meter), {
    ...options,
    onElided: () => {
      meter.countElided();
    },
  });
  return { device, issued: () => meter.counts('open').syncs };
}

describe('R1', () => {
  test('each discard counts as a change, also where the file system has no holes', async () => {
    const meter = new HostMeter();
    const device = new SyncElision(new Meter(new MemoryDevice({ canPunchHole: false }), meter));
    for (let count = 0; count < 2; count++) {
      await discardRange(device, 0, 512, 'data');
      await device.sync('guest-flush');
      await device.sync('guest-flush');
    }
    expect(meter.counts('open').syncs).toMatchObject({ ops: 2 });
  });

  test('a sync with nothing written since the last is elided, and reported', async () => {
    const { device, issued } = synchronous();
    await device.sync('guest-flush');
    await device.write(0, new Uint8Array(1), 'data');
    await device.sync('guest-flush');
    await device.sync('close');
    expect(issued()).toEqual({ ops: 1, elided: 2, byCause: { 'guest-flush': 1 } });
  });

  test.each<[string, (device: SyncElision) => Pending]>([
    ['write', (device) => device.write(0, new Uint8Array(1), 'data')],
    ['merged write', (device) => device.writeMerged(0, [{ purpose: 'data', bytes: new Uint8Array(1) }])],
    ['zero-range', (device) => device.zeroRange(0, 512, 'cow')],
    ['punch-hole', (device) => device.punchHole(0, 512, 'data')],
    ['truncate', (device) => device.truncate(512, 'data')],
  ])('a %s keeps the next sync', async (_name, change) => {
    const { device, issued } = synchronous();
    await change(device);
    await device.sync('fua');
    expect(issued()).toMatchObject({ ops: 1, elided: 0 });
  });

  test('a read does not', async () => {
    const { device, issued } = synchronous();
    await device.read(0, new Uint8Array(1), 'data');
    await device.sync('fua');
    expect(issued()).toMatchObject({ ops: 0, elided: 1 });
  });

  test('cache=unsafe never syncs, and elides nothing', async () => {
    const { device, issued } = synchronous({ neverSync: true });
    await device.write(0, new Uint8Array(1), 'data');
    await device.sync('guest-flush');
    await device.sync('guest-flush');
    expect(issued()).toEqual({ ops: 0, elided: 0, byCause: {} });
  });

  test('a failed sync covers nothing, and a failed write needs a sync', async () => {
    let failing: string | undefined = 'write';
    let syncs = 0;
    const faults = new FaultDevice(new MemoryDevice(), ({ op }) => {
      if (op === 'sync') syncs++;
      return op === failing ? 'EIO' : undefined;
    });
    const device = new SyncElision(faults);
    expect(() => device.write(0, new Uint8Array(1), 'data')).toThrow('EIO');
    await device.sync('guest-flush');
    expect(syncs).toBe(1);
    failing = 'sync';
    await device.write(0, new Uint8Array(1), 'data');
    expect(() => device.sync('guest-flush')).toThrow('EIO');
    expect(() => device.sync('guest-flush')).toThrow('EIO');
    expect(syncs).toBe(2);
  });
});

test('a sync that need not cover the last changes is elided if there are no others, and they keep the next one', () => {
  const { device, issued } = synchronous();
  void device.write(0, new Uint8Array(1), 'data');
  void device.sync('guest-flush');
  void device.write(1, new Uint8Array(1), 'data');
  void device.zeroRange(0, 1, 'cow');
  void device.sync('refcount-growth', 2);
  expect(issued()).toEqual({ ops: 1, elided: 1, byCause: { 'guest-flush': 1 } });
  void device.sync('refcount-growth', 1);
  expect(issued()).toEqual({ ops: 2, elided: 1, byCause: { 'guest-flush': 1, 'refcount-growth': 1 } });
  void device.sync('close');
  void device.sync('close');
  expect(issued()).toMatchObject({ ops: 3, elided: 2 });
});

describe('syncs at the same time', () => {
  const slow = (): { device: SyncElision; below: SlowDevice; elided: string[] } => {
    const elided: string[] = [];
    const below = new SlowDevice(new MemoryDevice());
    return { device: new SyncElision(below, { onElided: (cause) => elided.push(cause) }), below, elided };
  };

  test('wait for the one in flight, and what it covered is not synced again', async () => {
    const { device, below, elided } = slow();
    await device.write(0, new Uint8Array(1), 'data');
    await Promise.all([device.sync('fua'), device.sync('guest-flush'), device.sync('close')]);
    expect(below.begun.filter((op) => op === 'sync')).toHaveLength(1);
    expect(elided).toEqual(['guest-flush', 'close']);
  });

  test('a write that ends during a sync is covered by the next one only', async () => {
    const { device, below, elided } = slow();
    await device.write(0, new Uint8Array(1), 'data');
    const first = device.sync('fua');
    await device.write(1, new Uint8Array(1), 'data');
    await Promise.all([first, device.sync('guest-flush'), device.sync('close')]);
    expect(below.begun.filter((op) => op === 'sync')).toHaveLength(2);
    expect(elided).toEqual(['close']);
  });

  test('a write still in flight when a sync begins is not covered by it', async () => {
    const { device, below } = slow();
    await device.write(0, new Uint8Array(1), 'data');
    const writing = device.write(1, new Uint8Array(1), 'data');
    await device.sync('guest-flush');
    await writing;
    await device.sync('guest-flush');
    expect(below.begun.filter((op) => op === 'sync')).toHaveLength(2);
  });

  test('a failure in flight leaves those who wait to try themselves', async () => {
    const { device, below } = slow();
    await device.write(0, new Uint8Array(1), 'data');
    let first = true;
    below.gate = async () => {
      await Promise.resolve();
      if (first) {
        first = false;
        throw new Error('lost');
      }
    };
    const results = await Promise.allSettled([device.sync('fua'), device.sync('close')]);
    expect(results.map(({ status }) => status)).toEqual(['rejected', 'fulfilled']);
    expect(below.begun.filter((op) => op === 'sync')).toHaveLength(2);
  });
});
