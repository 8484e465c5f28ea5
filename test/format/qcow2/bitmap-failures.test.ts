/**
 * A full disk, or a bad one, at every host operation of a close that stores bitmaps: clusters leak
 * at most, the disk holds what was acknowledged, and a bitmap that misses a change says that it is
 * not to be trusted.
 */

import { beforeAll, describe, expect, it } from 'vitest';
import { openStack } from '../../../src/bench/stack.ts';
import { Qcow2BenchError } from '../../../src/core/error.ts';
import { FaultDevice, type FaultEvent } from '../../../src/device/fault.ts';
import { MemoryStorage } from '../../../src/device/memory-storage.ts';
import type { RefcountMode } from '../../../src/format/image-options.ts';
import {
  BITMAP_FLAG,
  bitmapsExtension,
  readBitmapDirectory,
  readBitmapTable,
} from '../../../src/format/qcow2/bitmaps/bitmap-directory.ts';
import { HeaderStore } from '../../../src/format/qcow2/metadata/header-store.ts';
import { INCOMPATIBLE } from '../../../src/format/qcow2/on-disk/layout.ts';
import { MetadataDevice } from '../../../src/format/qcow2/metadata/metadata-device.ts';
import { readHeader } from '../../../src/format/qcow2/open.ts';
import { CHECK, QemuDirectory } from '../qemu-directory.ts';
import { reasonToSkip } from '../system-tools.ts';

const IMAGE = 'disk';
const SECTOR = 512;
/** In sectors of the 3 MiB disk, a bit each: in two of the two clusters of the bitmap `fine`. */
const WRITTEN = [0, 1, 77, 4090, 4100, 6000];
const skip = reasonToSkip('qemu-img', 'qemu-io');
if (skip !== undefined) process.stderr.write(`closes with bitmaps do not fail: ${skip}\n`);

const FAULTS = ['one failed operation', 'a disk that stays full', 'no bitmap written'] as const;
type Fault = (typeof FAULTS)[number];
type Rule = (event: FaultEvent) => string | undefined;

function ruleOf(fault: Fault, failing: number): Rule {
  let count = 0;
  switch (fault) {
    case 'one failed operation':
      return () => (count++ === failing ? 'EIO' : undefined);
    case 'a disk that stays full':
      return ({ op }) =>
        op !== 'read' && op !== 'sync' && op !== 'punch-hole' && count++ >= failing ? 'ENOSPC' : undefined;
    case 'no bitmap written':
      return ({ op, purpose }) =>
        op === 'write' && purpose === 'bitmap' && count++ === failing ? 'EIO' : undefined;
  }
}

interface Closed {
  readonly storage: MemoryStorage;
  readonly error: Qcow2BenchError | undefined;
  /** Whether an operation was made to fail. */
  readonly hasFault: boolean;
}

/**
 * Writes to an image that has bitmaps, and lets the close go wrong; only the first half of the
 * writes is flushed.
 */
async function closeWith(image: Uint8Array, refcounts: RefcountMode, rule: Rule): Promise<Closed> {
  const storage = new MemoryStorage();
  const file = storage.create(IMAGE);
  file.write(0, image, 'data');
  file.close();
  let isClosing = false;
  let hasFault = false;
  const stack = await openStack({
    storage,
    imageName: IMAGE,
    format: 'qcow2',
    cache: 'writeback',
    refcounts,
    wrap: (inner) =>
      new FaultDevice(inner, (event) => {
        const code = isClosing ? rule(event) : undefined;
        hasFault ||= code !== undefined;
        return code;
      }),
  });
  for (const [index, sector] of WRITTEN.entries()) {
    if (index === WRITTEN.length / 2) await stack.backend.flush();
    await stack.backend.write(sector * SECTOR, new Uint8Array(SECTOR).fill(index + 1), { fua: false });
  }
  isClosing = true;
  try {
    await stack.close();
    return { storage, error: undefined, hasFault };
  } catch (error) {
    if (!(error instanceof Qcow2BenchError)) throw error;
    return { storage, error, hasFault };
  }
}

/**
 * What the file says of its bitmaps: for each whether it is in use, and if not, the sectors whose
 * bit is set.
 */
async function bitmapsOf(storage: MemoryStorage): Promise<ReadonlyMap<string, readonly number[] | 'in use'>> {
  const device = storage.open(IMAGE, { readOnly: true });
  const header = new HeaderStore(new MetadataDevice(device), await readHeader(device), true);
  const found = bitmapsExtension(header);
  if (found?.isConsistent !== true) throw new Error('the bitmaps are gone');
  const { entries } = await readBitmapDirectory(header, found.extension);
  const bitmaps = new Map<string, readonly number[] | 'in use'>();
  for (const entry of entries) {
    const bits: number[] = [];
    for (const [index, cluster] of (await readBitmapTable(header, entry)).entries()) {
      if (cluster.kind !== 'stored') continue;
      const bytes = new Uint8Array(SECTOR);
      device.read(cluster.hostOffset, bytes, 'bitmap');
      for (let bit = 0; bit < SECTOR * 8; bit++) {
        if (((bytes[bit >>> 3] as number) & (1 << (bit & 7))) !== 0) bits.push(index * SECTOR * 8 + bit);
      }
    }
    bitmaps.set(entry.name, (entry.flags & BITMAP_FLAG.inUse) !== 0 ? 'in use' : bits);
  }
  device.close();
  return bitmaps;
}

async function isDirty(storage: MemoryStorage): Promise<boolean> {
  const device = storage.open(IMAGE, { readOnly: true });
  const { incompatible } = await readHeader(device);
  device.close();
  return (incompatible & INCOMPATIBLE.dirty) !== 0;
}

/** The written sectors that do not hold what was written. */
async function lostSectors(storage: MemoryStorage): Promise<readonly number[]> {
  const stack = await openStack({ storage, imageName: IMAGE, format: 'qcow2', cache: 'writeback' });
  const lost: number[] = [];
  for (const [index, sector] of WRITTEN.entries()) {
    const bytes = new Uint8Array(SECTOR);
    await stack.image.read(sector * SECTOR, bytes);
    if (!bytes.every((byte) => byte === index + 1)) lost.push(sector);
  }
  await stack.close();
  return lost;
}

describe.skipIf(skip !== undefined)('after a failure at any operation of a close with bitmaps', () => {
  const qemu = new QemuDirectory();
  let image = new Uint8Array(0);
  beforeAll(() => {
    if (skip !== undefined) return;
    qemu.img('create', '-q', '-f', 'qcow2', '-o', 'cluster_size=512', IMAGE, '3M');
    qemu.img('bitmap', '--add', '-g', '512', IMAGE, 'fine');
    qemu.img('bitmap', '--add', '-g', '64k', IMAGE, 'coarse');
    // Bits that are there already, so that the close has old clusters to free.
    qemu.io('qcow2', IMAGE, 'write -P 9 200k 512', 'write -P 9 2900k 512');
    image = qemu.get(IMAGE);
  });

  const cases = (['eager', 'lazy'] as const).flatMap((refcounts) =>
    FAULTS.map((fault) => ({ refcounts, fault })),
  );
  it.each(cases)(
    '$refcounts refcounts, $fault: nothing acknowledged is lost',
    async ({ refcounts, fault }) => {
      const outcomes = { failed: 0, inUse: 0, stored: 0 };
      let hasFailed = true;
      for (let failing = 0; hasFailed; failing++) {
        const { storage, error, hasFault } = await closeWith(image, refcounts, ruleOf(fault, failing));
        hasFailed = hasFault;
        const what = `operation ${String(failing)}`;
        if (error !== undefined) outcomes.failed++;
        const fine = (await bitmapsOf(storage)).get('fine');
        if (fine === 'in use') outcomes.inUse++;
        else {
          outcomes.stored++;
          expect(fine, what).toEqual(WRITTEN.concat(400, 5800).sort((a, b) => a - b));
        }
        if (error === undefined) expect(fine, what).not.toBe('in use');
        const dirty = await isDirty(storage);
        if (error === undefined) expect(dirty, what).toBe(false);
        if (fault === 'no bitmap written' && error !== undefined) {
          // As QEMU 7.2 leaves it: refcounts are written, and the dirty bit stays.
          expect(dirty, what).toBe(refcounts === 'lazy');
        }
        qemu.put(IMAGE, storage.open(IMAGE).contents());
        // Refcounts of a dirty image need not be right.
        if (dirty && fault !== 'no bitmap written') qemu.check('qcow2', IMAGE, '-r', 'all');
        qemu.expectCheck('qcow2', IMAGE, CHECK.clean, CHECK.leaks);
        const lost = await lostSectors(storage);
        const mayBeLost = fault === 'no bitmap written' ? [] : WRITTEN.slice(WRITTEN.length / 2);
        expect(
          lost.filter((sector) => !mayBeLost.includes(sector)),
          what,
        ).toEqual([]);
      }
      expect(outcomes.failed).toBeGreaterThan(3);
      expect(outcomes.inUse).toBeGreaterThan(3);
      expect(outcomes.stored).toBeGreaterThan(0);
    },
  );
});
