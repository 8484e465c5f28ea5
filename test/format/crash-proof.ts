/**
 * A thin crash proof: cut a recorded run anywhere, lose any of what no sync had covered yet, and
 * see that the image opens again with all data that was acknowledged as durable.
 *
 * What a sector may hold after a crash: what the last durable request left there, or what any
 * request that had begun since would leave. While a discard, or a zero-write that gives its
 * clusters back, is not durable yet, its range may hold anything: another write may have been given
 * the cluster already.
 */

import { Qcow2BenchError } from '../../src/core/error.ts';
import type { Random } from '../../src/core/random.ts';
import type { Pending } from '../../src/core/pending.ts';
import { DeviceFilter } from '../../src/device/filter.ts';
import type { MemoryDevice } from '../../src/device/memory-device.ts';
import { applyLogged, type WriteLogEntry } from '../../src/device/write-log.ts';
import type { ImageFiles } from '../../src/format/backing-chain.ts';
import type { DiskImage } from '../../src/format/disk-image.ts';
import { Qcow2Image } from '../../src/format/qcow2/qcow2-image.ts';
import { openImage } from '../../src/format/registry.ts';
import { IMAGE, type CrashSetup, type Recording } from './crash-workload.ts';
import { discardedRange, payload, SECTOR, type DiskShape, type GuestRequest } from './guest-model.ts';

export interface CrashState {
  /** Which operations are in it, for messages. */
  readonly name: string;
  /** Log entries that were issued. */
  readonly cut: number;
  /** Whether some of what no sync covered is lost. */
  readonly isLossy: boolean;
  readonly image: MemoryDevice;
}

/** What a run's log may have left behind, with how much of it is tried. */
export interface StateSampling {
  readonly random: Random;
  /** A cut that does not end with a sync is taken with this probability. */
  readonly cutShare: number;
  /** States a cut with some of what no sync covered lost. */
  readonly lossyStates: number;
}

/** The part of a recording that crash states are made of. */
export interface RecordedFile extends Pick<Recording, 'entries' | 'base'> {
  readonly setup: Pick<CrashSetup, 'format'>;
}

/** Every cut at a sync, some others, and for each some states with losses. */
export function* crashStates(recording: RecordedFile, sampling: StateSampling): Generator<CrashState> {
  const { entries, base, setup } = recording;
  const { random, cutShare, lossyStates } = sampling;
  // QED's need-check mark has no sync of its own, in QEMU either; what that risks is a test of its
  // own.
  const keeps = (entry: WriteLogEntry): boolean =>
    setup.format === 'qed' && entry.op === 'write' && entry.purpose === 'header';
  const whole = base.clone();
  /** The file with all that is durable, and nothing else. */
  const durable = base.clone();
  let covered = 0;
  for (let cut = 0; cut <= entries.length; cut++) {
    const last = cut === 0 ? undefined : entries[cut - 1];
    if (last !== undefined) applyLogged(whole, last);
    if (last?.op === 'sync') {
      for (const entry of entries.slice(covered, last.covers)) applyLogged(durable, entry);
      covered = last.covers;
    }
    const next = entries[cut];
    if (cut < entries.length && last?.op !== 'sync' && next?.op !== 'sync' && !random.chance(cutShare)) {
      continue;
    }
    yield { name: `the first ${String(cut)} operations`, cut, isLossy: false, image: whole.clone() };
    const open = entries.slice(covered, cut).filter(({ op }) => op !== 'sync');
    if (open.length === 0) continue;
    for (let n = 0; n < lossyStates; n++) {
      const image = durable.clone();
      const kept = applySome(image, open, random, keeps);
      const name = `the first ${String(covered)} operations and of the next ${String(open.length)} ${kept}`;
      yield { name, cut, isLossy: true, image };
    }
  }
}

/** Does some of the operations, and some only in part; says which. */
function applySome(
  image: MemoryDevice,
  entries: readonly WriteLogEntry[],
  random: Random,
  keeps: (entry: WriteLogEntry) => boolean,
): string {
  const share = random.fraction();
  const kept = entries.map((entry) => {
    if (!random.chance(share) && !keeps(entry)) return '-';
    if (entry.op !== 'write' || entry.bytes.byteLength <= SECTOR || random.chance(0.7)) {
      applyLogged(image, entry);
      return '+';
    }
    // A disk writes sectors whole, but in any order.
    for (let at = 0; at < entry.bytes.byteLength; at += SECTOR) {
      if (random.chance(0.5)) continue;
      const bytes = entry.bytes.subarray(at, at + SECTOR);
      applyLogged(image, { ...entry, offset: entry.offset + at, bytes });
    }
    return '~';
  });
  return kept.join('');
}

/**
 * Opens a crash state as a user would after the crash, and looks for anything lost. Changes the
 * state.
 *
 * @returns what is wrong, in words; `undefined` if nothing is
 */
export async function findLoss(recording: Recording, state: CrashState): Promise<string | undefined> {
  const wasDirty = isDirtyQcow2(recording.setup, state.image);
  try {
    const image = await reopen(recording, state.image);
    const problem =
      (await checkQcow2(image, { allowsLeaks: !wasDirty, allowsClearedCopiedFlags: false })) ??
      (await compareGuest(recording, state, image)) ??
      (await tryFurtherWrite(recording, image));
    await image.close();
    return problem ?? (await checkClosed(recording, state));
  } catch (error) {
    if (error instanceof Qcow2BenchError) return error.message;
    throw error;
  }
}

/** After further writes and a clean close the image is not dirty and has no errors. */
async function checkClosed(recording: Recording, state: CrashState): Promise<string | undefined> {
  const { format, refcounts, releases } = recording.setup;
  const files = filesOf(recording, state.image);
  const image = await openImage({ format, name: IMAGE, files, readOnly: true, forCheck: true });
  const isDirty = image instanceof Qcow2Image && image.header.isDirty;
  // With lazy refcounts a freed cluster and the write that took it may both be linked after a
  // crash. Repaired, it is shared; if one of them goes, the other keeps a cleared copied flag, in
  // QEMU too: a copy too many, no loss.
  const shares = refcounts === 'lazy' && releases;
  // Refcounts of clusters past the file's end are not looked at by a repair; leaks show once the
  // file grows.
  const problem = isDirty
    ? 'the image is still dirty'
    : await checkQcow2(image, { allowsLeaks: true, allowsClearedCopiedFlags: shares });
  await image.abandon();
  return problem === undefined ? undefined : `after a clean close: ${problem}`;
}

interface CheckRules {
  readonly allowsLeaks: boolean;
  readonly allowsClearedCopiedFlags: boolean;
}

async function checkQcow2(image: DiskImage, rules: CheckRules): Promise<string | undefined> {
  if (!(image instanceof Qcow2Image)) return undefined;
  const { corruptions, checkErrors, leaks, messages } = await image.check();
  const copiedFlags = messages.filter((message) => message.includes('OFLAG_COPIED data cluster')).length;
  const isGood =
    corruptions - (rules.allowsClearedCopiedFlags ? copiedFlags : 0) === 0 &&
    checkErrors === 0 &&
    (rules.allowsLeaks || leaks === 0);
  return isGood ? undefined : messages.join('\n');
}

/** The bytes of a crash state after it was opened for writing and closed at once. */
export async function repairedBytes(recording: Recording, state: CrashState): Promise<Uint8Array> {
  const image = state.image.clone();
  await (await reopen(recording, image)).close();
  return image.contents();
}

/** Opens the image over the recording's backing file; the state's bytes are changed by it. */
async function reopen(recording: Recording, device: MemoryDevice): Promise<DiskImage> {
  const { format, refcounts } = recording.setup;
  const files = filesOf(recording, device);
  return openImage({ format, name: IMAGE, files, readOnly: false, refcounts });
}

function filesOf(recording: Recording, image: MemoryDevice): ImageFiles {
  return {
    open: (name, options) => (name === IMAGE ? new StaysOpen(image) : recording.storage.open(name, options)),
  };
}

/** A file that can be opened again and again. */
class StaysOpen extends DeviceFilter {
  override close(): Pending {
    return undefined;
  }
}

function isDirtyQcow2(setup: CrashSetup, image: MemoryDevice): boolean {
  if (setup.format !== 'qcow2') return false;
  const field = new Uint8Array(8);
  image.read(72, field, 'header');
  return (field.at(-1) ?? 0) % 2 === 1;
}

/** A request with its number, which its payload carries. */
interface NumberedRequest {
  readonly request: GuestRequest;
  readonly index: number;
}

/** Holds every sector against what it may be. */
async function compareGuest(
  recording: Recording,
  state: CrashState,
  image: DiskImage,
): Promise<string | undefined> {
  const expected = recording.start.clone();
  const durable: NumberedRequest[] = [];
  const underWay: NumberedRequest[] = [];
  for (const [index, { request, startedAt, durableAt }] of recording.requests.entries()) {
    if (durableAt <= state.cut) {
      expected.apply(request, index);
      durable.push({ request, index });
    } else if (startedAt < state.cut) underWay.push({ request, index });
  }
  for (const { start, bytes } of expected.contents) {
    const found = new Uint8Array(bytes.byteLength);
    await image.read(start, found);
    if (Buffer.compare(found, bytes) === 0) continue;
    for (let at = 0; at < bytes.byteLength; at += SECTOR) {
      const offset = start + at;
      const sector = found.subarray(at, at + SECTOR);
      const wanted = bytes.subarray(at, at + SECTOR);
      if (Buffer.compare(sector, wanted) === 0) continue;
      if (underWay.some((each) => explains(recording.shape, each, offset, sector))) continue;
      if (state.isLossy && isUnordered(recording, { offset, wanted, durable, underWay })) continue;
      const hex = (of: Uint8Array): string => Buffer.from(of.subarray(0, 4)).toString('hex');
      return `guest offset ${String(offset)} holds ${hex(sector)} instead of ${hex(wanted)}`;
    }
  }
  return undefined;
}

/** Whether a request that was not durable may have left the sector so. */
function explains(
  shape: DiskShape,
  { request, index }: NumberedRequest,
  offset: number,
  sector: Uint8Array,
): boolean {
  if (!touches(shape, request, offset)) return false;
  switch (request.op) {
    case 'write':
      return Buffer.compare(sector, payload(index, offset, SECTOR)) === 0;
    case 'write-zeroes':
      return request.unmap || sector.every((byte) => byte === 0);
    case 'discard':
      return true;
    case 'read':
    case 'flush':
      return false;
  }
}

function touches(shape: DiskShape, request: GuestRequest, offset: number): boolean {
  if (request.op === 'read' || request.op === 'flush') return false;
  const { offset: from, length } = request;
  const range = request.op === 'discard' ? discardedRange(shape, from, length) : { start: from, length };
  return offset >= range.start && offset < range.start + range.length;
}

/**
 * What lazy refcounts do not order, in QEMU either: no sync is between the data of a new cluster
 * and the L2 entry that points to it, unless the data was copied from a backing file. So a write
 * that is not durable may leave anything where no durable write was, and, if clusters are used
 * again, around its bytes where zeroes were.
 */
function isUnordered(
  { setup, shape }: Recording,
  sector: {
    readonly offset: number;
    readonly wanted: Uint8Array;
    readonly durable: readonly NumberedRequest[];
    readonly underWay: readonly NumberedRequest[];
  },
): boolean {
  if (setup.refcounts !== 'lazy') return false;
  const { clusterSize, releases } = setup;
  const { offset, wanted, durable, underWay } = sector;
  const writes = underWay.map(({ request }) => request).filter((request) => request.op === 'write');
  const isIn = (write: { offset: number; length: number }, unit: number): boolean =>
    offset >= write.offset - (write.offset % unit) &&
    offset < Math.ceil((write.offset + write.length) / unit) * unit;
  const last = durable.findLast(({ request }) => touches(shape, request, offset));
  if (last?.request.op !== 'write' && writes.some((write) => isIn(write, SECTOR))) return true;
  return releases && wanted.every((byte) => byte === 0) && writes.some((write) => isIn(write, clusterSize));
}

/** An allocation after the crash harms no data: the allocator knows which clusters are taken. */
async function tryFurtherWrite(recording: Recording, image: DiskImage): Promise<string | undefined> {
  const before = await readRegions(recording, image);
  const [first] = before;
  if (first === undefined) return undefined;
  const { clusterSize } = recording.setup;
  for (const cluster of [1, 3, 5]) {
    const bytes = payload(3000, first.start + cluster * clusterSize, SECTOR);
    await image.write(first.start + cluster * clusterSize, bytes);
    first.bytes.set(bytes, cluster * clusterSize);
  }
  const after = await readRegions(recording, image);
  const isSame = before.every(
    ({ bytes }, index) => Buffer.compare(bytes, after[index]?.bytes ?? bytes) === 0,
  );
  return isSame ? undefined : 'a write after the crash changed data elsewhere';
}

async function readRegions(recording: Recording, image: DiskImage) {
  const regions: { start: number; bytes: Uint8Array<ArrayBuffer> }[] = [];
  for (const { start, length } of recording.shape.regions) {
    const bytes = new Uint8Array(length);
    await image.read(start, bytes);
    regions.push({ start, bytes });
  }
  return regions;
}
