import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FaultDevice } from '../../../src/device/fault.ts';
import type { DiskImage } from '../../../src/format/disk-image.ts';
import { openImage } from '../../../src/format/registry.ts';
import { SlowDevice } from '../../device/slow-device.ts';
import { filled, RecordedFiles } from '../recorded-files.ts';
import { rejectionCodeOf } from '../rejection.ts';

const SECTOR = 512;
const CLUSTER = 4096;
/** Guest bytes behind one second-level table of the smallest clusters. */
const TABLE_SPAN = 8 * 1024 * 1024;
const VIRTUAL_SIZE = 2 * TABLE_SPAN + 5 * SECTOR;
const BASE_CONTENT = makeBaseContent();

interface Setup {
  readonly backed?: boolean;
  readonly slow?: boolean;
  readonly virtualSize?: number;
}

async function openFresh(setup: Setup = {}): Promise<{ files: RecordedFiles; image: DiskImage }> {
  const files = new RecordedFiles();
  files.put('base.raw', BASE_CONTENT);
  await files.create('disk.qed', {
    format: 'qed',
    virtualSize: setup.virtualSize ?? VIRTUAL_SIZE,
    clusterSize: CLUSTER,
    backingFile: setup.backed === true ? { name: 'base.raw', format: 'raw' } : undefined,
  });
  if (setup.slow === true) files.wrap = (device) => new SlowDevice(device);
  return { files, image: await reopen(files) };
}

function reopen(files: RecordedFiles): Promise<DiskImage> {
  return openImage({ format: 'qed', name: 'disk.qed', files, readOnly: false });
}

async function readAll(image: DiskImage): Promise<Uint8Array> {
  const target = filled(image.virtualSize, 0xee);
  await image.read(0, target);
  return target;
}

/** What the guest sees of a fresh disk. */
function freshModel(backed: boolean): Uint8Array {
  const model = filled(VIRTUAL_SIZE, 0);
  if (backed) model.set(BASE_CONTENT);
  return model;
}

/** No two neighbouring sectors are alike, so that one copied to the wrong place shows. */
function makeBaseContent(): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(TABLE_SPAN + 3 * SECTOR);
  for (let at = 0; at < bytes.byteLength; at += SECTOR) {
    bytes.fill(1 + ((at / SECTOR) % 251), at, at + SECTOR);
  }
  return bytes;
}

const request = fc
  .record({
    op: fc.constantFrom('write', 'write', 'write', 'write-zeroes', 'read', 'discard'),
    // Places that meet: the start, the border of two tables, the end.
    place: fc.constantFrom(0, TABLE_SPAN - 8 * CLUSTER, VIRTUAL_SIZE - 24 * CLUSTER - 5 * SECTOR),
    sector: fc.nat(160),
    sectors: fc.integer({ min: 1, max: 37 }),
    value: fc.integer({ min: 1, max: 255 }),
  })
  .map(({ op, place, sector, sectors, value }) => ({
    op,
    offset: place + sector * SECTOR,
    length: sectors * SECTOR,
    value,
  }));

describe('a QED image against a plain array of bytes', () => {
  it.each([
    { backed: false, slow: false },
    { backed: true, slow: false },
    { backed: true, slow: true },
  ])('holds what was written, across reopening (backing file: $backed, slow: $slow)', async (setup) => {
    await fc.assert(
      fc.asyncProperty(fc.array(request, { maxLength: 25 }), async (requests) => {
        const { files, image } = await openFresh(setup);
        const model = freshModel(setup.backed);
        for (const { op, offset, length, value } of requests) {
          if (op === 'write') {
            await image.write(offset, filled(length, value));
            model.fill(value, offset, offset + length);
          } else if (op === 'write-zeroes') {
            await image.writeZeroes(offset, length, { unmap: false });
            model.fill(0, offset, offset + length);
          } else if (op === 'discard') {
            await image.discard(offset, length);
          } else {
            const target = new Uint8Array(length);
            await image.read(offset, target);
            expect(Buffer.compare(target, model.subarray(offset, offset + length))).toBe(0);
          }
        }
        await image.close();
        const again = await reopen(files);
        expect(Buffer.compare(await readAll(again), model)).toBe(0);
        await again.close();
      }),
      { numRuns: setup.slow ? 10 : 25 },
    );
  });

  it('serves overlapping requests at depth as if one came after the other', async () => {
    const { files, image } = await openFresh({ slow: true });
    const cluster = 5 * CLUSTER;
    // Eight writes into parts of the same two unallocated clusters, and reads between them.
    const writes = Array.from({ length: 8 }, async (_, n) =>
      image.write(cluster + n * 2 * SECTOR, filled(2 * SECTOR, n + 1)),
    );
    const reads = [image.read(cluster, new Uint8Array(CLUSTER)), image.read(0, new Uint8Array(CLUSTER))];
    await Promise.all([...writes, ...reads]);
    const expected = new Uint8Array(2 * CLUSTER);
    for (let n = 0; n < 8; n++) expected.fill(n + 1, n * 2 * SECTOR, (n + 1) * 2 * SECTOR);
    await image.close();
    const again = await reopen(files);
    const target = new Uint8Array(2 * CLUSTER);
    await again.read(cluster, target);
    expect(target).toEqual(expected);
    expect(image.allocatingWrites).toBe(2);
  });

  it('reads one table once, however many requests at a time want it', async () => {
    const { files, image } = await openFresh();
    await image.write(0, filled(CLUSTER, 1));
    await image.close();
    files.wrap = (device) => new SlowDevice(device);
    const again = await reopen(files);
    files.operations.length = 0;
    await Promise.all([0, 1, 2, 3].map(async (n) => again.read(n * CLUSTER, new Uint8Array(CLUSTER))));
    const tableReads = files.operations.filter(
      (record) => record.op !== 'sync' && record.purpose === 'l2-table',
    );
    expect(tableReads).toHaveLength(1);
    await again.close();
  });
});

describe('while a table is on its way to the file', () => {
  /** An image whose next write of an existing table waits until `release` is called. */
  async function openGated(): Promise<{
    files: RecordedFiles;
    image: DiskImage;
    atTableWrite: Promise<void>;
    release: () => void;
  }> {
    const tables = 60;
    const { files, image: first } = await openFresh({ virtualSize: tables * TABLE_SPAN });
    for (let n = 0; n < tables; n++) await first.write(n * TABLE_SPAN, filled(SECTOR, n + 1));
    await first.close();
    let release = (): void => {};
    let arrived = (): void => {};
    const gate = new Promise<void>((resolve) => (release = resolve));
    const atTableWrite = new Promise<void>((resolve) => (arrived = resolve));
    files.wrap = (device) => {
      const slow = new SlowDevice(device);
      slow.gate = async () => {
        // The only write of one sector but the header's.
        if (!/^write [1-9][0-9]* 512$/.test(slow.begun.at(-1) ?? '')) return;
        arrived();
        await gate;
      };
      return slow;
    };
    return { files, image: await reopen(files), atTableWrite, release };
  }

  it('a second write to the new cluster is not done before the first is', async () => {
    const { image, atTableWrite, release } = await openGated();
    const order: string[] = [];
    const first = Promise.resolve(image.write(CLUSTER, filled(CLUSTER, 1))).then(() => order.push('first'));
    await atTableWrite;
    const second = Promise.resolve(image.write(CLUSTER, filled(2 * SECTOR, 2))).then(() =>
      order.push('second'),
    );
    for (let n = 0; n < 20; n++) await new Promise((resolve) => setImmediate(resolve));
    expect(order).toEqual([]);
    release();
    await Promise.all([first, second]);
    expect(order).toEqual(['first', 'second']);
    await image.close();
  });

  it('it stays in memory, however many others are read', async () => {
    const { image, atTableWrite, release } = await openGated();
    const write = image.write(CLUSTER, filled(CLUSTER, 9));
    await atTableWrite;
    const target = new Uint8Array(CLUSTER);
    for (let n = 1; n < 60; n++) await image.read(n * TABLE_SPAN, target);
    await image.read(CLUSTER, target);
    expect(target).toEqual(filled(CLUSTER, 9));
    release();
    await write;
    await image.close();
  });
});

describe('allocating writes', () => {
  it('are counted once a request, however many runs it has', async () => {
    const { image } = await openFresh();
    await image.write(TABLE_SPAN - CLUSTER, filled(2 * CLUSTER, 1));
    expect(image.allocatingWrites).toBe(1);
    await image.write(TABLE_SPAN - 2 * CLUSTER, filled(4 * CLUSTER, 2));
    expect(image.allocatingWrites).toBe(2);
    await image.write(TABLE_SPAN - 2 * CLUSTER, filled(4 * CLUSTER, 3));
    expect(image.allocatingWrites).toBe(2);
    await image.close();
  });
});

describe('zero clusters', () => {
  it('a part of one written over leaves zeroes around it, not what the backing file holds', async () => {
    const { image } = await openFresh({ backed: true });
    await image.writeZeroes(0, 2 * CLUSTER, { unmap: false });
    await image.write(SECTOR, filled(SECTOR, 5));
    const target = new Uint8Array(2 * CLUSTER);
    await image.read(0, target);
    const expected = new Uint8Array(2 * CLUSTER).fill(5, SECTOR, 2 * SECTOR);
    expect(target).toEqual(expected);
    await image.close();
  });

  it('take no space in the file, and writing zeroes there again nothing at all', async () => {
    const { files, image } = await openFresh();
    await image.write(0, filled(CLUSTER, 1));
    files.takeChanges();
    await image.writeZeroes(CLUSTER, 4 * CLUSTER, { unmap: false });
    expect(files.takeChanges().map((change) => change.split(' ')[1])).toEqual(['l2-table']);
    await image.writeZeroes(CLUSTER, 4 * CLUSTER, { unmap: true });
    expect(files.takeChanges()).toEqual([]);
    await image.close();
  });
});

describe('the map', () => {
  it('distinguishes data, zeroes and unallocated, up to where they end', async () => {
    const { image } = await openFresh();
    await image.write(CLUSTER, filled(2 * CLUSTER, 1));
    await image.writeZeroes(4 * CLUSTER, CLUSTER, { unmap: false });
    expect(await image.map(0, VIRTUAL_SIZE)).toEqual({
      kind: 'unallocated',
      length: CLUSTER,
      hostOffset: undefined,
    });
    expect(await image.map(CLUSTER + SECTOR, 8 * CLUSTER)).toEqual({
      kind: 'data',
      length: 2 * CLUSTER - SECTOR,
      hostOffset: 5 * CLUSTER + SECTOR,
    });
    expect(await image.map(4 * CLUSTER, 8 * CLUSTER)).toMatchObject({ kind: 'zero', length: CLUSTER });
    expect(await image.map(TABLE_SPAN, 8 * CLUSTER)).toMatchObject({
      kind: 'unallocated',
      length: 8 * CLUSTER,
    });
    await image.close();
  });
});

describe('when the device fails', () => {
  it.each([false, true])(
    'at any operation of a write, the image goes on with what it had (new table: %s)',
    async (freshTable) => {
      // Each operation of the write in its turn: header, fills, data, table, sync, first level.
      for (let failing = 0; failing < 8; failing++) {
        const { files, image: first } = await openFresh();
        if (!freshTable) await first.write(0, filled(CLUSTER, 1));
        await first.close();
        let countdown = Infinity;
        files.wrap = (device) =>
          new FaultDevice(device, ({ op }) => (op !== 'read' && countdown-- === 0 ? 'ENOSPC' : undefined));
        const image = await reopen(files);
        const allocate = () => image.write(3 * CLUSTER + SECTOR, filled(SECTOR, 2));
        countdown = failing;
        const code = await rejectionCodeOf(allocate);
        countdown = Infinity;
        if (code === 'host-sync-failed') {
          await image.abandon();
          continue;
        }
        const target = filled(SECTOR, 9);
        await image.read(3 * CLUSTER + SECTOR, target);
        expect(target).toEqual(filled(SECTOR, code === undefined ? 2 : 0));

        // Once there is room again, the same write succeeds, and is still there after reopening.
        await allocate();
        await image.close();
        const again = await reopen(files);
        await again.read(3 * CLUSTER + SECTOR, target);
        expect(target).toEqual(filled(SECTOR, 2));
        await again.close();
      }
    },
  );
});

describe('more tables than the cache holds', () => {
  it('are written and read back right, and the first to come is the first to go', async () => {
    const tables = 60;
    const { files, image } = await openFresh({ virtualSize: tables * TABLE_SPAN });
    for (let n = 0; n < tables; n++) await image.write(n * TABLE_SPAN, filled(SECTOR, n + 1));
    await image.close();
    const again = await reopen(files);
    const tableReads = async (n: number): Promise<number> => {
      files.operations.length = 0;
      const target = new Uint8Array(SECTOR);
      await again.read(n * TABLE_SPAN, target);
      expect(target).toEqual(filled(SECTOR, n + 1));
      return files.operations.filter((record) => record.op !== 'sync' && record.purpose === 'l2-table')
        .length;
    };
    for (let n = 0; n < 50; n++) expect(await tableReads(n)).toBe(1);
    expect(await tableReads(0)).toBe(0);
    expect(await tableReads(50)).toBe(1);
    expect(await tableReads(0), 'the hit in between did not keep it').toBe(1);
    expect(await tableReads(2)).toBe(0);
    await again.close();
  });
});
