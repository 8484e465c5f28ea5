/**
 * Making the files of a cell as they are before the run: the backing file and what is in it, the
 * image, and what is in that; or a copy of an image that the user has.
 *
 * Invariants:
 * - Everything is written by the engines that are measured, over the same storage, uncounted,
 *   through the page cache whatever the cell's cache mode; it is durable when `prepareFiles`
 *   answers.
 * - Disposing removes what was made, and a failed preparation leaves nothing behind. A file that
 *   was there before is never touched.
 */

import { basename } from 'node:path';

import type { Storage } from '../device/storage.ts';
import { dataFileName, hasDataFile } from '../format/image-shape.ts';
import { FORMAT_FACTS } from '../format/formats.ts';
import { createImage, type CreateImageOptions } from '../format/registry.ts';
import { generateBackingFill, generateCrash, generatePrefill } from '../workload/generator.ts';
import type { Request } from '../workload/request.ts';
import { backingChain, backingLayersOf, unnamedFormat, type NamedFile } from './backing-layers.ts';
import type { CellPlan } from './engine.ts';
import { Payload } from './payload.ts';
import { runRequests } from './runner.ts';
import { openStack } from './stack.ts';
import { copiedStack, copyUserImage, leftOutOf, servedStack, type ImageStack } from './user-image.ts';
import type { GuestDisk } from './verification.ts';

/** Requests of a batch while an image is filled: each may carry a MiB. */
const FILL_BATCH_REQUESTS = 64;

export interface PrepareOptions {
  readonly plan: CellPlan;
  readonly storage: Storage;
  /** Within the storage; neither may exist. */
  readonly imageName: string;
  readonly backingName: string;
  readonly signal?: AbortSignal | undefined;
  /** Awaited now and then while files are filled. */
  readonly pause?: (() => void | Promise<void>) | undefined;
  /** Put in front of each file while it is filled, such as one that replaces the data. */
  readonly fillDisk?: ((disk: GuestDisk) => GuestDisk) | undefined;
}

/** Files that are ready to be opened. Disposing removes them. */
export interface PreparedFiles extends Disposable {
  /** Within the storage. */
  readonly imageName: string;
  /** What to open them from. */
  readonly stack: ImageStack;
  /** Where the files are not what the cell asks for to the letter: how they differ, in words. */
  readonly fallbacks: readonly string[];
  /** From here on disposing removes nothing. */
  keep(): void;
}

/**
 * Makes the files of a cell.
 *
 * @throws Qcow2BenchError of the storage (a full disk), the format (a size it does not take) or the
 *   backing chain; the signal's reason.
 */
export async function prepareFiles(options: PrepareOptions): Promise<PreparedFiles> {
  const { plan, storage, imageName, backingName, signal } = options;
  const { userImage } = plan;
  if (userImage !== undefined) {
    const stack = userImage.inPlace
      ? servedStack(userImage.path, userImage)
      : copiedStack(userImage, { storage, name: imageName });
    const files = new MadeFiles(storage, imageName, stack);
    files.fallbacks.push(...leftOutOf(plan.source));
    if (userImage.inPlace) {
      files.fallbacks.push('the run wrote to the image itself, not to a copy (--in-place)');
      return files;
    }
    for (const name of await copyUserImage(userImage, { storage, name: imageName }, signal)) files.made(name);
    return files;
  }
  const backingPolicy = { unnamedFormat: unnamedFormat(plan) };
  const files = new MadeFiles(storage, imageName, { storage, imageName, backingPolicy });
  try {
    const image = { name: imageName, format: plan.cell.format };
    const behind = backingChain(plan, backingName);
    await makeBackingFiles(options, files, behind);
    await makeFile(options, files, {
      name: imageName,
      format: plan.cell.format,
      virtualSize: plan.source.virtualSize,
      backingFile: behind[0],
    });
    if (behind.length === 0 && hasTemplate(plan)) {
      // The control of a run over a backing file: the same data, all of it in the image.
      for (const requests of visibleFills(plan)) await fill(options, image, requests);
      const { format } = plan.cell;
      const hasNone = FORMAT_FACTS[format].backing === 'none';
      const why = hasNone ? `${format} has no backing files` : 'no backing file was asked for';
      files.fallbacks.push(`${why}: the image holds a copy of the backing file's data`);
    }
    await fill(options, image, prefill(plan));
    await fill(options, image, crash(plan), 'crash');
    return files;
  } catch (error) {
    files[Symbol.dispose]();
    throw error;
  }
}

class MadeFiles implements PreparedFiles {
  readonly imageName: string;
  readonly stack: ImageStack;
  readonly fallbacks: string[] = [];
  readonly #storage: Storage;
  #names: string[] = [];

  constructor(storage: Storage, imageName: string, stack: ImageStack) {
    this.#storage = storage;
    this.imageName = imageName;
    this.stack = stack;
  }

  made(name: string): void {
    this.#names.push(name);
  }

  keep(): void {
    this.#names = [];
  }

  [Symbol.dispose](): void {
    for (const name of this.#names) this.#storage.remove(name);
    this.#names = [];
  }
}

interface FileToMake extends NamedFile {
  /** Bytes. */
  readonly virtualSize: number;
  readonly backingFile: NamedFile | undefined;
}

async function makeFile(options: PrepareOptions, files: MadeFiles, file: FileToMake): Promise<void> {
  const { cell } = options.plan;
  const { name, format, virtualSize, backingFile } = file;
  const { storage, imageName } = options;
  const device = storage.create(name);
  files.made(name);
  const shape = name === imageName ? cell.shape : undefined;
  const dataFile = hasDataFile(shape) ? makeDataFile(storage, files, imageName) : undefined;
  try {
    await createImage({
      device,
      format,
      virtualSize,
      backingFile,
      // Both are the image's, like the format: a backing file has its format's defaults.
      clusterSize: name === options.imageName ? (cell.clusterSize ?? undefined) : undefined,
      refcounts: name === options.imageName ? (cell.refcounts ?? undefined) : undefined,
      shape,
      dataFile,
    });
  } finally {
    await device.close();
    await dataFile?.device.close();
  }
}

function makeDataFile(
  storage: Storage,
  files: MadeFiles,
  imageName: string,
): NonNullable<CreateImageOptions['dataFile']> {
  const name = dataFileName(imageName);
  const device = storage.create(name, { label: 'data' });
  files.made(name);
  // Relative to the directory of the image that names it.
  return { name: basename(name), device };
}

/**
 * Makes the files behind an image, the base first. If the chain is longer than the workload's own,
 * the last files have the data and those before them none.
 */
async function makeBackingFiles(
  options: PrepareOptions,
  files: MadeFiles,
  chain: readonly NamedFile[],
): Promise<void> {
  const { source } = options.plan;
  const own = backingLayersOf(source);
  for (const [index, file] of [...chain.entries()].toReversed()) {
    const layer = index - (chain.length - own.length);
    const virtualSize = own[layer]?.size ?? source.virtualSize;
    await makeFile(options, files, { ...file, virtualSize, backingFile: chain[index + 1] });
    await fill(options, file, backingFill(options.plan, layer));
  }
}

/**
 * Serves the requests to one of the files and closes it, or ends as a process does that is killed.
 */
async function fill(
  options: PrepareOptions,
  { name, format }: NamedFile,
  requests: Iterable<Request>,
  ending: 'close' | 'crash' = 'close',
): Promise<void> {
  const { plan, storage, signal, pause, fillDisk } = options;
  const batches = inBatches(requests);
  const isImage = name === options.imageName;
  const first = batches.next();
  if (first.done === true) return;
  await using stack = await openStack({
    storage,
    imageName: name,
    format,
    cache: 'writeback',
    refcounts: isImage ? plan.cell.refcounts : null,
    commit: isImage ? plan.cell.commit : undefined,
    backingPolicy: { unnamedFormat: unnamedFormat(plan) },
    metered: false,
  });
  await runRequests({
    backend: fillDisk?.(stack.backend) ?? stack.backend,
    batches: chain(first.value, batches),
    queueDepth: 1,
    payload: new Payload(plan.payload, payloadSeed(plan)),
    signal,
    progress: pause,
  });
  // Disposing of the stack abandons an image that was not closed.
  if (ending === 'close') await stack.close();
}

/** The seed of random payloads: the plan's, or else the workload's own. */
export function payloadSeed(plan: CellPlan): number {
  return plan.seed ?? (plan.source.kind === 'workload' ? plan.source.workload.seed : 0);
}

function hasTemplate({ source }: CellPlan): boolean {
  return backingLayersOf(source).some((layer) => layer.fill.length > 0);
}

function backingFill({ source, seed }: CellPlan, layer: number): Iterable<Request> {
  return source.kind === 'workload' ? generateBackingFill(source.workload, { seed, layer }) : [];
}

/** The data of the chain as the guest sees it, the base's first: each up to the shortest above. */
function visibleFills(plan: CellPlan): readonly Iterable<Request>[] {
  let end = plan.source.virtualSize;
  const fills = backingLayersOf(plan.source).map((layer, index) => {
    end = Math.min(end, layer.size ?? plan.source.virtualSize);
    return clipped(backingFill(plan, index), end);
  });
  return fills.toReversed();
}

function prefill({ source, seed }: CellPlan): Iterable<Request> {
  if (source.kind === 'workload') return generatePrefill(source.workload, { seed });
  return source.fill?.requests(source.virtualSize) ?? [];
}

function crash({ source, seed }: CellPlan): Iterable<Request> {
  return source.kind === 'workload' ? generateCrash(source.workload, { seed }) : [];
}

/** What of the requests is below `end`: a backing file may be longer than the image over it. */
function* clipped(requests: Iterable<Request>, end: number): Generator<Request, undefined> {
  for (const request of requests) {
    const length = Math.min(request.length, end - request.offset);
    if (request.op === 'flush' || length === request.length) yield request;
    else if (length > 0) yield { ...request, length };
  }
  return undefined;
}

function* inBatches(requests: Iterable<Request>): Generator<readonly Request[], undefined> {
  let batch: Request[] = [];
  for (const request of requests) {
    batch.push(request);
    if (batch.length < FILL_BATCH_REQUESTS) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
  return undefined;
}

function* chain<T>(first: T, rest: Iterable<T>): Generator<T, undefined> {
  yield first;
  yield* rest;
  return undefined;
}
