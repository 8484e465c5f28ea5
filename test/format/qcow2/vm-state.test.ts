/**
 * A snapshot with the state of a virtual machine, as `savevm` leaves it: memory and devices are in
 * clusters behind the end of the disk, which only the snapshot's L1 table leads to. No tool makes
 * one without a machine, so a larger disk is taken, made smaller, and its snapshot's entry says
 * what is behind.
 */

import { beforeEach, describe, expect, it } from 'vitest';
import { viewOf } from '../../../src/core/bytes.ts';
import type { Qcow2Image } from '../../../src/format/qcow2/qcow2-image.ts';
import { CHECK, QemuDirectory } from '../qemu-directory.ts';
import { reasonToSkip } from '../system-tools.ts';
import { damageOf, NO_DAMAGE, openBytes, patched } from './image-bytes.ts';

const skip = reasonToSkip('qemu-img', 'qemu-io');
const IMAGE = 'disk';
const CLUSTER = 512;
/** Two L2 tables of 64 clusters. */
const DISK_SIZE = 128 * CLUSTER;
/** Behind them, in three more L2 tables. */
const STATE_SIZE = 180 * CLUSTER;
/** Byte offsets: in the header, and in a snapshot's entry. */
const HEADER = { l1Entries: 36, snapshotsOffset: 64 } as const;
const ENTRY = { vmClock: 24, vmStateSize: 32, extraLength: 36, extra: 40 } as const;
/** Id '1' and name 'vm' in an entry with all known extra data, padded to 8. */
const ENTRY_LENGTH = 72;
const TAKEN = { seconds: 1_700_000_000, nanoseconds: 5 };

describe.skipIf(skip !== undefined)('a snapshot with the state of a machine', () => {
  let qemu: QemuDirectory;
  beforeEach(() => {
    qemu = new QemuDirectory();
  });

  /**
   * `savevm` leaves the active L1 table as long as the snapshot's; another program may cut it to
   * the disk's length.
   */
  const lengths = [
    { activeL1: 'as long as that of the snapshot', l1Entries: 5 },
    { activeL1: 'as long as the disk needs', l1Entries: 2 },
  ];

  function make({
    l1Entries,
    stateSize = STATE_SIZE,
  }: {
    l1Entries: number;
    stateSize?: number;
  }): Uint8Array {
    const both = String(DISK_SIZE + STATE_SIZE);
    qemu.img('create', '-q', '-f', 'qcow2', '-o', `cluster_size=${String(CLUSTER)}`, IMAGE, both);
    qemu.io('qcow2', IMAGE, 'write -P 1 0 4k', 'write -P 2 40k 4k', `write -P 9 ${String(DISK_SIZE)} 90k`);
    qemu.img('snapshot', '-c', 'vm', IMAGE);
    qemu.img('resize', '-q', '--shrink', IMAGE, String(DISK_SIZE));
    const bytes = qemu.get(IMAGE);
    const entry = entryOffset(bytes);
    const made = patched(
      bytes,
      { at: HEADER.l1Entries, u32: l1Entries },
      { at: entry + ENTRY.vmClock, u64: 3_723_004_005_006n },
      { at: entry + ENTRY.vmStateSize, u32: stateSize < 2 ** 32 ? stateSize : 0 },
      { at: entry + ENTRY.extra, u64: BigInt(stateSize) },
      { at: entry + ENTRY.extra + 8, u64: BigInt(DISK_SIZE) },
      { at: entry + ENTRY.extra + 16, u64: 77n },
    );
    qemu.put(IMAGE, made);
    return made;
  }

  /** Both checks find nothing. */
  async function expectClean(image: Qcow2Image, bytes: Uint8Array): Promise<void> {
    expect(await damageOf(image)).toEqual(NO_DAMAGE);
    qemu.put('checked', bytes);
    qemu.expectCheck('qcow2', 'checked', CHECK.clean);
  }

  it.each(lengths)('is opened as it is written; the active L1 is $activeL1', async ({ l1Entries }) => {
    const made = make({ l1Entries });
    const { image } = await openBytes(made);
    expect(image.virtualSize).toBe(DISK_SIZE);
    expect(image.snapshots.list).toMatchObject([
      { name: 'vm', vmStateSize: STATE_SIZE, diskSize: DISK_SIZE, l1Entries: 5, icount: 77n },
    ]);
    await expectClean(image, made);
  });

  it.each(lengths)(
    'others come and go, and its entry stays; the active L1 is $activeL1',
    async ({ l1Entries }) => {
      const made = make({ l1Entries });
      const { image, device } = await openBytes(made);
      const before = entryOf(made);
      const clusters = new Map([...stateClusters(made)]);
      for (const name of ['a', 'b']) {
        await image.snapshots.create({ name, ...TAKEN });
        await image.write(0, new Uint8Array(40 * CLUSTER).fill(5));
      }
      await image.flush('guest-flush');
      expect(entryOf(device.contents())).toEqual(before);
      await image.snapshots.delete('a');
      await image.snapshots.delete('b');
      await image.close();
      const after = device.contents();
      expect(entryOf(after)).toEqual(before);
      expect(new Map([...stateClusters(after)])).toEqual(clusters);
      await expectClean((await openBytes(after)).image, after);
    },
  );

  it.each(lengths)(
    'is gone back to, its state still there; the active L1 is $activeL1',
    async ({ l1Entries }) => {
      const made = make({ l1Entries });
      const { image, device } = await openBytes(made);
      await image.write(0, new Uint8Array(DISK_SIZE).fill(5));
      await image.snapshots.apply('vm');
      const disk = new Uint8Array(DISK_SIZE);
      await image.read(0, disk);
      expect([disk[0], disk[4096], disk[40 * 1024], disk[44 * 1024]]).toEqual([1, 0, 2, 0]);
      await image.close();
      const after = device.contents();
      expect(entryOf(after)).toEqual(entryOf(made));
      expect([...stateClusters(after)]).toEqual([...stateClusters(made)]);
      await expectClean((await openBytes(after)).image, after);
    },
  );

  it.each(lengths)('dropped, its clusters are free; the active L1 is $activeL1', async ({ l1Entries }) => {
    const made = make({ l1Entries });
    const { image, device } = await openBytes(made);
    const places = [...stateClusters(made).keys()];
    expect(places).toHaveLength(180);
    await image.snapshots.delete('vm');
    await image.flush('guest-flush');
    for (const place of places) expect(await image.refcounts.get(place / CLUSTER), String(place)).toBe(0);
    await image.close();
    const after = device.contents();
    await expectClean((await openBytes(after)).image, after);
  });

  it('with extra data of a later version, that too is kept', async () => {
    const made = make({ l1Entries: 5 });
    const entry = entryOffset(made);
    const longer = patched(made, { at: entry + ENTRY.extraLength, u32: 32 });
    const idAndName = longer.slice(entry + ENTRY.extra + 24, entry + ENTRY_LENGTH);
    longer.set(Buffer.from('laterver'), entry + ENTRY.extra + 24);
    longer.set(idAndName, entry + ENTRY.extra + 32);
    const { image, device } = await openBytes(longer);
    await image.snapshots.create({ name: 'a', ...TAKEN });
    await image.close();
    const length = ENTRY_LENGTH + 8;
    expect(entryOf(device.contents(), length)).toEqual(entryOf(longer, length));
    qemu.put(IMAGE, device.contents());
    expect(qemu.img('snapshot', '-l', IMAGE)).toMatch(/^1 +vm +90 KiB/m);
  });

  it('more than 32 bits of state: the short field says none, as QEMU writes it, not a size that is wrong', async () => {
    const stateSize = 5 * 2 ** 30;
    const made = make({ l1Entries: 5, stateSize });
    const { image, device } = await openBytes(made);
    await image.snapshots.create({ name: 'a', ...TAKEN });
    await image.close();
    qemu.img('snapshot', '-c', 'a', IMAGE);
    expect(entryOf(device.contents())).toEqual(entryOf(qemu.get(IMAGE)));
    expect(viewOf(entryOf(device.contents())).getUint32(ENTRY.vmStateSize)).toBe(0);
    expect((await openBytes(device.contents())).image.snapshots.list[0]?.vmStateSize).toBe(stateSize);
  });
});

function entryOffset(bytes: Uint8Array): number {
  return Number(viewOf(bytes).getBigUint64(HEADER.snapshotsOffset));
}

/** The first entry of the table. */
function entryOf(bytes: Uint8Array, length = ENTRY_LENGTH): Uint8Array {
  return bytes.slice(entryOffset(bytes), entryOffset(bytes) + length);
}

/**
 * The clusters behind the disk's end that the snapshot leads to: where each is, and what it holds.
 */
function stateClusters(bytes: Uint8Array): ReadonlyMap<number, Uint8Array> {
  const view = viewOf(bytes);
  const offsetAt = (at: number): number => Number(view.getBigUint64(at) & 0x00ff_ffff_ffff_fe00n);
  const l1 = offsetAt(entryOffset(bytes));
  const found = new Map<number, Uint8Array>();
  for (let table = 2; table < 5; table++) {
    const l2 = offsetAt(l1 + table * 8);
    for (let at = l2; l2 !== 0 && at < l2 + CLUSTER; at += 8) {
      const place = offsetAt(at);
      if (place !== 0) found.set(place, bytes.slice(place, place + CLUSTER));
    }
  }
  return found;
}
