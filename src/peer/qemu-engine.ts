/**
 * The engine that is a real QEMU: serves a cell's requests with `qemu-io`, counts its host operations, and says
 * whether the builtin engine does the same on the same image.
 *
 * Invariants:
 * - Both engines start from the same bytes: the image is made once and copied.
 * - Purposes and causes of QEMU's operations come from our reading of the image alone, never from what the builtin
 *   engine said of its own.
 * - Files that a pass made are gone when it is over, also when it fails or is stopped.
 * - A flush that issued no sync is seen only where a guest request asked for it: those within QEMU leave no
 *   trace, so `elided` counts fewer than for the builtin engine.
 */

import type { CellPlan, CountOutcome, CountPassOptions, Engine, TimedPass } from '../bench/engine.ts';
import { formatObstacle, placeObstacle, zeroingObstacle } from '../bench/obstacle.ts';
import { Payload } from '../bench/payload.ts';
import { backingOf, dataFileName, payloadSeed, prepareFiles } from '../bench/prepare.ts';
import { runRequests } from '../bench/runner.ts';
import { openStack } from '../bench/stack.ts';
import type { FileStorage } from '../device/file-storage.ts';
import type { HostLogRecord } from '../device/host-log.ts';
import { HostMeter } from '../device/host-meter.ts';
import type { Cell, GuestCounts, Parity } from '../result/schema.ts';
import { openStream } from '../workload/library.ts';
import type { Request } from '../workload/request.ts';
import { classifyOperations, type Classified } from './classify.ts';
import { compareOperations } from './compare-operations.ts';
import type { HostOperation } from './host-operation.ts';
import { readImageLayout, type ImageLayout } from './image-layout.ts';
import { cacheOptions, runQemuIo } from './qemu-io.ts';
import { findQemuIo, missingQemuIo, type QemuIoTools } from './qemu-tools.ts';
import { copySparse, sameBytes } from './whole-file.ts';
import { WithoutSync } from './without-sync.ts';

export interface QemuEngineOptions {
  /** Where the images lie; without it no cell can be run. */
  readonly files?: FileStorage | undefined;
  /** Begins the names of files; default: one that tells the program and its process. */
  readonly filePrefix?: string | undefined;
  /** The directory of the QEMU to run; default: the one that is installed. */
  readonly binDirectory?: string | undefined;
}

export class QemuEngine implements Engine {
  readonly name = 'qemu';
  readonly #files: FileStorage | undefined;
  readonly #filePrefix: string;
  readonly #binDirectory: string | undefined;
  #passes = 0;

  constructor(options: QemuEngineOptions = {}) {
    this.#files = options.files;
    this.#filePrefix = options.filePrefix ?? `qcow2-bench-${String(process.pid)}`;
    this.#binDirectory = options.binDirectory;
  }

  /** Of the QEMU that cells would be run with; `undefined` if it cannot be run. */
  async version(): Promise<string | undefined> {
    const place = { binDirectory: this.#binDirectory };
    return missingQemuIo(place) === undefined ? (await findQemuIo(place)).version : undefined;
  }

  obstacle(plan: CellPlan, pass: 'count' | 'time'): string | undefined {
    switch (pass) {
      case 'count':
        return this.#countObstacle(plan);
      case 'time':
        return 'times of QEMU come from `npm run perf`: under strace they would mean nothing';
    }
  }

  async count(plan: CellPlan, options: CountPassOptions): Promise<CountOutcome> {
    const storage = this.#files;
    if (storage === undefined) throw new Error('internal error: QEMU was to run without a directory');
    const { signal, progress } = options;
    const imageName = `${this.#filePrefix}-qemu-${String(this.#passes++)}.${plan.cell.format}`;
    const pause = progress === undefined ? undefined : () => progress(0);
    const backingName = `${imageName}.backing`;
    using files = await prepareFiles({ plan, storage, imageName, backingName, signal, pause });
    try {
      const tools = await findQemuIo({ binDirectory: this.#binDirectory });
      const requests = await collectRequests(plan, options);
      const pass: Pass = { plan, options, storage, tools, requests, imageName, backingName };
      const { counts, parity } = await countPass(pass);
      return { counts, countsDevice: storage.kind, fallbacks: files.fallbacks, parity };
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
    return Promise.reject(new Error('internal error: a timed pass of QEMU'));
  }

  #countObstacle(plan: CellPlan): string | undefined {
    const { cell, payload, keptImage } = plan;
    const missing = missingQemuIo({ binDirectory: this.#binDirectory });
    if (missing !== undefined) return missing;
    if (cell.queueDepth !== 1) {
      return 'QEMU is run at queue depth 1 only: beyond, its counts vary from run to run';
    }
    if (payload !== 'pattern') return `qemu-io writes the payload pattern, not ${payload}`;
    if (cell.device !== 'file') return `QEMU works on files, not on the device ${cell.device}`;
    if (keptImage !== undefined) {
      return 'a kept image is served by the builtin engine: QEMU is run on one made anew';
    }
    if (this.#files === undefined) return 'no directory was named for the images that QEMU is run on';
    const { capabilities } = this.#files;
    return formatObstacle(plan) ?? placeObstacle(plan, capabilities) ?? zeroingObstacle(plan, capabilities);
  }
}

interface Pass {
  readonly plan: CellPlan;
  readonly options: CountPassOptions;
  readonly storage: FileStorage;
  readonly tools: QemuIoTools;
  readonly requests: readonly Request[];
  readonly imageName: string;
  readonly backingName: string;
}

/** The copy of an image that the builtin engine serves the same requests on. */
function copyOf(imageName: string): string {
  return `${imageName}.builtin`;
}

async function countPass(pass: Pass): Promise<Pick<CountOutcome, 'counts' | 'parity'>> {
  const { plan, options, storage, requests, imageName } = pass;
  const { format, refcounts, cache } = plan.cell;
  await copySparse(storage.pathOf(imageName), storage.pathOf(copyOf(imageName)));
  if (hasDataFile(plan.cell)) {
    const copy = dataFileName(copyOf(imageName));
    await copySparse(storage.pathOf(dataFileName(imageName)), storage.pathOf(copy));
  }
  const before = await layoutOf(pass);
  const theirs = await serveWithQemu(pass);
  const after = await layoutOf(pass);
  const ours = await serveWithBuiltin(pass);
  const classified = classifyOperations(theirs, { format, refcounts, cache, requests, before, after });
  const { hostLog } = options;
  if (hostLog !== undefined) for (const record of classified.records) hostLog(record);
  const meter = countedRecords(classified);
  return {
    counts: {
      guest: ours.guest,
      open: meter.counts('open'),
      run: meter.counts('run'),
      close: meter.counts('close'),
    },
    parity: await parityOf(pass, ours.records, theirs),
  };
}

function serveWithQemu(pass: Pass): Promise<readonly HostOperation[]> {
  const { plan, options, storage, tools, requests, imageName, backingName } = pass;
  const backing = backingOf(plan.cell) === undefined ? undefined : storage.pathOf(backingName);
  const dataPath = hasDataFile(plan.cell) ? storage.pathOf(dataFileName(imageName)) : undefined;
  return runQemuIo({
    path: storage.pathOf(imageName),
    format: plan.cell.format,
    cache: plan.cell.cache,
    requests,
    discard: plan.cell.discard,
    imageOptions: imageOptions(plan.cell, dataPath),
    files: {
      ...(backing === undefined ? {} : { 'backing:0': backing }),
      ...(dataPath === undefined ? {} : { data: dataPath }),
    },
    signal: options.signal,
    tools,
  });
}

function hasDataFile({ shape }: Cell): boolean {
  return shape?.dataFile !== undefined && shape.dataFile !== 'none';
}

/** As `--image-opts` takes them; `undefined` if there is nothing to say. */
function imageOptions(
  { caches }: Cell,
  dataPath: string | undefined,
): Readonly<Record<string, string>> | undefined {
  const options = cacheOptions(caches);
  // QEMU would take the name from the directory that it runs in.
  return dataPath === undefined
    ? options
    : { ...options, 'data-file.driver': 'file', 'data-file.filename': dataPath };
}

/** Serves the requests with the builtin engine on the copy. */
async function serveWithBuiltin(
  pass: Pass,
): Promise<{ readonly records: readonly HostLogRecord[]; readonly guest: GuestCounts }> {
  const { plan, options, storage, requests, imageName } = pass;
  const { cell } = plan;
  const records: HostLogRecord[] = [];
  await using stack = await openStack({
    storage,
    imageName: copyOf(imageName),
    format: cell.format,
    cache: cell.cache,
    refcounts: cell.refcounts,
    caches: cell.caches,
    discard: cell.discard,
    dataFile: hasDataFile(cell) ? dataFileName(copyOf(imageName)) : undefined,
    unnamedBackingFormat: backingOf(cell),
    hostLog: (record) => records.push(record),
    wrap: (device) => new WithoutSync(device),
  });
  const guest = await runRequests({
    backend: stack.backend,
    batches: [requests],
    queueDepth: 1,
    payload: new Payload(plan.payload, payloadSeed(plan)),
    signal: options.signal,
    progress: options.progress,
  });
  await stack.close();
  return { records, guest };
}

async function layoutOf({ storage, imageName, plan }: Pass): Promise<ImageLayout> {
  const device = storage.open(imageName, { readOnly: true });
  try {
    return await readImageLayout(device, plan.cell.format);
  } finally {
    await device.close();
  }
}

function countedRecords({ records, elidedFlushes }: Classified): HostMeter {
  const meter = new HostMeter();
  for (const record of records) {
    if (record.phase !== meter.phase) meter.enterPhase(record.phase);
    if (record.op === 'sync') meter.countSync(record.cause);
    else if (record.parts !== undefined) meter.countParts(record.purpose, record.parts);
    else meter.count(record.op, record.purpose, record.length);
  }
  meter.enterPhase('run');
  for (let index = 0; index < elidedFlushes; index++) meter.countElided();
  return meter;
}

async function parityOf(
  { storage, imageName, tools, plan }: Pass,
  ours: readonly HostLogRecord[],
  theirs: readonly HostOperation[],
): Promise<Parity> {
  const comparison = compareOperations(ours, theirs);
  let isSame = await sameBytes(storage.pathOf(imageName), storage.pathOf(copyOf(imageName)));
  if (isSame && hasDataFile(plan.cell)) {
    const copy = dataFileName(copyOf(imageName));
    isSame = await sameBytes(storage.pathOf(dataFileName(imageName)), storage.pathOf(copy));
  }
  return {
    verdict: comparison.identical && isSame ? 'identical' : 'different',
    qemu: tools.version,
    operations: comparison.operations,
    finalBytes: isSame ? 'identical' : 'different',
    ...(comparison.identical ? {} : { difference: comparison.text }),
  };
}

async function collectRequests(plan: CellPlan, { limit }: CountPassOptions): Promise<readonly Request[]> {
  const requests: Request[] = [];
  await using stream = await openStream(plan.source, { limit, seed: plan.seed });
  for await (const batch of stream.batches) {
    for (const request of batch) requests.push(request);
  }
  return requests;
}
