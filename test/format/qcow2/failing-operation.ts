/**
 * Operations on whole images, each ended in the middle by a host operation that fails. Small images,
 * so that all of it can be tried.
 */

import { createHash } from 'node:crypto';

import type { Pending } from '../../../src/core/pending.ts';
import type { BlockDevice } from '../../../src/device/block-device.ts';
import { DeviceFilter } from '../../../src/device/filter.ts';
import type { MemoryDevice } from '../../../src/device/memory-device.ts';
import { MemoryStorage } from '../../../src/device/memory-storage.ts';
import type { OpenOptions } from '../../../src/device/storage.ts';
import type { CheckReport } from '../../../src/format/check-report.ts';
import type { Preallocation } from '../../../src/format/image-shape.ts';
import { Qcow2Image } from '../../../src/format/qcow2/qcow2-image.ts';
import { createImage, openImage } from '../../../src/format/registry.ts';
import { checkImageFile } from '../../../src/image/check-image.ts';

const IMAGE = 'disk';
const SECTOR = 512;
export const DISK_CLUSTERS = 500;

type Bytes = Uint8Array<ArrayBuffer>;

/** What the guest may rely on in the image. */
export interface Guest {
  readonly disk: Bytes;
  readonly snapshots: ReadonlyMap<string, Bytes>;
}

interface Start {
  readonly file: MemoryDevice;
  readonly guest: Guest;
}

export interface StartOptions {
  readonly clusterSize: number;
  /** Left open when its file is copied: its refcounts have to be built again. */
  readonly isDirty?: boolean;
  readonly hasSnapshots?: boolean;
}

/**
 * Several L2 tables, and refcount blocks where clusters are small. Much of the end of the disk is
 * written.
 */
export async function makeStart({ clusterSize, isDirty, hasSnapshots }: StartOptions): Promise<Start> {
  const storage = new MemoryStorage();
  const device = storage.create(IMAGE);
  const virtualSize = DISK_CLUSTERS * clusterSize;
  const refcounts = isDirty === true ? 'lazy' : 'eager';
  await createImage({ device, format: 'qcow2', virtualSize, clusterSize, refcounts });
  device.close();
  const disk = new Uint8Array(virtualSize);
  const snapshots = new Map<string, Bytes>();
  const image = await openQcow2(storage.open(IMAGE));
  const write = async (byte: number, cluster: number, count: number): Promise<void> => {
    const [from, to] = [cluster * clusterSize, (cluster + count) * clusterSize];
    disk.fill(byte, from, to);
    await image.write(from, disk.subarray(from, to));
  };
  await write(1, 0, 5);
  await write(2, 70, 3);
  if (hasSnapshots === true) {
    await image.snapshots.create({ name: 'a', seconds: 0, nanoseconds: 0 });
    snapshots.set('a', disk.slice());
    await write(3, 2, 2);
    await image.snapshots.create({ name: 'b', seconds: 0, nanoseconds: 0 });
    snapshots.set('b', disk.slice());
  }
  await write(4, 150, clusterSize === SECTOR ? 300 : 40);
  await write(5, 4, 2);
  // Behind the last refcount block but one, in an early L2 table.
  await write(6, 110, 10);
  await image.flush('guest-flush');
  if (isDirty === true) await image.abandon();
  else await image.close();
  return { file: storage.open(IMAGE).clone(), guest: { disk, snapshots } };
}

/** Something done to an image, from its opening to its close. */
export type Operation = (device: BlockDevice) => Promise<void>;

export const repair: Operation = async (device) => {
  await check(device, 'all');
};

export const openAndClose: Operation = async (device) => {
  await (await openQcow2(device)).close();
};

/** Something done to the open image; as a command, it closes the image also after a failure. */
export function onImage(work: (image: Qcow2Image) => Promise<unknown>): Operation {
  return async (device) => {
    const image = await openQcow2(device);
    try {
      await work(image);
    } catch (error) {
      await image.close().catch(() => undefined);
      throw error;
    }
    await image.close();
  };
}

export const resizeTo = (virtualSize: number, preallocation: Preallocation = 'off'): Operation =>
  onImage((image) => image.resize(virtualSize, preallocation));

export interface Expected {
  /** Disks that the image may hold, each of its own size. */
  readonly disks: readonly Bytes[];
  /** Where the disk is about to end: each sector behind that holds what it held, or zeroes. */
  readonly lostFrom?: number;
  /** Names of snapshots that may be missing, or there. */
  readonly mayVary?: readonly string[];
  readonly snapshots: ReadonlyMap<string, Bytes>;
  /** A crash leaves leaks at most, so that nothing has to be repaired before the next write. */
  readonly staysSound?: boolean;
}

/** What is lost or broken in a file, in words; nothing if it is sound. */
type LossOf = (file: MemoryDevice) => Promise<string | undefined>;

/** Inspects files that an operation may leave. Files with the same bytes are inspected once. */
export function lossInspector(expected: Expected): LossOf {
  const guest = oncePerContents((file) => guestLoss(file, expected));
  return oncePerContents((file) => lossOf(file, expected, guest));
}

/**
 * `look`, which changes the file that it gets, at a copy of each file whose bytes it has not seen.
 */
function oncePerContents(look: LossOf): LossOf {
  const seen = new Map<string, Promise<string | undefined>>();
  return (file) => {
    const digest = digestOf(file);
    const found = seen.get(digest) ?? look(file.clone());
    seen.set(digest, found);
    return found;
  };
}

function digestOf(file: MemoryDevice): string {
  return createHash('sha256').update(file.contents()).digest('base64');
}

/** The file is repaired first, unless it opens; a file that opens is repaired afterwards. */
async function lossOf(
  file: MemoryDevice,
  expected: Expected,
  guestLossOf: LossOf,
): Promise<string | undefined> {
  const first = await check(file.clone(), undefined).catch(String);
  // A dirty image is repaired by the opening itself.
  const isDirty = ((file.contents()[79] ?? 0) & 1) === 1;
  const isSound = isDirty || (typeof first !== 'string' && first.corruptions + first.checkErrors === 0);
  if (!isSound && expected.staysSound === true) {
    return `before a repair: ${typeof first === 'string' ? first : (problemOf(first) ?? '')}`;
  }
  const repaired = file.clone();
  const report = await check(repaired, 'all');
  const left = problemOf(report) ?? problemOf(await check(repaired, undefined));
  if (left !== undefined) return `after a repair: ${left}`;
  return (await guestLossOf(repaired)) ?? (isSound ? guestLossOf(file) : undefined);
}

function problemOf({ corruptions, leaks, checkErrors, messages }: CheckReport): string | undefined {
  if (corruptions + leaks + checkErrors === 0) return undefined;
  return `${messages.slice(0, 6).join('; ')} (${String(corruptions)} corruptions, ${String(leaks)} leaks, ${String(checkErrors)} errors)`;
}

/** Opens the image for writing, and looks at the disk and each snapshot. */
async function guestLoss(file: MemoryDevice, expected: Expected): Promise<string | undefined> {
  const image = await openQcow2(file);
  const held = await contentsOf(image);
  const { lostFrom = Infinity } = expected;
  const ats = expected.disks
    .filter(({ byteLength }) => byteLength === held.byteLength)
    .map((disk) =>
      Buffer.compare(held, disk) === 0
        ? -1
        : held.findIndex((byte, index) => byte !== disk[index] && !(index >= lostFrom && byte === 0)),
    );
  const at = Math.max(...ats);
  if (!ats.includes(-1)) {
    return `the disk of ${String(held.byteLength)} bytes holds ${String(held[at])} at ${String(at)}`;
  }
  const names = image.snapshots.list.map(({ name }) => name);
  for (const name of expected.snapshots.keys()) {
    if (!names.includes(name) && expected.mayVary?.includes(name) !== true) return `snapshot ${name} is gone`;
  }
  for (const name of names) {
    const wanted = expected.snapshots.get(name);
    if (wanted === undefined) return `an unexpected snapshot ${name}`;
    await image.snapshots.apply(name);
    if (Buffer.compare(await contentsOf(image), wanted) !== 0) return `snapshot ${name} holds something else`;
  }
  await image.close();
  return undefined;
}

async function contentsOf(image: Qcow2Image): Promise<Bytes> {
  const bytes = new Uint8Array(image.virtualSize);
  await image.read(0, bytes);
  return bytes;
}

async function check(device: BlockDevice, scope: 'all' | undefined): Promise<CheckReport> {
  const storage = new OneFile(device);
  return (await checkImageFile({ storage, name: IMAGE, format: 'qcow2', repair: scope })).report;
}

async function openQcow2(device: BlockDevice): Promise<Qcow2Image> {
  const files = { open: () => new StaysOpen(device) };
  const image = await openImage({
    format: 'qcow2',
    name: IMAGE,
    files,
    readOnly: false,
    discard: 'unmap',
  });
  if (!(image instanceof Qcow2Image)) throw new Error('not a qcow2 image');
  return image;
}

/** A file that can be opened again and again. */
class StaysOpen extends DeviceFilter {
  override close(): Pending {
    return undefined;
  }
}

/** A storage whose one file is a device that is there already. */
class OneFile extends MemoryStorage {
  readonly #file: BlockDevice;

  constructor(file: BlockDevice) {
    super();
    this.#file = file;
  }

  override open(_name: string, _options?: OpenOptions): MemoryDevice {
    return new StaysOpen(this.#file) as unknown as MemoryDevice;
  }
}
