/**
 * The stack under an open image: the filters between a format and the file, and their order.
 *
 *      BlockBackend   flushes as the cache mode says
 *      DiskImage      raw, qcow2, qed
 *      SyncElision    rule R1; passes no sync on in cache=unsafe
 *      AlignedDevice  in direct modes only: pads requests to the file's alignment
 *      HostLog        if asked for
 *      Meter          if asked for: sees exactly the operations that the host file gets
 *      wrap           if asked for: faults, a write log
 *      DeferredDevice where requests are to interleave on files that answer at once
 *      host file, memory, null
 *
 * Invariants:
 * - Every file of a backing chain has its own stack, under the same meter and log; it is opened
 *   read-only and in the same direct mode as the image.
 * - The meter's phases follow the image's life: `open` until `openStack` answers, then `run`, and
 *   `close` from the call of `close` on.
 */

import { Qcow2BenchError } from '../core/error.ts';
import { AlignedDevice } from '../device/aligned-device.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { DeferredDevice, type Deferral } from '../device/deferred-device.ts';
import { HostLog, type HostLogSink } from '../device/host-log.ts';
import { HostMeter } from '../device/host-meter.ts';
import type { LockRole } from '../device/image-lock.ts';
import { Meter } from '../device/meter.ts';
import type { Storage } from '../device/storage.ts';
import { SyncElision } from '../device/sync-elision.ts';
import type { BackingPolicy, ImageFiles } from '../format/backing-chain.ts';
import { BlockBackend } from '../format/block-backend.ts';
import { CACHE_MODE_RULES, type CacheMode } from '../format/cache-mode.ts';
import type { DiskImage, Format } from '../format/disk-image.ts';
import type { OpeningChoices, RefcountMode } from '../format/image-options.ts';
import { DEFAULT_QEMU_PROFILE, unsupportedNoUnref, type QemuProfileName } from '../format/qemu-profile.ts';
import { openImage } from '../format/registry.ts';
import { profileOf } from '../result/cell.ts';
import type { Cell } from '../result/schema.ts';
import { hostStep, stepListener, TracedBackend, type StepListener } from './step-trace.ts';

/** Puts its own device around a bare file; `device.label` names the file's role in the image. */
export type WrapDevice = (device: BlockDevice) => BlockDevice;

/** Where `openStack` opens files by their names. */
export type FileSource = Pick<Storage, 'open' | 'realName'>;

/** How the files of an image are opened, by any caller. */
export interface StackFilesOptions {
  readonly storage: FileSource;
  readonly cache: CacheMode;
  /** Counts every host operation; left out, nothing is counted and nothing is paid for it. */
  readonly meter?: HostMeter | undefined;
  /** Gets every host operation in issue order; needs a meter, which knows the phase. */
  readonly hostLog?: HostLogSink | undefined;
  readonly wrap?: WrapDevice | undefined;
  /** Lets requests that are in flight at once interleave; left out, what can be done at once is. */
  readonly interleaved?: Deferral | undefined;
  /** Host files: operations of different requests are in flight at once. Default false. */
  readonly overlap?: boolean | undefined;
}

export interface StackOptions extends StackFilesOptions, Omit<OpeningChoices, 'refcounts'> {
  /** Default: a new one. */
  readonly meter?: HostMeter | undefined;
  /**
   * False leaves the meter and the host log out of the stack, for a run that is timed. Default
   * true.
   */
  readonly metered?: boolean | undefined;
  /** Within the storage. */
  readonly imageName: string;
  readonly format: Format;
  /** Default false. */
  readonly readOnly?: boolean | undefined;
  /** As `OpeningChoices` has it; `null` where the format has none. */
  readonly refcounts?: RefcountMode | null | undefined;
  /** Which QEMU is followed. Default: see `qemu-profile`. */
  readonly like?: QemuProfileName | undefined;
  /** qcow2 only: a data file in place of the one that the image names; within the storage. */
  readonly dataFile?: string | undefined;
  /**
   * Which files behind the image may be opened, and in which format; default: those of its
   * directory.
   */
  readonly backingPolicy?: BackingPolicy | undefined;
}

/**
 * An open image with everything under it. Leaving its scope without `close` releases the files as a
 * crash does: nothing is written that the guest did not ask for.
 */
export interface Stack extends AsyncDisposable {
  readonly backend: BlockBackend;
  readonly image: DiskImage;
  /** Stays at zero if the stack is not metered. */
  readonly meter: HostMeter;
  /** Closes the image cleanly; counted in the phase `close`. */
  close(): Promise<void>;
  /** Releases the files without writing anything. Does nothing after a close. */
  abandon(): Promise<void>;
}

/** How the image of a cell is opened: its coordinates have the names of the options. */
export function openingOf(cell: Cell): Omit<StackOptions, 'storage' | 'imageName'> {
  return { ...cell, like: profileOf(cell) };
}

/**
 * Opens an image with its backing chain.
 *
 * @throws Qcow2BenchError of the storage (`file-missing`, `no-o-direct` …), the format or the
 *   backing chain, or `discard-no-unref-unsupported`.
 */
export async function openStack(options: StackOptions): Promise<Stack> {
  const { imageName, cache, backingPolicy, like = DEFAULT_QEMU_PROFILE } = options;
  const noUnref = options.discardNoUnref === true ? unsupportedNoUnref(like) : undefined;
  if (noUnref !== undefined) throw new Qcow2BenchError('discard-no-unref-unsupported', noUnref);
  const meter = options.meter ?? new HostMeter();
  const readOnly = options.readOnly ?? false;
  let path: string | undefined;
  const files = stackFiles({ ...options, meter: options.metered === false ? undefined : meter });
  meter.enterPhase('open');
  const image = await openImage({
    ...options,
    name: imageName,
    files: {
      ...files,
      open: (name, labelled) => {
        const device = files.open(name, labelled);
        path ??= device.path;
        return device;
      },
    },
    readOnly,
    refcounts: options.refcounts ?? undefined,
    backing: backingPolicy,
  });
  meter.enterPhase('run');
  const backendOptions = { ...options, image, cacheMode: cache, readOnly, like, path };
  const listen = stepListener();
  const backend =
    listen === undefined
      ? new BlockBackend(backendOptions)
      : new TracedBackend(backendOptions, meter, listen);
  return new OpenStack(backend, meter);
}

/**
 * The files of a storage, each on the stack that the options say: what `openImage` opens names
 * with.
 */
export function stackFiles(options: StackFilesOptions): ImageFiles {
  const { direct } = CACHE_MODE_RULES[options.cache];
  const { storage, overlap } = options;
  return {
    open: (name, { label, readOnly, contents }) => {
      const lock: LockRole = { kind: 'user', contents, readOnly };
      return stackDevice(storage.open(name, { label, readOnly, direct, overlap, lock }), options);
    },
    realName: (name) => storage.realName?.(name) ?? name,
  };
}

/** Puts the filters around one bare device. */
export function stackDevice(bare: BlockDevice, options: Omit<StackFilesOptions, 'storage'>): BlockDevice {
  const { cache, meter, hostLog, wrap, interleaved } = options;
  const { direct, neverSync } = CACHE_MODE_RULES[cache];
  let device = interleaved === undefined ? bare : new DeferredDevice(bare, interleaved);
  if (wrap !== undefined) device = wrap(device);
  if (meter !== undefined) device = new Meter(device, meter);
  if (meter !== undefined && hostLog !== undefined) {
    device = new HostLog(device, { phases: meter, sink: hostLog });
  }
  const listen = stepListener();
  if (listen !== undefined) device = withSteps(device, meter ?? new HostMeter(), listen);
  if (direct) device = new AlignedDevice(device);
  return new SyncElision(device, {
    neverSync,
    onElided: meter === undefined ? undefined : () => meter.countElided(),
  });
}

function withSteps(device: BlockDevice, phases: HostMeter, listen: StepListener): BlockDevice {
  return new HostLog(device, {
    phases,
    sink: (record) => {
      listen(hostStep(record));
    },
  });
}

class OpenStack implements Stack {
  readonly backend: BlockBackend;
  readonly meter: HostMeter;
  #isOpen = true;

  constructor(backend: BlockBackend, meter: HostMeter) {
    this.backend = backend;
    this.meter = meter;
  }

  get image(): DiskImage {
    return this.backend.image;
  }

  async close(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.meter.enterPhase('close');
    await this.image.close();
  }

  async abandon(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    await this.image.abandon();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.abandon();
  }
}
