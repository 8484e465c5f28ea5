import { beforeEach, describe, expect, it } from 'vitest';
import { FaultDevice } from '../../../src/device/fault.ts';
import { CHECK, QemuDirectory } from '../qemu-directory.ts';
import { filled } from '../recorded-files.ts';
import { rejectionCodeOf } from '../rejection.ts';
import { reasonToSkip } from '../system-tools.ts';
import { damageOf, newImage, NO_DAMAGE, openBytes, patched } from './image-bytes.ts';

const MIB = 1024 * 1024;
const CLUSTER = 65_536;
const noQemu = reasonToSkip('qemu-img', 'qemu-io');
const IMAGE = 'disk';

/** The bytes of an image with lazy refcounts that was written to and never closed. */
async function dirtyImage(clusterSize = CLUSTER): Promise<Uint8Array<ArrayBuffer>> {
  const created = await newImage({ virtualSize: 4 * MIB, clusterSize, refcounts: 'lazy' });
  const { image, device } = await openBytes(created);
  for (let n = 0; n < 8; n++) await image.write(n * 3 * CLUSTER, filled(CLUSTER, n + 1));
  await image.discard(3 * CLUSTER, CLUSTER);
  await image.flush('guest-flush');
  await image.abandon();
  return device.contents();
}

describe('an image that was not closed', () => {
  it('is repaired when it is opened for writing: nothing is missing, the dirty bit is gone', async () => {
    const bytes = await dirtyImage();
    const { image, device } = await openBytes(bytes);
    expect(image.header.isDirty).toBe(false);
    expect(await damageOf(image)).toEqual(NO_DAMAGE);
    const target = new Uint8Array(CLUSTER);
    for (let n = 0; n < 8; n++) {
      await image.read(n * 3 * CLUSTER, target);
      expect(target).toEqual(filled(CLUSTER, n === 1 ? 0 : n + 1));
    }
    await image.close();
    expect(device.contents()[79]).toBe(0);
  });

  it('is repaired durably before the dirty bit goes', async () => {
    const { image, log } = await openBytes(await dirtyImage());
    const cleared = log.entries.findIndex((entry) => entry.op === 'write' && entry.offset === 0);
    expect(cleared).toBeGreaterThan(0);
    expect(log.entries[cleared - 1]?.op).toBe('sync');
    await image.close();
  });

  it('is read as it is, and nothing is written, when it is opened read-only', async () => {
    const bytes = await dirtyImage();
    const { image, log, device } = await openBytes(bytes, { readOnly: true });
    const target = new Uint8Array(CLUSTER);
    await image.read(6 * CLUSTER, target);
    expect(target).toEqual(filled(CLUSTER, 3));
    await image.close();
    expect(log.entries).toEqual([]);
    expect(Buffer.compare(device.contents(), bytes)).toBe(0);
  });

  it('is left dirty by a check that repairs nothing', async () => {
    const bytes = await dirtyImage();
    const { image, log } = await openBytes(bytes, { readOnly: true, forCheck: true });
    const { corruptions } = await image.check();
    expect(corruptions).toBeGreaterThan(0);
    await image.close();
    expect(log.entries).toEqual([]);
  });

  it('stays dirty after a repair of leaks that could not repair it, also when it is closed', async () => {
    const { image, device } = await openBytes(await dirtyImage(), { forCheck: true });
    const { corruptions, checkErrors } = await image.check('leaks');
    expect(corruptions + checkErrors).toBeGreaterThan(0);
    await image.abandon();
    expect(device.contents()[79]).toBe(1);
  });

  it('stays dirty, and whole, whichever operation of the repair fails', async () => {
    const bytes = await dirtyImage(512);
    for (let failing = 0; ; failing++) {
      let countdown = failing;
      const wrap = (device: ConstructorParameters<typeof FaultDevice>[0]) =>
        new FaultDevice(device, ({ op }) => (op !== 'read' && countdown-- === 0 ? 'EIO' : undefined));
      let left: Uint8Array | undefined;
      const code = await rejectionCodeOf(async () => {
        const { image, device } = await openBytes(bytes, {
          wrap: (device) => {
            const faulty = wrap(device);
            left = undefined;
            return faulty;
          },
        });
        left = device.contents();
        await image.abandon();
      });
      if (code === undefined && countdown >= 0) {
        expect(failing).toBeGreaterThan(4);
        expect(left?.[79]).toBe(0);
        return;
      }
    }
  });
});

describe.skipIf(noQemu !== undefined)('a repair leaves the bytes that QEMU leaves', () => {
  let qemu: QemuDirectory;
  beforeEach(() => {
    qemu = new QemuDirectory();
  });

  const cases: readonly {
    readonly what: string;
    readonly settings: string;
    readonly commands: readonly string[];
  }[] = [
    { what: 'one write', settings: 'cluster_size=65536', commands: ['write -P 1 0 4k'] },
    {
      what: 'writes in several tables',
      settings: 'cluster_size=4096',
      commands: ['write -P 1 0 100k', 'write -P 2 3M 64k', 'flush', 'write -P 3 20M 9k', 'flush'],
    },
    {
      what: 'more refcount blocks than one',
      settings: 'cluster_size=512',
      commands: ['write -P 1 0 700k', 'flush', 'write -P 2 1M 300k', 'flush'],
    },
    {
      what: 'a larger refcount table',
      settings: 'cluster_size=512',
      commands: ['write -P 1 0 5M', 'write -P 1 5M 4M', 'flush'],
    },
    {
      what: 'freed clusters',
      settings: 'cluster_size=4096',
      commands: [
        'write -P 1 0 512k',
        'flush',
        'discard 64k 64k',
        'write -z -u 256k 64k',
        'write -P 2 1M 32k',
        'flush',
      ],
    },
    {
      what: 'refcounts of one bit',
      settings: 'cluster_size=4096,refcount_bits=1',
      commands: ['write -P 1 0 100k', 'write -P 2 8M 64k', 'flush'],
    },
  ];
  for (const { what, settings, commands } of cases) {
    it(`after ${what}`, async () => {
      qemu.img('create', '-q', '-f', 'qcow2', '-o', `lazy_refcounts=on,${settings}`, IMAGE, '32M');
      qemu.ioThenCrash('qcow2', IMAGE, ...commands);
      const dirty = qemu.get(IMAGE);
      expect(dirty[79]).toBe(1);
      qemu.io('qcow2', IMAGE, 'read 0 512');
      const { image, device } = await openBytes(dirty);
      await image.read(0, new Uint8Array(512));
      await image.close();
      expect(Buffer.compare(device.contents(), qemu.get(IMAGE))).toBe(0);
    });
  }

  it('where dirty refcounts are too high as well', async () => {
    qemu.put(IMAGE, await dirtyImage());
    const spoilt = qemu.get(IMAGE);
    // Refcounts of clusters 3 (the L1 table) and 200 (past the file's end).
    new DataView(spoilt.buffer).setUint16(2 * CLUSTER + 3 * 2, 7);
    new DataView(spoilt.buffer).setUint16(2 * CLUSTER + 200 * 2, 1);
    qemu.put(IMAGE, spoilt);
    qemu.io('qcow2', IMAGE, 'read 0 512');
    const { image, device } = await openBytes(spoilt);
    await image.read(0, new Uint8Array(512));
    await image.close();
    expect(Buffer.compare(device.contents(), qemu.get(IMAGE))).toBe(0);
    qemu.expectCheck('qcow2', IMAGE, CHECK.clean, CHECK.leaks);
  });
});

describe('an image that cannot be repaired', () => {
  it('is refused for writing and keeps its dirty bit', async () => {
    const bytes = await dirtyImage();
    // The first L2 table's entry 0 leads to an offset that is not a multiple of the cluster.
    const l1 = new DataView(bytes.buffer).getBigUint64(40);
    const l2 = new DataView(bytes.buffer).getBigUint64(Number(l1)) & 0x00ff_ffff_ffff_fe00n;
    const spoilt = patched(bytes, { at: Number(l2), u64: 0x8000_0000_0005_0200n });
    expect(await rejectionCodeOf(() => openBytes(spoilt))).toBe('qcow2-repair-failed');
    const { image } = await openBytes(spoilt, { readOnly: true });
    expect(image.header.isDirty).toBe(true);
    await image.close();
  });
});
