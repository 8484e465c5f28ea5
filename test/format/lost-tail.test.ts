/**
 * An image whose file was cut off, repaired by a check or by an opening: each guest sector holds
 * what was written, or zeroes, or cannot be read where its bytes were lost. It never holds metadata
 * or the data of another sector, also not after further writes, and a second check finds nothing.
 */

import { describe, expect, it } from 'vitest';
import { Qcow2BenchError } from '../../src/core/error.ts';
import { Random } from '../../src/core/random.ts';
import { MemoryStorage } from '../../src/device/memory-storage.ts';
import type { ImageFiles } from '../../src/format/backing-chain.ts';
import type { DiskImage } from '../../src/format/disk-image.ts';
import type { CreateOptions } from '../../src/format/image-options.ts';
import { Qcow2Image } from '../../src/format/qcow2/qcow2-image.ts';
import { createImage, openImage } from '../../src/format/registry.ts';
import { checkImageFile } from '../../src/image/check-image.ts';
import { CHECK, QemuDirectory } from './qemu-directory.ts';
import { reasonToSkip } from './system-tools.ts';

const IMAGE = 'disk';
const SECTOR = 512;
const NOTHING = new Uint8Array(SECTOR);
const SEED = Number(process.env['LOST_TAIL_SEED'] ?? 20_261);
/** QEMU looks at one repaired image in so many. */
const QEMU_STRIDE = 23;
const noQemu = reasonToSkip('qemu-img');

type Bytes = Uint8Array<ArrayBuffer>;

interface Setting extends Pick<CreateOptions, 'refcounts' | 'shape'> {
  readonly what: string;
  readonly format: 'qcow2' | 'qed';
  readonly clusterSize: number;
  readonly compressed?: boolean;
  readonly snapshot?: boolean;
  /** The image is closed before the file is cut. Default false. */
  readonly closed?: boolean;
}

const SETTINGS: readonly Setting[] = [
  { what: 'lazy refcounts', format: 'qcow2', clusterSize: 4096, refcounts: 'lazy' },
  { what: 'lazy refcounts, small clusters', format: 'qcow2', clusterSize: 512, refcounts: 'lazy' },
  {
    what: 'lazy refcounts and subclusters',
    format: 'qcow2',
    clusterSize: 16_384,
    refcounts: 'lazy',
    shape: { extendedL2: true },
  },
  {
    what: 'lazy refcounts and a snapshot',
    format: 'qcow2',
    clusterSize: 4096,
    refcounts: 'lazy',
    snapshot: true,
  },
  { what: 'compressed clusters', format: 'qcow2', clusterSize: 4096, refcounts: 'lazy', compressed: true },
  {
    what: 'reserved clusters',
    format: 'qcow2',
    clusterSize: 4096,
    refcounts: 'lazy',
    shape: { preallocation: 'falloc' },
  },
  { what: 'closed', format: 'qcow2', clusterSize: 4096, closed: true },
  { what: 'closed, small clusters', format: 'qcow2', clusterSize: 512, closed: true },
  {
    what: 'closed, with a snapshot, version 2',
    format: 'qcow2',
    clusterSize: 4096,
    shape: { compat: '0.10' },
    snapshot: true,
    closed: true,
  },
  { what: 'not closed', format: 'qed', clusterSize: 4096 },
  { what: 'closed', format: 'qed', clusterSize: 4096, closed: true },
];

/** What each sector held last, as its version: 0 if it was never written. */
interface Made {
  readonly virtualSize: number;
  readonly bytes: Bytes;
  readonly versions: Uint32Array;
  /** Undefined without a snapshot. */
  readonly inSnapshot: Uint32Array | undefined;
}

/** No two sectors and no two versions of one look alike, and none like metadata. */
function sectorOf(sector: number, version: number): Bytes {
  const bytes = new Uint8Array(SECTOR);
  if (version > 0) new Uint32Array(bytes.buffer).fill((0x5ec7_0000 ^ (version << 20) ^ sector) >>> 0);
  return bytes;
}

async function make(setting: Setting, random: Random): Promise<Made> {
  const { format, clusterSize, refcounts, shape } = setting;
  // Several L2 tables of qcow2.
  const entries = shape?.extendedL2 === true ? clusterSize / 16 : clusterSize / 8;
  const virtualSize = format === 'qed' ? 1024 * 1024 : Math.min(3 * entries, 700) * clusterSize;
  const storage = new MemoryStorage();
  const device = storage.create(IMAGE);
  await createImage({ device, format, virtualSize, clusterSize, refcounts, shape });
  device.close();
  const image = await open(storage);
  const versions = new Uint32Array(virtualSize / SECTOR);
  let inSnapshot: Uint32Array | undefined;
  const perCluster = clusterSize / SECTOR;
  for (let version = 1; version <= 24; version++) {
    const clusters = 1 + random.below(3);
    let first = random.below(virtualSize / clusterSize - clusters) * perCluster;
    let count = clusters * perCluster;
    const isPacked = setting.compressed === true && random.chance(0.5);
    if (isPacked) count = perCluster;
    else if (random.chance(0.3)) first += random.below(count--);
    if (isPacked && versions.subarray(first, first + count).some((each) => each > 0)) continue;
    count = Math.min(count, versions.length - first);
    const data = new Uint8Array(count * SECTOR);
    for (let n = 0; n < count; n++) data.set(sectorOf(first + n, version), n * SECTOR);
    versions.fill(version, first, first + count);
    if (isPacked && image instanceof Qcow2Image) await image.writeCompressed(first * SECTOR, data);
    else await image.write(first * SECTOR, data);
    if (random.chance(0.2)) await image.flush('guest-flush');
    if (version === 12 && setting.snapshot === true && image instanceof Qcow2Image) {
      await image.snapshots.create({ name: 'kept', seconds: 0, nanoseconds: 0 });
      inSnapshot = versions.slice();
    }
  }
  await image.flush('guest-flush');
  if (setting.closed === true) await image.close();
  else await image.abandon();
  return { virtualSize, bytes: storage.open(IMAGE).contents(), versions, inSnapshot };
}

function open(storage: MemoryStorage, readOnly = false): Promise<DiskImage> {
  const files: ImageFiles = { open: (name, options) => storage.open(name, options) };
  return openImage({ format: formatOf(storage), name: IMAGE, files, readOnly });
}

function formatOf(storage: MemoryStorage): 'qcow2' | 'qed' {
  const magic = new Uint8Array(4);
  storage.open(IMAGE).read(0, magic, 'header');
  return magic[3] === 0xfb ? 'qcow2' : 'qed';
}

/**
 * The first sector that holds something it never held, in words. `also` are sectors written since.
 */
async function strangeSector(
  image: DiskImage,
  versions: Uint32Array,
  also: ReadonlySet<number> = new Set(),
): Promise<string | undefined> {
  const cluster = image.clusterSize;
  const read = new Uint8Array(cluster);
  for (let at = 0; at < image.virtualSize; at += cluster) {
    try {
      await image.read(at, read);
    } catch (error) {
      if (error instanceof Qcow2BenchError) continue;
      throw error;
    }
    for (let within = 0; within < cluster; within += SECTOR) {
      const sector = (at + within) / SECTOR;
      if (also.has(sector)) continue;
      const held = read.subarray(within, within + SECTOR);
      if (Buffer.compare(held, NOTHING) === 0) continue;
      const wanted = sectorOf(sector, versions[sector] ?? 0);
      if (Buffer.compare(held, wanted) === 0) continue;
      // A cut within a sector leaves a part of it.
      if (held.some((byte, index) => byte !== 0 && byte !== wanted[index])) {
        return `sector ${String(sector)} holds ${Buffer.from(held.subarray(0, 8)).toString('hex')}`;
      }
    }
  }
  return undefined;
}

/** What is wrong after a repair and further writes, in words. */
async function wrongAfterRepair(
  storage: MemoryStorage,
  made: Made,
  isWhole: boolean,
): Promise<string | undefined> {
  const format = formatOf(storage);
  const { report } = await checkImageFile({ storage, name: IMAGE, format });
  // QED cannot give back what leaked.
  if (isWhole && report.corruptions + report.checkErrors + (format === 'qed' ? 0 : report.leaks) > 0) {
    return `a second check finds: ${report.messages.slice(0, 4).join('; ')}`;
  }
  const image = await open(storage);
  const told = await strangeSector(image, made.versions);
  if (told !== undefined) return told;
  // Further writes, to clusters that had no place as well as to others.
  const written = new Set<number>();
  const step = Math.max(1, Math.floor(made.versions.length / 16));
  for (let sector = 0; sector < made.versions.length; sector += step) {
    try {
      await image.write(sector * SECTOR, sectorOf(sector, 77));
    } catch (error) {
      // A compressed cluster that was lost cannot be read to fill the rest of a new one.
      if (!(error instanceof Qcow2BenchError)) throw error;
    }
    written.add(sector);
  }
  await image.flush('guest-flush');
  const later = await strangeSector(image, made.versions, written);
  if (later !== undefined) return `after further writes ${later}`;
  if (made.inSnapshot !== undefined && image instanceof Qcow2Image) {
    for (const { name, l1Entries } of [...image.snapshots.list]) {
      if (name !== 'kept' || l1Entries === 0) continue;
      await image.snapshots.apply(name);
      const inSnapshot = await strangeSector(image, made.inSnapshot);
      if (inSnapshot !== undefined) return `in the snapshot ${inSnapshot}`;
    }
  }
  await image.close();
  const last = await checkImageFile({ storage, name: IMAGE, format });
  const { corruptions, checkErrors } = last.report;
  return isWhole && corruptions + checkErrors > 0
    ? `a check after further writes finds: ${last.report.messages.slice(0, 4).join('; ')}`
    : undefined;
}

function cut(bytes: Bytes, size: number): MemoryStorage {
  const storage = new MemoryStorage();
  storage.create(IMAGE).write(0, bytes.subarray(0, size), 'data');
  return storage;
}

/** Whether an opening repairs it. */
function isDirty({ bytes }: Made): boolean {
  const [qcow2Features, qedFeatures] = [bytes[79] ?? 0, bytes[16] ?? 0];
  return bytes[3] === 0xfb ? (qcow2Features & 1) === 1 : (qedFeatures & 2) === 2;
}

/** Every cluster's border, and a place within it. */
function* cutsOf({ bytes }: Made, clusterSize: number, random: Random): Generator<number> {
  const most = Math.ceil(bytes.byteLength / clusterSize);
  const step = Math.max(1, Math.floor(most / 12));
  for (let cluster = 1; cluster < most; cluster += step) {
    yield cluster * clusterSize;
    yield cluster * clusterSize + SECTOR * random.below(clusterSize / SECTOR);
    yield cluster * clusterSize + 1 + random.below(clusterSize - 1);
  }
}

describe('an image that lost the tail of its file', () => {
  const qemu = new QemuDirectory();

  it.each(SETTINGS)('is repaired to what is left of it: $format, $what', async (setting) => {
    const random = new Random(SEED);
    const made = await make(setting, random);
    let count = 0;
    let refused = 0;
    let repaired = 0;
    for (const size of cutsOf(made, setting.clusterSize, random)) {
      for (const way of ['check', 'opening'] as const) {
        const storage = cut(made.bytes, size);
        let isWhole = true;
        const told = `seed ${String(SEED)}, cut at ${String(size)} of ${String(made.bytes.byteLength)}, ${way}`;
        try {
          if (way === 'check') {
            const { report } = await checkImageFile({
              storage,
              name: IMAGE,
              format: setting.format,
              repair: 'all',
            });
            isWhole = report.corruptions + report.checkErrors === 0;
            // What was closed keeps its refcounts, and entries that lead past the end, as QEMU
            // leaves it.
            const mayStay = setting.format === 'qcow2' && !isDirty(made);
            expect(isWhole || mayStay, `${told}: ${report.messages.join('; ')}`).toBe(true);
          } else {
            if (!isDirty(made)) continue;
            await (await open(storage)).close();
          }
          // An L1 table at the end of the file is clean to a check, and nothing to open.
          await (await open(storage, true)).close();
        } catch (error) {
          // Where the header's own tables were lost there is no disk any more.
          if (!(error instanceof Qcow2BenchError)) throw error;
          refused++;
          continue;
        }
        repaired++;
        if (isWhole && noQemu === undefined && count++ % QEMU_STRIDE === 0) {
          qemu.put(IMAGE, storage.open(IMAGE).contents());
          const good = setting.format === 'qed' ? [CHECK.clean, CHECK.leaks] : [CHECK.clean];
          expect(good, told).toContain(qemu.check(setting.format, IMAGE).status);
        }
        expect(await wrongAfterRepair(storage, made, isWhole), told).toBeUndefined();
      }
    }
    expect(refused).toBeLessThan(repaired);
  });
});
