/**
 * The recording of a cell: the same files, the same stack and the same requests as where it is
 * counted, on memory, with guest data that name their place.
 */

import { unnamedFormat } from '../bench/backing-layers.ts';
import type { CellPlan } from '../bench/engine.ts';
import { Payload } from '../bench/payload.ts';
import { payloadSeed, prepareFiles } from '../bench/prepare.ts';
import { runRequests } from '../bench/runner.ts';
import { openingOf, openStack, type Stack, type WrapDevice } from '../bench/stack.ts';
import { Qcow2BenchError } from '../core/error.ts';
import type { Pending } from '../core/pending.ts';
import { Deferral } from '../device/deferred-device.ts';
import { MemoryStorage } from '../device/memory-storage.ts';
import { dataFileName, hasDataFile } from '../format/image-shape.ts';
import type { Request } from '../workload/request.ts';
import type { FaultInjector, FaultPart } from './faults.ts';
import { copyPages } from './copied-files.ts';
import { PageFiles } from './pages.ts';
import type { ImageFile, Recording, Subject } from './recording.ts';
import { Recorder, type GuestDisk } from './recorder.ts';
import { isImageStep, takeStep, type ImageStep, type Step } from './steps.ts';

const IMAGE = 'disk';
const BACKING = 'base';
/** Writes of the run have numbers from here on; smaller ones are in the image beforehand. */
export const FIRST_WRITE = 0x4000_0000;

export interface RecordOptions {
  /** In place of the cell's workload. */
  readonly requests: readonly Step[];
  /** Put between the image and what is recorded: a fault of the engine that is to be found. */
  readonly deviation?: WrapDevice | undefined;
  /** Put between the image and its files after the crash: a fault of what repairs it. */
  readonly recoveryDeviation?: WrapDevice | undefined;
  /** Put around the bare file, below what is recorded: a fault of the host. */
  readonly fault?: WrapDevice | undefined;
  /**
   * A fault of the host, or a look at those that there can be. The guest goes on after a request that
   * fails, as after an opening or a close that fails there is nothing to go on with.
   */
  readonly inject?: FaultInjector | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs the cell from its opening to its close.
 *
 * @throws Qcow2BenchError of the image or of a request; the signal's reason.
 */
export async function recordCell(plan: CellPlan, options: RecordOptions): Promise<Recording> {
  const { cell } = plan;
  const { requests, deviation, fault, inject, signal } = options;
  const storage = new MemoryStorage();
  const fills = new Recorder();
  const fillDisk = fills.disk.bind(fills);
  using prepared = await prepareFiles({
    plan,
    storage,
    imageName: IMAGE,
    backingName: BACKING,
    signal,
    fillDisk,
  });
  const files: [ImageFile, ...ImageFile[]] = [{ name: IMAGE, label: 'image' }];
  if (hasDataFile(cell.shape)) files.push({ name: dataFileName(IMAGE), label: 'data' });
  const base = new PageFiles();
  for (const [index, { name }] of files.entries()) await copyPages(storage.open(name), base, index);
  const constants = new Map<string, Uint8Array>();
  for (const name of storage.names()) {
    if (!files.some((file) => file.name === name)) constants.set(name, storage.open(name).contents());
  }
  const recorder = new Recorder(FIRST_WRITE);
  let around: 'open' | 'close' = 'open';
  const part = (): FaultPart => recorder.currentRequest ?? around;
  const open = (): Promise<Stack> =>
    openStack({
      ...openingOf(cell),
      ...prepared.stack,
      interleaved: cell.queueDepth > 1 ? new Deferral() : undefined,
      metered: false,
      wrap: (device) => {
        const file = files.findIndex(({ label }) => label === device.label);
        if (file < 0) return device;
        const bare = inject?.below(device, part) ?? fault?.(device) ?? device;
        const recorded = recorder.device(bare, file);
        return inject?.above(recorded, part) ?? deviation?.(recorded) ?? recorded;
      },
    });
  let clusterSize = cell.clusterSize ?? 1;
  let isClosed = false;
  try {
    await using session = new Session(await open());
    ({ clusterSize } = session.stack.image);
    for (const part of partsOf(requests)) {
      const { stack } = session;
      if ('op' in part) {
        const reopen = (): Promise<void> => session.reopen(open);
        await takeStep(part, { image: stack.image, recorder, reopen });
        continue;
      }
      const end = stack.image.virtualSize;
      const disk = recorder.disk(stack.backend);
      await runRequests({
        backend: inject === undefined ? disk : goingOn(disk),
        batches: [part.filter(({ offset, length }) => offset + length <= end)],
        queueDepth: cell.queueDepth,
        payload: new Payload('zero', payloadSeed(plan)),
        signal,
      });
    }
    around = 'close';
    await session.stack.close();
    isClosed = true;
  } catch (error) {
    if (inject === undefined || !(error instanceof Qcow2BenchError)) throw error;
  }
  return {
    subject: {
      ...subjectOf(plan, { files, constants, clusterSize, unnamedFormat: unnamedFormat(plan) }),
      deviation: options.recoveryDeviation,
    },
    base,
    operations: recorder.operations,
    syncs: recorder.syncs,
    requests: recorder.requests,
    endsAt: recorder.events,
    isClosed,
  };
}

/** The image of a cell. */
export function subjectOf(
  { cell, source }: CellPlan,
  parts: Pick<Subject, 'files' | 'constants' | 'clusterSize' | 'unnamedFormat'>,
): Subject {
  return {
    format: cell.format,
    cache: cell.cache,
    refcounts: cell.refcounts ?? undefined,
    caches: cell.caches,
    discard: cell.discard,
    policy: cell.policy,
    commit: cell.commit,
    virtualSize: source.virtualSize,
    ...parts,
  };
}

/** A guest that goes on after an error. */
function goingOn(disk: GuestDisk): GuestDisk {
  const passOver = (error: unknown): void => {
    if (!(error instanceof Qcow2BenchError)) throw error;
  };
  const attempt = (serve: () => Pending): Pending => {
    try {
      const pending = serve();
      return pending === undefined ? undefined : pending.catch(passOver);
    } catch (error) {
      passOver(error);
      return undefined;
    }
  };
  return {
    image: disk.image,
    read: (offset, target) => attempt(() => disk.read(offset, target)),
    write: (offset, bytes, flags) => attempt(() => disk.write(offset, bytes, flags)),
    writeZeroes: (offset, length, flags) => attempt(() => disk.writeZeroes(offset, length, flags)),
    discard: (offset, length) => attempt(() => disk.discard(offset, length)),
    flush: () => attempt(() => disk.flush()),
  };
}

/** The image as it is open now. */
class Session implements AsyncDisposable {
  stack: Stack;

  constructor(stack: Stack) {
    this.stack = stack;
  }

  async reopen(open: () => Promise<Stack>): Promise<void> {
    await this.stack.close();
    this.stack = await open();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stack.abandon();
  }
}

/** Requests that follow one another together; each step of the image alone. */
function partsOf(steps: readonly Step[]): readonly (readonly Request[] | ImageStep)[] {
  const parts: (Request[] | ImageStep)[] = [];
  for (const step of steps) {
    const last = parts.at(-1);
    if (isImageStep(step)) parts.push(step);
    else if (Array.isArray(last)) last.push(step);
    else parts.push([step]);
  }
  return parts;
}
