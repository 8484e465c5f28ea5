import { expect, test } from 'vitest';

import {
  BuiltinEngine,
  checkImageFile,
  createImageFile,
  findSource,
  HostMeter,
  MemoryStorage,
  openStack,
  planMatrix,
} from '../src/index.ts';

test('the library serves a guest in memory and says what it cost', async () => {
  const storage = new MemoryStorage();
  await createImageFile({ storage, name: 'disk', format: 'qcow2', virtualSize: 2 ** 30, refcounts: 'lazy' });
  const meter = new HostMeter();
  const stack = await openStack({
    storage,
    imageName: 'disk',
    format: 'qcow2',
    cache: 'writethrough',
    meter,
  });
  for (let index = 0; index < 1000; index++) {
    await stack.backend.write(index * 65_536, new Uint8Array(4096).fill(1), { fua: false });
  }
  await stack.close();
  expect(meter.counts('run').syncs.ops + meter.counts('close').syncs.ops).toBe(1006);
  expect((await checkImageFile({ storage, name: 'disk' })).report).toMatchObject({
    corruptions: 0,
    leaks: 0,
  });
});

test('the library counts a cell of a shipped workload', async () => {
  const [plan] = planMatrix({
    sources: [await findSource('stride')],
    formats: ['qcow2'],
    refcounts: ['eager'],
    caches: ['writethrough'],
    clusterSizes: [65_536],
    queueDepths: [1],
    engines: ['builtin'],
    devices: ['memory'],
  });
  if (plan === undefined) throw new Error('no cell was planned');
  const { counts } = await new BuiltinEngine().count(plan, {});
  expect(counts.run.syncs.ops + counts.close.syncs.ops).toBe(2003);
});
