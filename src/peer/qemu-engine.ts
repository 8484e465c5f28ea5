/**
 * The engine that is a real QEMU: serves a cell's requests with `qemu-io`, counts its host
 * operations, and says whether the builtin engine does the same on the same image.
 *
 * Invariants:
 * - Both engines start from the same bytes: the image is made once and copied.
 * - Purposes and causes of QEMU's operations come from our reading of the image alone, never from
 *   what the builtin engine said of its own.
 * - Files that a pass made are gone when it is over, also when it fails or is stopped.
 * - A flush that issued no sync is seen only where a guest request asked for it: those within QEMU
 *   leave no trace, so `elided` counts fewer than for the builtin engine.
 */

import type { FileLayout } from '../format/file-layout.ts';
import { readFileLayout } from '../format/registry.ts';
import type { CellPlan, CountOutcome, CountPassOptions, Engine, TimedPass } from '../bench/engine.ts';
import { unsupportedByFormat, unsupportedByPlace, zeroingFallback } from '../bench/unsupported.ts';
import { collectRequests } from '../bench/pass-requests.ts';
import { backingFormats, unnamedFormat } from '../bench/backing-layers.ts';
import { prepareFiles } from '../bench/prepare.ts';
import { RequestRecorder } from '../bench/request-recorder.ts';
import { openStack } from '../bench/stack.ts';
import { behindStack } from '../bench/user-image.ts';
import type { FileStorage } from '../device/file-storage.ts';
import { QEMU_FORMATS } from '../core/format-name.ts';
import { CACHE_MODE_RULES } from '../format/cache-mode.ts';
import { DEFAULT_ENGINE_POLICY } from '../format/engine-policy.ts';
import { dataFileName, hasDataFile } from '../format/image-shape.ts';
import type { Parity } from '../result/schema.ts';
import type { Request } from '../workload/request.ts';
import {
  copyOf,
  imageOfQemu,
  openBuiltin,
  serveWithBuiltin,
  serveWithQemu,
  type BuiltinRun,
  type Pass,
} from './both-sides.ts';
import { classifyOperations } from './classify.ts';
import { countedRecords, logOperations } from './classified-records.ts';
import type { HostOperation } from './host-operation.ts';

import {
  differsInLostZeroes,
  fileDifference,
  misreadPlace,
  parityVerdict,
  type MisreadPlace,
} from './parity-verdict.ts';
import { readWithQemuIo } from './qemu-io.ts';
import { findQemuIo, missingQemuIo } from './qemu-tools.ts';
import { firstGuestDifference, readStretches, type GuestDifference } from './read-back.ts';
import type { SlowedCall } from './strace.ts';
import { judgeOrder, ORDER_RUNS, wantsAnotherRun, type OrderVerdict } from './varying-order.ts';
import { copySparse } from '../device/file-copy.ts';

export interface QemuEngineOptions {
  /** Where the images lie; without it no cell can be run. */
  readonly files?: FileStorage | undefined;
  /** Begins the names of files; default: program name and process ID. */
  readonly filePrefix?: string | undefined;
  /** The directory of the QEMU to run; default: the one that is installed. */
  readonly binDirectory?: string | undefined;
  /** Directories of the builds that cells name in `qemuBuild`. */
  readonly builds?: ReadonlyMap<string, string> | undefined;
}

export class QemuEngine implements Engine {
  readonly name = 'qemu';
  readonly #files: FileStorage | undefined;
  readonly #filePrefix: string;
  readonly #binDirectory: string | undefined;
  readonly #builds: ReadonlyMap<string, string>;
  #passes = 0;

  constructor(options: QemuEngineOptions = {}) {
    this.#files = options.files;
    this.#filePrefix = options.filePrefix ?? `qcow2-bench-${String(process.pid)}`;
    this.#binDirectory = options.binDirectory;
    this.#builds = options.builds ?? new Map<string, string>();
  }

  /** Of the QEMU that cells would be run with; `undefined` if it cannot be run. */
  async version(): Promise<string | undefined> {
    const place = { binDirectory: this.#binDirectory };
    return missingQemuIo(place) === undefined ? (await findQemuIo(place)).version : undefined;
  }

  unsupportedReason(plan: CellPlan, pass: 'count' | 'time'): string | undefined {
    switch (pass) {
      case 'count':
        return this.#whyNotCounted(plan);
      case 'time':
        return 'QEMU is not timed under strace; `npm run perf` times it';
    }
  }

  async count(plan: CellPlan, options: CountPassOptions): Promise<CountOutcome> {
    const storage = this.#files;
    if (storage === undefined) throw new Error('internal error: QEMU needs a directory');
    const { signal, progress } = options;
    const imageName = `${this.#filePrefix}-qemu-${String(this.#passes++)}.${plan.cell.format}`;
    const pause = progress === undefined ? undefined : () => progress(0);
    const backingName = `${imageName}.backing`;
    using files = await prepareFiles({ plan, storage, imageName, backingName, signal, pause });
    try {
      const tools = await findQemuIo({ binDirectory: this.#directoryOf(plan) });
      const requests = await collectRequests(plan, options);
      const pass: Pass = { plan, options, storage, tools, requests, imageName, backingName };
      const { parity, ...counted } = await countPass(pass);
      const fallbacks = [
        ...files.fallbacks,
        ...zeroingFallback(plan.cell, storage.capabilities, counted.counts.guest),
      ];
      return { ...counted, countsDevice: storage.kind, fallbacks, parity };
    } catch (error) {
      // A program that was stopped ends with an error of its own.
      signal?.throwIfAborted();
      throw error;
    } finally {
      storage.remove(copyOf(imageName));
      storage.remove(dataFileName(copyOf(imageName)));
    }
  }

  prepareTimed(): Promise<TimedPass> {
    return Promise.reject(new Error('internal error: QEMU has no timed pass'));
  }

  #directoryOf({ cell: { qemuBuild } }: CellPlan): string | undefined {
    return qemuBuild === undefined ? this.#binDirectory : this.#builds.get(qemuBuild);
  }

  #whyNotCounted(plan: CellPlan): string | undefined {
    const { cell, payload, keptImage, userImage } = plan;
    const missing = missingQemuIo({ binDirectory: this.#directoryOf(plan) });
    if (missing !== undefined) return missing;
    if (cell.queueDepth !== 1) {
      return 'QEMU runs only at queue depth 1: its counts vary at greater depths';
    }
    if (!(QEMU_FORMATS as readonly string[]).includes(cell.format)) {
      return `QEMU has no format ${cell.format}`;
    }
    if ((cell.policy ?? DEFAULT_ENGINE_POLICY) !== DEFAULT_ENGINE_POLICY) {
      return `QEMU has no policy ${String(cell.policy)}, only its own`;
    }
    if (payload !== 'pattern') return `qemu-io writes the payload pattern, not ${payload}`;
    if (cell.device !== 'file') return `QEMU works on files, not on the device ${cell.device}`;
    if (keptImage !== undefined || userImage?.inPlace === true) {
      return 'a kept image is served by the builtin engine only: QEMU runs on a copy or a new image';
    }
    if (this.#files === undefined) return 'no directory for the images that QEMU runs on';
    const { capabilities } = this.#files;
    return (
      unsupportedByFormat(plan) ??
      unsupportedByPlace(plan, capabilities) ??
      unsupportedBySize(plan, capabilities)
    );
  }
}

/** QEMU itself refuses it. */
function unsupportedBySize(
  { cell: { format, cache }, source, userImage }: CellPlan,
  { direct }: FileStorage['capabilities'],
): string | undefined {
  if (format !== 'raw' || !CACHE_MODE_RULES[cache].direct || !direct.ok) return undefined;
  const fileBytes = userImage?.facts.fileBytes ?? source.virtualSize;
  if (fileBytes % direct.alignment === 0) return undefined;
  const asked = `the ${String(direct.alignment)} bytes that O_DIRECT requires here`;
  return `QEMU cannot open a raw image of ${String(fileBytes)} bytes, which is not a multiple of ${asked}`;
}

async function countPass(pass: Pass): Promise<Pick<CountOutcome, 'counts' | 'requests' | 'parity'>> {
  const { plan, options, storage, requests, imageName } = pass;
  const { format, refcounts, cache } = plan.cell;
  await copySparse(storage.pathOf(imageName), storage.pathOf(copyOf(imageName)));
  if (hasDataFile(plan.cell.shape)) {
    const copy = dataFileName(copyOf(imageName));
    await copySparse(storage.pathOf(dataFileName(imageName)), storage.pathOf(copy));
  }
  const before = await layoutOf(pass);
  // Ours goes first: QEMU is asked to read what it read.
  const ours = await serveWithBuiltin(pass);
  const run = await serveWithQemu(pass, { ours });
  const after = await layoutOf(pass);
  const { order, theirs } = await orderOf(pass, ours, run.operations);
  const classified = classifyOperations(theirs, { format, refcounts, cache, requests, before, after });
  const recorder = new RequestRecorder(plan.source);
  recorder.add(requests);
  logOperations(classified, requests, (record) => {
    recorder.sink(record);
    options.hostLog?.(record);
  });
  const meter = countedRecords(classified);
  return {
    counts: {
      guest: ours.guest,
      open: meter.counts('open'),
      run: meter.counts('run'),
      close: meter.counts('close'),
    },
    requests: recorder.costs(),
    parity: await verdictOf(pass, { ours, order, misreads: run.misreads, after }),
  };
}

/**
 * Holds the operations of the first run against ours. Where they differ in a request of several
 * extents, QEMU is run again on new files, as its own order may vary there.
 */
async function orderOf(
  pass: Pass,
  ours: BuiltinRun,
  first: readonly HostOperation[],
): Promise<{ readonly order: OrderVerdict; readonly theirs: readonly HostOperation[] }> {
  const runs = [first];
  let theirs = first;
  for (;;) {
    const order = judgeOrder(ours.records, runs);
    if (!wantsAnotherRun(order) || !mayVary(order, first)) return { order, theirs };
    theirs = await serveAgain(pass, ours, ORDER_RUNS[runs.length]);
    runs.push(theirs);
  }
}

/** Slowed down, more would take minutes. */
const SLOWED_OPERATIONS_MAX = 20_000;

function mayVary({ comparison }: OrderVerdict, operations: readonly HostOperation[]): boolean {
  if (operations.length > SLOWED_OPERATIONS_MAX) return false;
  if (comparison.identical) return true;
  // What the close does follows from all requests.
  const { request: only } = comparison;
  const changes = new Map<number, number>();
  for (const { request, op } of operations) {
    if (request === undefined || op === 'read' || op === 'sync') continue;
    if (only === undefined || request === only) changes.set(request, (changes.get(request) ?? 0) + 1);
  }
  return [...changes.values()].some((count) => count > 1);
}

/** QEMU's operations on the same files, made once more under another name. */
async function serveAgain(
  pass: Pass,
  ours: BuiltinRun,
  slowed: SlowedCall | undefined,
): Promise<readonly HostOperation[]> {
  const { plan, storage, options } = pass;
  const [imageName, backingName] = [`${pass.imageName}.again`, `${pass.imageName}.again.backing`];
  using files = await prepareFiles({ plan, storage, imageName, backingName, signal: options.signal });
  const again = { ...pass, imageName: files.imageName, backingName };
  const { operations } = await serveWithQemu(again, { ours, slowed });
  return operations;
}

async function layoutOf({ storage, imageName, plan }: Pass): Promise<FileLayout> {
  const device = storage.open(imageName, { readOnly: true });
  try {
    return await readFileLayout(device, plan.cell.format);
  } finally {
    await device.close();
  }
}

interface Served {
  readonly ours: BuiltinRun;
  readonly order: OrderVerdict;
  readonly misreads: readonly string[];
  /** Of QEMU's image, after the run. */
  readonly after: FileLayout;
}

async function verdictOf(pass: Pass, { ours, order, misreads, after }: Served): Promise<Parity> {
  const { storage, imageName, tools, plan } = pass;
  const pair = (theirs: string, ours: string, layout: FileLayout | undefined): Pair => ({
    theirs: storage.pathOf(theirs),
    ours: storage.pathOf(ours),
    layout,
  });
  const copy = copyOf(imageName);
  const image = await fileDifference('image', pair(imageName, copy, after));
  const data = hasDataFile(plan.cell.shape)
    ? await fileDifference('data', pair(dataFileName(imageName), dataFileName(copy), undefined))
    : [];
  const guest = await guestDifference(pass);
  const isLostZeroes =
    image.length + misreads.length > 0 &&
    plan.cell.format === 'qed' &&
    (await hasLostZeroes(pass, { after, copy, ours, misreads }));
  return parityVerdict({
    qemu: tools.version,
    order,
    files: [...image, ...data],
    misreads,
    guest,
    isLostZeroes,
  });
}

interface Pair {
  readonly theirs: string;
  readonly ours: string;
  readonly layout: FileLayout | undefined;
}

/** What the guest finds on its disk after the run: ours reads our image, QEMU its own. */
async function guestDifference(pass: Pass): Promise<GuestDifference | undefined> {
  const { requests, tools } = pass;
  const { signal } = pass.options;
  await using stack = await openBuiltin(pass, { readOnly: true });
  const stretches = await readStretches(requests, (offset, target) => {
    signal?.throwIfAborted();
    return stack.image.read(offset, target);
  });
  return await firstGuestDifference(stretches, (input) =>
    readWithQemuIo(imageOfQemu(pass), { tools, input, signal }),
  );
}

/** Whether images and reads differ in nothing but the exception `qed-zero-over-backing`. */
async function hasLostZeroes(
  { plan, storage, requests, imageName, backingName }: Pass,
  { after, copy, ours, misreads }: Omit<Served, 'order'> & { readonly copy: string },
): Promise<boolean> {
  const [backing] = backingFormats(plan);
  if (backing === undefined) return false;
  const [behind] = plan.userImage?.chain ?? [];
  const stack =
    plan.userImage === undefined || behind === undefined
      ? { storage, imageName: backingName, backingPolicy: { unnamedFormat: unnamedFormat(plan) } }
      : behindStack(plan.userImage, behind);
  await using below = await openStack({
    ...stack,
    format: backing,
    cache: 'writeback',
    readOnly: true,
  });
  const { image } = below;
  const readBacking = async (guestOffset: number, target: Uint8Array): Promise<void> => {
    target.fill(0);
    const length = Math.min(target.byteLength, Math.max(0, image.virtualSize - guestOffset));
    if (length > 0) await image.read(guestOffset, target.subarray(0, length));
  };
  for (const said of misreads) {
    const place = misreadPlace(said);
    if (place === undefined || !wereZeroes(place, { requests, reads: ours.reads })) return false;
    const below = new Uint8Array(place.length);
    await readBacking(place.guestOffset, below);
    if (below.every((byte) => byte === 0)) return false;
  }
  const files = { theirs: storage.pathOf(imageName), ours: storage.pathOf(copy), layout: after };
  return await differsInLostZeroes(files, readBacking);
}

/** Whether a read of ours gave zeroes there. */
function wereZeroes(
  { guestOffset, length }: MisreadPlace,
  { requests, reads }: { readonly requests: readonly Request[]; readonly reads: BuiltinRun['reads'] },
): boolean {
  for (const [index, { value, from, length: found }] of reads) {
    if (value === 0 && found === length && requests[index]?.offset === guestOffset - from) return true;
  }
  return false;
}
