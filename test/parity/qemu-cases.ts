/**
 * One list of requests served by QEMU and by our engine from the same image file: both must do the
 * same host operations in the same order, and leave the same bytes.
 */

import { rmSync } from 'node:fs';
import { join } from 'node:path';

import { probeCapabilities } from '../../src/device/capabilities.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import type { CacheMode } from '../../src/format/cache-mode.ts';
import type { CacheSizes } from '../../src/format/cache-sizes.ts';
import type { Format } from '../../src/format/disk-image.ts';
import type { DiscardMode } from '../../src/format/image-options.ts';
import type { DataFileKind } from '../../src/format/image-shape.ts';
import { cacheOptions, DISCARD_NO_UNREF, runQemuIo } from '../../src/peer/qemu-io.ts';
import { createWithQemuImg } from '../../src/peer/qemu-tools.ts';
import { judgeRuns, type TaggedRecord } from '../../src/peer/varying-order.ts';
import { copySparse } from '../../src/device/file-copy.ts';
import type { Request } from '../../src/workload/request.ts';
import { expectSameFiles, expectSameOperations } from '../format/expect-same.ts';
import { runTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { servePeerRequests } from './peer-stack.ts';

export interface QemuCase {
  /** Default qcow2. */
  readonly format?: Format | undefined;
  /** Bytes. */
  readonly virtualSize: number;
  /** As `qemu-img create -o` takes them. */
  readonly options: Readonly<Record<string, string>>;
  readonly cache?: CacheMode | undefined;
  readonly caches?: CacheSizes | undefined;
  /** What both make of guest discards. Default `unmap`. */
  readonly discard?: DiscardMode | undefined;
  /** `discard-no-unref` in both. Default false. */
  readonly noUnref?: boolean | undefined;
  /** Guest data in a file of its own. */
  readonly dataFile?: Exclude<DataFileKind, 'none'> | undefined;
  readonly backing?:
    | { readonly format: 'raw' | 'qcow2'; readonly size: number; readonly fill: readonly Request[] }
    | undefined;
  /** Written by QEMU before the run. */
  readonly prefill?: readonly Request[] | undefined;
  /** Take an internal snapshot before the run: all clusters are shared then. */
  readonly snapshot?: boolean | undefined;
  readonly requests: readonly Request[];
}

/** A request list in few words: `write(0, 4096)`. */
export const ask = {
  write: (offset: number, length: number): Request => request('write', offset, length),
  read: (offset: number, length: number): Request => request('read', offset, length),
  discard: (offset: number, length: number): Request => request('discard', offset, length),
  zero: (offset: number, length: number, unmap = false): Request => ({
    ...request('write-zeroes', offset, length),
    unmap,
  }),
  flush: (): Request => request('flush', 0, 0),
};

function request(op: Request['op'], offset: number, length: number): Request {
  return { op, offset, length, fua: false, unmap: false, timeNs: 0 };
}

export class QemuCases {
  readonly directory = testDirectory();
  #cases = 0;

  /** Expects both engines to do the same; answers how many operations that were. */
  async expectSame(test: QemuCase): Promise<number> {
    const name = `image-${String(this.#cases++)}`;
    const theirs = join(this.directory, name);
    await this.#prepare(test, name);
    const before = `${theirs}.before`;
    for (const copy of [`${theirs}.ours`, before]) await copyFiles(test, theirs, copy);
    const { comparison } = await judgeRuns(await this.#serve(test, `${name}.ours`), async (slowed) => {
      removeFiles(test, theirs);
      await copyFiles(test, before, theirs);
      const { discard, requests } = test;
      return runQemuIo({ ...imageOf(test, theirs), discard, requests, slowed });
    });
    const { requests, backing, ...rest } = test;
    const what = JSON.stringify({
      ...rest,
      prefill: undefined,
      backing: backing?.format,
      requests: requests.length,
    });
    expectSameOperations(comparison, what);
    for (const suffix of suffixesOf(test)) {
      await expectSameFiles(`${theirs}.ours${suffix}`, theirs + suffix, `${suffix} ${what}`);
    }
    for (const path of [theirs, before, `${theirs}.ours`]) removeFiles(test, path);
    return comparison.operations;
  }

  async #prepare(test: QemuCase, name: string): Promise<void> {
    const { format = 'qcow2', backing, dataFile, virtualSize, options, prefill = [] } = test;
    // Relative to the overlay's directory: where a backing file is allowed to be.
    const backingName = `backing-${String(this.#cases)}`;
    if (backing !== undefined) {
      const path = join(this.directory, backingName);
      await createWithQemuImg(path, { format: backing.format, size: backing.size });
      const filled = { path, format: backing.format, cache: 'writeback', requests: backing.fill } as const;
      if (backing.fill.length > 0) await runQemuIo(filled);
    }
    const data = { data_file: `${name}.data`, data_file_raw: dataFile === 'raw' ? 'on' : 'off' };
    await createWithQemuImg(name, {
      format,
      size: virtualSize,
      options: dataFile === undefined ? options : { ...options, ...data },
      // QEMU takes the name of a data file from where it runs.
      directory: this.directory,
      ...(backing === undefined ? {} : { backing: { path: backingName, format: backing.format } }),
    });
    const path = join(this.directory, name);
    if (prefill.length > 0) {
      await runQemuIo({ ...imageOf(test, path), cache: 'writeback', requests: prefill });
    }
    if (test.snapshot === true) runTool('qemu-img', ['snapshot', '-c', 'before', path]);
  }

  #serve(test: QemuCase, imageName: string): Promise<readonly TaggedRecord[]> {
    const storage = new FileStorage(this.directory, probeCapabilities(this.directory));
    const { format = 'qcow2', cache = 'writeback', caches, discard, noUnref, dataFile } = test;
    return servePeerRequests(test.requests, {
      storage,
      imageName,
      format,
      cache,
      caches,
      discard,
      discardNoUnref: noUnref,
      dataFile: dataFile === undefined ? undefined : `${imageName}.data`,
    });
  }
}

/** Ends of the names of an image's files. */
function suffixesOf({ dataFile }: QemuCase): readonly string[] {
  return dataFile === undefined ? [''] : ['', '.data'];
}

async function copyFiles(test: QemuCase, from: string, to: string): Promise<void> {
  for (const suffix of suffixesOf(test)) await copySparse(from + suffix, to + suffix);
}

function removeFiles(test: QemuCase, path: string): void {
  for (const suffix of suffixesOf(test)) rmSync(path + suffix);
}

/** An image as QEMU opens it, with the data file that is beside it. */
function imageOf(
  { format = 'qcow2', cache = 'writeback', caches, dataFile, noUnref }: QemuCase,
  path: string,
) {
  const data = `${path}.data`;
  const dataOptions = { 'data-file.driver': 'file', 'data-file.filename': data };
  const imageOptions = {
    ...cacheOptions(caches),
    ...(dataFile === undefined ? {} : dataOptions),
    ...(noUnref === true ? DISCARD_NO_UNREF : {}),
  };
  return { path, format, cache, imageOptions, files: dataFile === undefined ? undefined : { data } };
}
