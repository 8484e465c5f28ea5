import { describe, expect, it } from 'vitest';
import { BlockBackend } from '../../../src/format/block-backend.ts';
import type { CacheMode } from '../../../src/format/cache-mode.ts';
import { openImage } from '../../../src/format/registry.ts';
import { filled, RecordedFiles, tally } from '../recorded-files.ts';

const GIB = 1024 ** 3;
const CLUSTER = 65_536;
const noFua = { fua: false };

async function openRecorded(
  cacheMode: CacheMode,
  options: { readonly backed: boolean } = { backed: false },
): Promise<{ files: RecordedFiles; backend: BlockBackend }> {
  const files = new RecordedFiles();
  files.put('base.raw', filled(64 * CLUSTER, 7));
  await files.create('disk.qed', {
    format: 'qed',
    virtualSize: GIB,
    backingFile: options.backed ? { name: 'base.raw', format: 'raw' } : undefined,
  });
  const image = await openImage({ format: 'qed', name: 'disk.qed', files, readOnly: false });
  return { files, backend: new BlockBackend({ image, cacheMode }) };
}

describe('QED: golden figures of a whole run', () => {
  it.each([
    ['writethrough', 1002],
    ['directsync', 1002],
    ['writeback', 3],
    ['none', 3],
  ] as const)('1,000 writes of 4 KiB in %s cost 3,003 writes and %i syncs', async (cacheMode, syncs) => {
    const { files, backend } = await openRecorded(cacheMode);
    const bytes = filled(4096, 1);
    for (let n = 0; n < 1000; n++) await backend.write(n * CLUSTER, bytes, noFua);
    await backend.image.close();
    const { writes, syncs: counted } = tally(files.takeChanges());
    expect({ writes, syncs: counted }).toEqual({ writes: 3003, syncs });
    expect(backend.image.allocatingWrites).toBe(1000);
  });
});

describe('QED: golden figures of one write in the steady state, writethrough', () => {
  it('at the start of a cluster: 3 writes, 1 sync, 66,048 bytes', async () => {
    const { files, backend } = await openRecorded('writethrough');
    await backend.write(0, filled(4096, 1), noFua);
    files.takeChanges();
    await backend.write(CLUSTER, filled(4096, 2), noFua);
    const changes = files.takeChanges();
    expect(changes).toEqual([
      'W cow 659456 61440',
      'W data 655360 4096',
      'W l2-table 393216 512',
      'F writethrough',
    ]);
    expect(tally(changes)).toEqual({ writes: 3, syncs: 1, bytes: 66_048 });
  });

  it('in mid-cluster: 4 writes, 1 sync, 66,048 bytes', async () => {
    const { files, backend } = await openRecorded('writethrough');
    await backend.write(0, filled(4096, 1), noFua);
    files.takeChanges();
    await backend.write(CLUSTER + 8192, filled(4096, 2), noFua);
    expect(tally(files.takeChanges())).toEqual({ writes: 4, syncs: 1, bytes: 66_048 });
  });

  it('over backing data: 3 writes, 2 syncs, 66,048 bytes, data before its table entry', async () => {
    const { files, backend } = await openRecorded('writethrough', { backed: true });
    await backend.write(0, filled(4096, 1), noFua);
    files.takeChanges();
    await backend.write(CLUSTER, filled(4096, 2), noFua);
    const changes = files.takeChanges();
    expect(changes.map((change) => change.split(' ').slice(0, 2).join(' '))).toEqual([
      'W cow',
      'W data',
      'F l2-after-cow',
      'W l2-table',
      'F writethrough',
    ]);
    expect(tally(changes)).toEqual({ writes: 3, syncs: 2, bytes: 66_048 });
  });

  it('overwriting costs one write and one sync, and allocates nothing', async () => {
    const { files, backend } = await openRecorded('writethrough');
    await backend.write(0, filled(CLUSTER, 1), noFua);
    files.takeChanges();
    await backend.write(4096, filled(4096, 2), noFua);
    expect(files.takeChanges()).toEqual(['W data 331776 4096', 'F writethrough']);
    expect(backend.image.allocatingWrites).toBe(1);
  });
});

describe('QED: the sequences around the steady state', () => {
  it('the first write marks the image, and links its new table durably', async () => {
    const { files, backend } = await openRecorded('writeback');
    await backend.write(0, filled(4096, 1), noFua);
    expect(files.takeChanges()).toEqual([
      'W header 0 512',
      'W cow 331776 61440',
      'W data 327680 4096',
      'W l2-table 393216 262144',
      'F l2-table-growth',
      'W l1-table 65536 512',
    ]);
    await backend.image.close();
    expect(files.takeChanges()).toEqual(['F dirty-bit', 'W header 0 512', 'F close']);
  });

  it('with a backing file the image is never marked', async () => {
    const { files, backend } = await openRecorded('writeback', { backed: true });
    await backend.write(0, filled(4096, 1), noFua);
    await backend.image.close();
    const changes = files.takeChanges();
    expect(changes.filter((change) => change.includes('header'))).toEqual([]);
    expect(changes.at(-1)).toBe('F close');
  });

  it('reads of the backing file are counted as such', async () => {
    const { files, backend } = await openRecorded('writeback', { backed: true });
    files.operations.length = 0;
    await backend.write(4096, filled(4096, 1), noFua);
    const reads = files.operations.filter((record) => record.file === 'backing:0');
    expect(reads.map((record) => record.op !== 'sync' && [record.purpose, record.length])).toEqual([
      ['backing-read', 4096],
      ['backing-read', 57_344],
    ]);
  });

  it('an image that nothing was written to is closed without a trace', async () => {
    const { files, backend } = await openRecorded('writethrough');
    await backend.read(0, filled(4096, 1));
    await backend.discard(0, CLUSTER);
    await backend.flush();
    await backend.image.close();
    expect(files.takeChanges()).toEqual([]);
  });

  it('every request on a device that answers at once is answered at once', async () => {
    const { backend } = await openRecorded('writethrough');
    expect(backend.write(0, filled(4096, 1), noFua)).toBeUndefined();
    expect(backend.write(CLUSTER, filled(8192, 1), noFua)).toBeUndefined();
    expect(backend.write(0, filled(4096, 1), noFua)).toBeUndefined();
    expect(backend.read(0, filled(3 * CLUSTER, 1))).toBeUndefined();
  });
});
