/**
 * Serves a list with either engine. Ours goes first: what it reads is what QEMU is then asked to
 * read as well, by qemu-io's own check of patterns.
 */

import { join } from 'node:path';

import { openStack, type Stack, type StackOptions, type WrapDevice } from '../../src/bench/stack.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { Storage } from '../../src/device/storage.ts';
import { unsupportedNoUnref, type QemuProfileName } from '../../src/format/qemu-profile.ts';
import {
  cacheOptions,
  DISCARD_NO_UNREF,
  traceQemuIo,
  type ExpectedBytes,
  type QemuIoRun,
} from '../../src/peer/qemu-io.ts';
import type { SlowedCall } from '../../src/peer/strace.ts';
import { longestUniformRun, uniformRuns } from '../../src/peer/uniform-bytes.ts';
import { WithoutSync } from '../../src/peer/without-sync.ts';
import { payloadByte, serveRequest } from '../format/serve-requests.ts';
import { tryTool } from '../format/system-tools.ts';
import { GuestSectors } from './guest-sectors.ts';
import type { ParityList } from './parity-list.ts';
import { peerProfile } from './peer-stack.ts';
import { fillValue, flushedRequests } from './start-files.ts';
import type { TaggedRecord } from '../../src/peer/varying-order.ts';

export interface BuiltinRun {
  readonly records: readonly TaggedRecord[];
  /** By index of the request. */
  readonly reads: ReadonlyMap<number, ExpectedBytes>;
  /** Reads that gave what the guest never wrote, in words. */
  readonly wrongReads: readonly string[];
  /** Everything that was ever written, as it reads after the image was closed and opened again. */
  readonly readBack: readonly ReadBack[];
}

/** A range of the guest's disk whose bytes are all `value`. */
export interface ReadBack {
  readonly offset: number;
  readonly length: number;
  readonly value: number;
}

const READ_BACK_BYTES = 1024 * 1024;

/**
 * Serves the list with our engine, like that version of QEMU, on the files in `storage`, each with
 * `wrap` around it.
 */
export async function serveWithBuiltin(
  list: ParityList,
  storage: Storage,
  like: QemuProfileName,
  wrap: WrapDevice = (device) => device,
): Promise<BuiltinRun> {
  const records: TaggedRecord[] = [];
  let current: number | undefined;
  const reads = new Map<number, ExpectedBytes>();
  const wrongReads: string[] = [];
  const guest = guestAtStart(list);
  const check = (what: string, offset: number, bytes: Uint8Array): void => {
    const wrong = guest.firstWrong(offset, bytes);
    if (wrong !== undefined) wrongReads.push(`${what}: other bytes than the guest wrote at ${String(wrong)}`);
  };
  const open = { storage, like, wrap: (device: BlockDevice) => new WithoutSync(wrap(device)) };
  await using stack = await openList(list, {
    ...open,
    hostLog: (record) => records.push({ ...record, request: current }),
  });
  let writes = 0;
  for (const [index, request] of list.requests.entries()) {
    const value = payloadByte(writes);
    current = index;
    if (request.op === 'read') {
      const bytes = new Uint8Array(request.length);
      await stack.backend.read(request.offset, bytes);
      check(`request ${String(index)}`, request.offset, bytes);
      reads.set(index, longestUniformRun(bytes));
    } else if (request.compressed === true) {
      await stack.image.writeCompressed?.(request.offset, new Uint8Array(request.length).fill(value));
    } else await serveRequest(stack.backend, request, value);
    // An ignored discard leaves every byte as it was.
    if (request.op !== 'discard' || list.discard === 'unmap') guest.apply(request, value);
    if (request.op === 'write') writes++;
  }
  current = undefined;
  await stack.close();
  const readBack: ReadBack[] = [];
  await using again = await openList(list, { ...open, readOnly: true });
  for (const { offset, length } of guest.touchedRanges()) {
    for (let at = offset; at < offset + length; at += READ_BACK_BYTES) {
      const bytes = new Uint8Array(Math.min(READ_BACK_BYTES, offset + length - at));
      await again.backend.read(at, bytes);
      check('after the run', at, bytes);
      for (const run of uniformRuns(bytes)) {
        readBack.push({ offset: at + run.from, length: run.length, value: run.value });
      }
    }
  }
  return { records, reads, wrongReads, readBack };
}

function openList(
  { files, cache, discard, format, cacheSizes, noUnref }: ParityList,
  options: Pick<StackOptions, 'storage' | 'wrap' | 'hostLog' | 'readOnly'> & {
    readonly like: QemuProfileName;
  },
): Promise<Stack> {
  const [image, below] = files;
  return openStack({
    ...options,
    imageName: image.name,
    format,
    cache,
    discard,
    discardNoUnref: noUnref && unsupportedNoUnref(options.like) === undefined,
    caches: cacheSizes,
    // Only QED leaves a backing file's format out.
    backingPolicy: { unnamedFormat: below?.format },
  });
}

/** What the fills of all files left for the guest to read. */
function guestAtStart({ files }: ParityList): GuestSectors {
  let guest: GuestSectors | undefined;
  for (const [depth, file] of [...files.entries()].reverse()) {
    guest = new GuestSectors(file.size, guest);
    for (const [index, request] of file.fill.entries()) {
      guest.apply(request, fillValue(depth, index));
      // What came after the last flush may or may not be there.
      if (file.crashes && index >= flushedRequests(file.fill)) guest.forget(request);
    }
  }
  return guest as GuestSectors;
}

/** Serves the list with QEMU, traced, on the files in `directory`. */
export function serveWithQemu(
  list: ParityList,
  directory: string,
  { ours, slowed }: { readonly ours: BuiltinRun; readonly slowed: SlowedCall | undefined },
): Promise<QemuIoRun> {
  const { name, dataFile } = list.files[0];
  const data = dataFile === undefined ? undefined : join(directory, dataFile);
  const dataOptions =
    data === undefined ? undefined : { 'data-file.driver': 'file', 'data-file.filename': data };
  const hasNoUnref = list.noUnref && unsupportedNoUnref(peerProfile()) === undefined;
  return traceQemuIo({
    path: join(directory, name),
    format: list.format,
    cache: list.cache,
    discard: list.discard,
    requests: list.requests,
    files: data === undefined ? undefined : { data },
    imageOptions: {
      ...cacheOptions(list.cacheSizes),
      ...dataOptions,
      ...(hasNoUnref ? DISCARD_NO_UNREF : {}),
    },
    expected: ours.reads,
    slowed,
  });
}

/**
 * What qemu-io says where it reads other bytes from the image than ours did; empty if it reads the
 * same.
 */
export function misreadByQemu(list: ParityList, directory: string, readBack: readonly ReadBack[]): string {
  const commands = readBack.map(
    ({ offset, length, value }) => `read -q -P ${String(value)} ${String(offset)} ${String(length)}`,
  );
  const input = [...commands, 'quit'].join('\n');
  const args = ['-r', '-f', list.format, list.files[0].name];
  const done = tryTool('qemu-io', args, directory, input);
  return done.status === 0 ? '' : done.stdout.replaceAll('qemu-io> ', '') + done.stderr;
}
