/**
 * The two sides of a cell that is held against QEMU: the same requests on copies of the same image,
 * QEMU on the one and the builtin engine on the other. The builtin engine goes first: QEMU is asked
 * to read what it read.
 */

import type { CellPlan, CountPassOptions } from '../bench/engine.ts';
import { Payload } from '../bench/payload.ts';
import { backingChain, unnamedFormat } from '../bench/backing-layers.ts';
import { payloadSeed } from '../bench/prepare.ts';
import { runRequests } from '../bench/runner.ts';
import { openingOf, openStack, type Stack, type StackOptions } from '../bench/stack.ts';
import { copiedStack, type UserImage } from '../bench/user-image.ts';
import type { FileStorage } from '../device/file-storage.ts';
import { dataFileName, hasDataFile } from '../format/image-shape.ts';
import type { Cell, GuestCounts } from '../result/schema.ts';
import type { Request } from '../workload/request.ts';
import {
  cacheOptions,
  DISCARD_NO_UNREF,
  traceQemuIo,
  type ExpectedBytes,
  type QemuIoImage,
  type QemuIoRun,
} from './qemu-io.ts';
import type { QemuIoTools } from './qemu-tools.ts';
import type { SlowedCall } from './strace.ts';
import type { TaggedRecord } from './varying-order.ts';
import { WatchedDisk } from './watched-disk.ts';
import { WithoutSync } from './without-sync.ts';

/** One cell being counted. */
export interface Pass {
  readonly plan: CellPlan;
  readonly options: CountPassOptions;
  readonly storage: FileStorage;
  readonly tools: QemuIoTools;
  readonly requests: readonly Request[];
  readonly imageName: string;
  readonly backingName: string;
}

/** The copy of an image that the builtin engine serves the same requests on. */
export function copyOf(imageName: string): string {
  return `${imageName}.builtin`;
}

export function serveWithQemu(
  pass: Pass,
  { ours, slowed }: { readonly ours: BuiltinRun; readonly slowed?: SlowedCall | undefined },
): Promise<QemuIoRun> {
  const { options, storage, tools, requests, imageName, backingName } = pass;
  const { cell, userImage } = pass.plan;
  const made = backingChain(pass.plan, backingName).map(({ name }) => ({ path: storage.pathOf(name) }));
  const behind = filesBehind(userImage?.chain ?? made);
  return traceQemuIo({
    ...imageOfQemu(pass),
    requests,
    files: {
      ...behind,
      ...(hasDataFile(cell.shape) ? { data: storage.pathOf(dataFileName(imageName)) } : {}),
    },
    expected: ours.reads,
    slowed,
    signal: options.signal,
    tools,
  });
}

/** By the names that operations on them carry. */
function filesBehind(
  chain: readonly { readonly path: string; readonly dataPath?: string | undefined }[],
): Readonly<Record<string, string>> {
  const named = chain.flatMap(({ path, dataPath }, index) => {
    const label = `backing:${String(index)}`;
    return [
      [label, path] as const,
      ...(dataPath === undefined ? [] : [[`${label}:data`, dataPath] as const]),
    ];
  });
  return Object.fromEntries(named);
}

export function imageOfQemu({ plan, storage, imageName }: Pass): QemuIoImage {
  const { cell, userImage } = plan;
  const dataPath = hasDataFile(cell.shape) ? storage.pathOf(dataFileName(imageName)) : undefined;
  return {
    path: storage.pathOf(imageName),
    format: cell.format,
    cache: cell.cache,
    discard: cell.discard,
    imageOptions: imageOptions(cell, dataPath, userImage),
  };
}

/** As `--image-opts` takes them. */
function imageOptions(
  { caches, discardNoUnref }: Cell,
  dataPath: string | undefined,
  userImage: UserImage | undefined,
): Readonly<Record<string, string>> {
  const opening = { ...cacheOptions(caches), ...(discardNoUnref === true ? DISCARD_NO_UNREF : {}) };
  const options = { ...opening, ...(userImage === undefined ? {} : optionsBehind(userImage)) };
  // QEMU would take the name from the directory that it runs in.
  return dataPath === undefined
    ? options
    : { ...options, 'data-file.driver': 'file', 'data-file.filename': dataPath };
}

/** The files behind a copied image, whose relative names lead nowhere. */
function optionsBehind({ chain }: UserImage): Readonly<Record<string, string>> {
  const options: Record<string, string> = {};
  let node = '';
  for (const { path, format, dataPath } of chain) {
    node += 'backing.';
    options[`${node}driver`] = format;
    options[`${node}file.driver`] = 'file';
    options[`${node}file.filename`] = path;
    if (dataPath === undefined) continue;
    options[`${node}data-file.driver`] = 'file';
    options[`${node}data-file.filename`] = dataPath;
  }
  return options;
}

export interface BuiltinRun {
  readonly records: readonly TaggedRecord[];
  readonly guest: GuestCounts;
  /** By index of the request. */
  readonly reads: ReadonlyMap<number, ExpectedBytes>;
}

/** Serves the requests with the builtin engine on the copy. */
export async function serveWithBuiltin(pass: Pass): Promise<BuiltinRun> {
  const { plan, options, requests } = pass;
  const records: TaggedRecord[] = [];
  let request: number | undefined;
  await using stack = await openBuiltin(pass, {
    hostLog: (record) => records.push({ ...record, request }),
    wrap: (device) => new WithoutSync(device),
  });
  const disk = new WatchedDisk(stack.backend, (index) => {
    request = index;
  });
  const guest = await runRequests({
    backend: disk,
    batches: [requests],
    queueDepth: 1,
    payload: new Payload(plan.payload, payloadSeed(plan)),
    signal: options.signal,
    progress: options.progress,
  });
  request = undefined;
  await stack.close();
  return { records, guest, reads: disk.reads };
}

export function openBuiltin(
  { plan, storage, imageName }: Pass,
  options: Pick<StackOptions, 'hostLog' | 'wrap' | 'readOnly'>,
): Promise<Stack> {
  const { cell, userImage } = plan;
  const name = copyOf(imageName);
  const stack =
    userImage === undefined
      ? {
          storage,
          imageName: name,
          dataFile: hasDataFile(cell.shape) ? dataFileName(name) : undefined,
          backingPolicy: { unnamedFormat: unnamedFormat(plan) },
        }
      : copiedStack(userImage, { storage, name });
  return openStack({
    ...openingOf(cell),
    ...(options.readOnly === true ? { refcounts: undefined } : {}),
    ...options,
    ...stack,
  });
}
