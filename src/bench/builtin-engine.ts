/**
 * The engine of this project: its own formats, over memory for counts and over the cell's device
 * for times.
 *
 * Invariants:
 * - A cell is counted on memory, whatever device it is timed on, unless its device is `null`, its
 *   image is the user's or to be kept, or its host operations overlap: counts depend on no file
 *   system.
 * - A pass removes the files it made, also when it fails or is stopped; no two passes use the same
 *   names. An image that is kept appears under its name after the pass, whole.
 */

import { Qcow2BenchError } from '../core/error.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { lessFound } from '../device/capabilities.ts';
import { Deferral } from '../device/deferred-device.ts';
import { modelName, type DeviceModel } from '../device/device-model.ts';
import { HostMeter } from '../device/host-meter.ts';
import { MemoryStorage, NullStorage } from '../device/memory-storage.ts';
import { ModelStorage } from '../device/model-storage.ts';
import { StagedStorage } from '../device/staged-storage.ts';
import type { Storage } from '../device/storage.ts';
import type { DiskImage } from '../format/disk-image.ts';
import { dataFileName } from '../format/image-shape.ts';
import { openStream } from '../workload/library.ts';
import type { Request } from '../workload/request.ts';
import type {
  CellPlan,
  CountOutcome,
  CountPassOptions,
  Engine,
  KeptImage,
  PassOptions,
  TimedPass,
  TimedPassOptions,
} from './engine.ts';
import {
  unsupportedByFormat,
  unsupportedByPlace,
  zeroingFallback,
  unsupportedZeroing,
} from './unsupported.ts';
import { GrowthWatch } from './growth.ts';
import { hostFileSystemBytes, type HostFileSystems, type MadeFileSystem } from './host-file-system.ts';
import { collectRequests } from './pass-requests.ts';
import { Payload } from './payload.ts';
import { payloadSeed, prepareFiles, type PreparedFiles } from './prepare.ts';
import { RequestContext } from './request-context.ts';
import { RequestRecorder } from './request-recorder.ts';
import { runRequests } from './runner.ts';
import { openingOf, openStack, type StackOptions, type WrapDevice } from './stack.ts';
import { BuiltinTimedPass } from './timed-pass.ts';
import type { ImageStack } from './user-image.ts';
import { VerifiedDisk } from './verification.ts';

export interface BuiltinEngineOptions {
  /**
   * Where the images of cells with the device `file` lie; without it such cells are counted and not
   * timed.
   */
  readonly files?: Storage | undefined;
  /** Of cells with `hostFs`; without it these are counted and not timed. */
  readonly hostFileSystems?: HostFileSystems | undefined;
  /** By name: the models behind the devices `model:NAME`. */
  readonly models?: ReadonlyMap<string, DeviceModel> | undefined;
  /** A new memory for each pass; default: the usual one. Tests hand in one that can do less. */
  readonly makeMemory?: (() => Storage) | undefined;
  /** Begins the names of files; default: program name and process ID. */
  readonly filePrefix?: string | undefined;
  /** Put around the files of a run, not around those being prepared. */
  readonly wrap?: ((device: Parameters<WrapDevice>[0], plan: CellPlan) => ReturnType<WrapDevice>) | undefined;
}

export class BuiltinEngine implements Engine {
  readonly name = 'builtin';
  readonly #files: Storage | undefined;
  readonly #hostFileSystems: HostFileSystems | undefined;
  readonly #models: ReadonlyMap<string, DeviceModel>;
  readonly #makeMemory: () => Storage;
  readonly #filePrefix: string;
  readonly #wrap: BuiltinEngineOptions['wrap'];
  #passes = 0;

  constructor(options: BuiltinEngineOptions = {}) {
    this.#files = options.files;
    this.#hostFileSystems = options.hostFileSystems;
    this.#models = options.models ?? new Map<string, DeviceModel>();
    this.#makeMemory = options.makeMemory ?? (() => new MemoryStorage());
    this.#filePrefix = options.filePrefix ?? `qcow2-bench-${String(process.pid)}`;
    this.#wrap = options.wrap;
  }

  unsupportedReason(plan: CellPlan, pass: 'count' | 'time'): string | undefined {
    const standing = unsupportedByFormat(plan);
    if (standing !== undefined) return standing;
    switch (pass) {
      case 'count':
        return this.#whyNotCounted(plan);
      case 'time':
        return this.#whyNotTimed(plan);
    }
  }

  async count(plan: CellPlan, options: CountPassOptions): Promise<CountOutcome> {
    const { keptImage } = plan;
    const staged = keptImage && stagedStorage(keptImage);
    const storage = staged ?? this.#countStorage(plan);
    using files = await this.#prepare(plan, storage, options, keptImage);
    const outcome = await this.#countOn({ plan, options, storage, files });
    if (keptImage !== undefined) {
      staged?.commit(keptImage.name);
      files.keep();
    }
    return outcome;
  }

  async prepareTimed(plan: CellPlan, options: TimedPassOptions): Promise<TimedPass> {
    const requests = await requestsToTime(plan, options);
    const host = await this.#madeFor(plan, options);
    try {
      const storage = host?.storage ?? this.#timeStorage(plan);
      if (storage === undefined) throw new Error(`internal error: a timed pass on '${plan.cell.device}'`);
      const files = await this.#prepare(plan, storage, options, undefined);
      return new BuiltinTimedPass({
        plan,
        requests,
        files,
        storage,
        stack: { ...this.#stackOptions(plan, storage), ...files.stack, metered: false },
        options,
        host,
      });
    } catch (error) {
      await host?.[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #madeFor(plan: CellPlan, { signal }: PassOptions): Promise<MadeFileSystem | undefined> {
    const { hostFs } = plan.cell;
    if (hostFs === undefined) return undefined;
    return this.#hostFileSystems?.make(hostFs, { bytes: hostFileSystemBytes(plan), signal });
  }

  async #countOn(pass: {
    readonly plan: CellPlan;
    readonly options: CountPassOptions;
    readonly storage: Storage;
    readonly files: PreparedFiles;
  }): Promise<CountOutcome> {
    const { plan, options, storage, files } = pass;
    const meter = new HostMeter();
    const stackOptions = this.#stackOptions(plan, storage);
    const opened: BlockDevice[] = [];
    const context = new RequestContext();
    const recorder = new RequestRecorder(plan.source);
    await using stack = await openStack({
      ...stackOptions,
      ...files.stack,
      wrap: (device) => {
        opened.push(device);
        return stackOptions.wrap?.(device) ?? device;
      },
      meter,
      hostLog: context.numbering((record) => {
        recorder.sink(record);
        options.hostLog?.(record);
      }),
    });
    await using stream = await openStream(plan.source, { limit: options.limit, seed: plan.seed });
    const growth = GrowthWatch.of(storage, files.imageName);
    const verified =
      plan.verify === true
        ? new VerifiedDisk(stack.backend, { isNew: plan.userImage === undefined && !isFilled(plan) })
        : undefined;
    const guest = await runRequests({
      backend: verified ?? stack.backend,
      batches: recorder.watch(stream.batches),
      queueDepth: plan.cell.queueDepth,
      payload: new Payload(plan.payload, payloadSeed(plan)),
      context,
      signal: options.signal,
      progress: growth?.during(options.progress) ?? options.progress,
    });
    const metadataInMemory = inChain(stack.image);
    await stack.close();
    return {
      counts: { guest, open: meter.counts('open'), run: meter.counts('run'), close: meter.counts('close') },
      requests: recorder.costs(),
      countsDevice: storage.kind,
      growth: growth?.points(),
      metadataInMemory,
      fallbacks: [
        ...files.fallbacks,
        ...zeroingFallback(plan.cell, lessFound(storage.capabilities, opened), guest),
      ],
      verification: verified?.verification(),
    };
  }

  #stackOptions(plan: CellPlan, storage: Storage): Omit<StackOptions, keyof ImageStack> {
    const { cell } = plan;
    const wrap = this.#wrap;
    return {
      ...openingOf(cell),
      // A model's operations take their own time.
      interleaved:
        cell.queueDepth > 1 && cell.overlap !== true && !(storage instanceof ModelStorage)
          ? new Deferral()
          : undefined,
      wrap: wrap === undefined ? undefined : (device) => wrap(device, plan),
    };
  }

  #prepare(
    plan: CellPlan,
    storage: Storage,
    options: PassOptions,
    keptImage: KeptImage | undefined,
  ): Promise<PreparedFiles> {
    const imageName = keptImage?.name ?? this.#newName(plan, storage);
    const backingName = `${imageName}.backing`;
    const { signal, progress } = options;
    const pause = progress === undefined ? undefined : () => progress(0);
    return prepareFiles({ plan, storage, imageName, backingName, signal, pause });
  }

  /**
   * A name for an image. Memory is a pass's own, so there it is always the same: an overlay stores
   * the name of its backing file, and counts must not depend on how many digits a process number
   * has.
   */
  #newName({ cell }: CellPlan, storage: Storage): string {
    if (storage.kind !== 'file') return `image.${cell.format}`;
    return `${this.#filePrefix}-${String(this.#passes++)}.${cell.format}`;
  }

  #countStorage(plan: CellPlan): Storage {
    if (plan.keptImage !== undefined) return plan.keptImage.storage;
    if (plan.userImage !== undefined) {
      if (this.#files !== undefined) return this.#files;
      throw new Error('internal error: a user image needs a directory');
    }
    // On memory nothing overlaps: what is counted there would not be what happens.
    if (plan.cell.overlap === true && this.#files !== undefined) return this.#files;
    return plan.cell.device === 'null' ? new NullStorage() : this.#makeMemory();
  }

  #timeStorage({ cell }: CellPlan): Storage | undefined {
    switch (cell.device) {
      case 'file':
        return this.#files;
      case 'memory':
        return this.#makeMemory();
      case 'null':
        return new NullStorage();
      default:
        return this.#modelStorage(cell.device);
    }
  }

  #modelStorage(device: string): ModelStorage | undefined {
    const model = this.#models.get(modelName(device) ?? '');
    return model === undefined ? undefined : new ModelStorage(model);
  }

  #whyNotCounted(plan: CellPlan): string | undefined {
    if (plan.userImage !== undefined && this.#files === undefined) return NO_DIRECTORY_FOR_COPY;
    return unsupportedByPlace(plan, this.#countStorage(plan).capabilities);
  }

  #whyNotTimed(plan: CellPlan): string | undefined {
    if (plan.keptImage !== undefined || plan.userImage?.inPlace === true) {
      return 'a kept image is counted once and not timed: each sample needs a new image';
    }
    const { hostFs } = plan.cell;
    if (hostFs !== undefined) {
      if (this.#hostFileSystems === undefined) return NO_HOST_FILE_SYSTEMS;
      return this.#hostFileSystems.unsupportedReason(hostFs, hostFileSystemBytes(plan));
    }
    const storage = this.#timeStorage(plan);
    if (storage === undefined) {
      return plan.cell.device === 'file'
        ? 'no directory for the timed images'
        : `this engine has no device '${plan.cell.device}'; expected file, memory, null or a loaded model`;
    }
    return unsupportedByPlace(plan, storage.capabilities) ?? unsupportedZeroing(plan, storage.capabilities);
  }
}

/** Of the image and those behind it. */
function inChain(image: DiskImage): number {
  return image.metadataInMemory + (image.backing === undefined ? 0 : inChain(image.backing));
}

function stagedStorage({ storage, name, overwrite }: KeptImage): StagedStorage {
  return new StagedStorage(storage, overwrite ? [dataFileName(name)] : []);
}

const NO_HOST_FILE_SYSTEMS = 'this engine makes no file systems';
const NO_DIRECTORY_FOR_COPY = 'no directory for the copy of the image';

async function requestsToTime(plan: CellPlan, options: PassOptions): Promise<readonly Request[]> {
  const requests = await collectRequests(plan, options);
  if (requests.length > 0) return requests;
  throw new Qcow2BenchError('no-requests', 'no requests to time', { path: plan.source.path });
}

/** Whether the image has data before the run that the plan's requests did not write. */
function isFilled({ source }: CellPlan): boolean {
  return source.kind === 'recording' && source.fill !== undefined;
}
