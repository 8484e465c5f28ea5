import { describe, expect, it } from 'vitest';
import { viewOf } from '../../../src/core/bytes.ts';
import { GuestModel, payload, type DiskShape } from '../guest-model.ts';
import { CHECK, QemuDirectory } from '../qemu-directory.ts';
import { reasonToSkip } from '../system-tools.ts';
import { damageOf, newImage, NO_DAMAGE, openBytes, type OpenedImage } from './image-bytes.ts';

const CLUSTER = 512;
/** With 512-byte clusters one refcount block describes this much of the file … */
const BLOCK_COVERAGE = 256 * CLUSTER;
/** … and one cluster of the refcount table this much. */
const TABLE_COVERAGE = 64 * BLOCK_COVERAGE;
const noQemu = reasonToSkip('qemu-img') !== undefined;

describe('a file that outgrows its refcount structures', () => {
  const qemu = new QemuDirectory();

  async function fill(length: number, refcounts: 'eager' | 'lazy', flushEvery: number): Promise<OpenedImage> {
    const opened = await openBytes(await newImage({ virtualSize: length, clusterSize: CLUSTER, refcounts }));
    for (let at = 0, n = 0; at < length; at += 65_536, n++) {
      await opened.image.write(at, payload(n, at, Math.min(65_536, length - at)));
      if (n % flushEvery === flushEvery - 1) await opened.image.flush('guest-flush');
    }
    return opened;
  }

  async function expectFilled({ image, device }: OpenedImage, length: number): Promise<void> {
    await image.close();
    const shape: DiskShape = {
      format: 'qcow2',
      clusterSize: CLUSTER,
      virtualSize: length,
      regions: [{ start: 0, length }],
    };
    const model = new GuestModel(shape);
    for (let at = 0, n = 0; at < length; at += 65_536, n++) {
      model.apply({ op: 'write', offset: at, length: Math.min(65_536, length - at), fua: false }, n);
    }
    const again = await openBytes(device.contents());
    expect(await damageOf(again.image)).toEqual(NO_DAMAGE);
    const target = new Uint8Array(length);
    await again.image.read(0, target);
    expect(Buffer.compare(target, model.view(0, length))).toBe(0);
    await again.image.close();
    if (noQemu) return;
    qemu.put('disk', device.contents());
    qemu.expectCheck('qcow2', 'disk', CHECK.clean);
    qemu.expectContents('qcow2', 'disk', model);
  }

  it.each(['eager', 'lazy'] as const)('gets further refcount blocks (%s)', async (refcounts) => {
    const length = 5 * BLOCK_COVERAGE;
    const opened = await fill(length, refcounts, 3);
    const { table } = opened.image.refcounts;
    expect(table.entries).toBe(64);
    expect([...table.blockOffsets()].filter((offset) => offset !== 0).length).toBeGreaterThan(5);
    await expectFilled(opened, length);
  });

  it.each(['eager', 'lazy'] as const)(
    'gets a larger refcount table, and the old one is free again (%s)',
    async (refcounts) => {
      const length = TABLE_COVERAGE + 4 * BLOCK_COVERAGE;
      const opened = await fill(length, refcounts, 16);
      expect(opened.image.refcounts.table.entries).toBeGreaterThan(64);
      expect(opened.log.entries).toContainEqual(
        expect.objectContaining({ op: 'write', offset: 48, purpose: 'header' }),
      );
      expect(await opened.image.refcounts.get(1)).toBe(0);
      await expectFilled(opened, length);
    },
  );

  it('never points to a block or a table that is not durable', async () => {
    const { log } = await fill(TABLE_COVERAGE + BLOCK_COVERAGE, 'eager', 50);
    const unsynced = new Set<number>();
    /** What the file was made with is before the first cluster of data. */
    const made = Math.min(
      ...log.entries.map((entry) =>
        entry.op === 'write' && entry.purpose === 'data' ? entry.offset : Infinity,
      ),
    );
    const durable = new Set<number>();
    const expectDurable = (target: number): void => {
      // A block that is still in the cache is not there either.
      if (target >= made) expect(durable).toContain(target);
    };
    const tables = new Map<number, Uint8Array>();
    let pointers = 0;
    for (const entry of log.entries) {
      if (entry.op === 'sync') {
        for (const offset of unsynced) durable.add(offset);
        unsynced.clear();
      }
      if (entry.op !== 'write') continue;
      const { purpose, offset, bytes } = entry;
      const isTable = purpose === 'refcount-table' && bytes.byteLength > 8;
      const isHeader = purpose === 'header' && offset === 48;
      if ((purpose === 'refcount-table' && !isTable) || isHeader) {
        pointers++;
        const target = Number(viewOf(bytes).getBigUint64(0));
        expectDurable(target);
        // With a table come all that it points to.
        if (isHeader) for (const block of entriesOf(tables.get(target))) expectDurable(block);
      }
      if (isTable) tables.set(offset, bytes.slice());
      if (purpose === 'refcount-block' || purpose === 'refcount-table') {
        unsynced.add(offset);
        durable.delete(offset);
      }
    }
    expect(pointers).toBeGreaterThan(60);
    expect(tables.size).toBeGreaterThan(0);
  });
});

/** The blocks of a refcount table that was written whole. */
function entriesOf(table: Uint8Array | undefined): readonly number[] {
  if (table === undefined) throw new Error('the header points to a refcount table that was never written');
  const view = viewOf(table);
  const entries = Array.from({ length: table.byteLength / 8 }, (_, index) =>
    Number(view.getBigUint64(8 * index)),
  );
  return entries.filter((offset) => offset !== 0);
}
