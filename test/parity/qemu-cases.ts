/**
 * One list of requests served by QEMU and by our engine from the same image file: both must do the same host
 * operations in the same order, and leave the same bytes.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';

import { openStack } from '../../src/bench/stack.ts';
import { probeCapabilities } from '../../src/device/capabilities.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import type { CacheMode } from '../../src/format/cache-mode.ts';
import type { CacheSizes } from '../../src/format/cache-sizes.ts';
import { cacheOptions, runQemuIo } from '../../src/peer/qemu-io.ts';
import { createWithQemuImg } from '../../src/peer/qemu-tools.ts';
import { judgeRuns, type TaggedRecord } from '../../src/peer/varying-order.ts';
import { copySparse, sameBytes } from '../../src/peer/whole-file.ts';
import type { Request } from '../../src/workload/request.ts';
import { serveRequests } from '../format/serve-requests.ts';
import { runTool } from '../format/system-tools.ts';

export interface QemuCase {
  /** Bytes. */
  readonly virtualSize: number;
  /** As `qemu-img create -o` takes them. */
  readonly options: Readonly<Record<string, string>>;
  readonly cache?: CacheMode | undefined;
  readonly caches?: CacheSizes | undefined;
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
  #directory: string | undefined;
  #cases = 0;

  get directory(): string {
    this.#directory ??= mkdtempSync(join(tmpdir(), 'qcow2-bench-cases-'));
    return this.#directory;
  }

  remove(): void {
    if (this.#directory !== undefined) rmSync(this.#directory, { recursive: true, force: true });
    this.#directory = undefined;
  }

  /** Expects both engines to do the same; answers how many operations that were. */
  async expectSame(test: QemuCase): Promise<number> {
    const name = `image-${String(this.#cases++)}`;
    const theirs = join(this.directory, name);
    await this.#prepare(test, theirs);
    await copySparse(theirs, `${theirs}.ours`);
    const before = `${theirs}.before`;
    await copySparse(theirs, before);
    const { comparison } = await judgeRuns(await this.#serve(test, `${name}.ours`), async (slowed) => {
      rmSync(theirs);
      await copySparse(before, theirs);
      return runQemuIo({
        path: theirs,
        format: 'qcow2',
        cache: test.cache ?? 'writeback',
        requests: test.requests,
        imageOptions: cacheOptions(test.caches),
        slowed,
      });
    });
    const { requests, backing, virtualSize, options, cache, caches } = test;
    const what = JSON.stringify({
      virtualSize,
      options,
      cache,
      caches,
      backing: backing?.format,
      requests: requests.length,
    });
    expect(comparison.identical ? 'identical' : comparison.text, what).toBe('identical');
    expect(await sameBytes(theirs, `${theirs}.ours`), `final bytes differ: ${what}`).toBe(true);
    for (const path of [theirs, before, `${theirs}.ours`]) rmSync(path);
    return comparison.operations;
  }

  async #prepare(test: QemuCase, path: string): Promise<void> {
    const { backing, virtualSize, options, prefill = [] } = test;
    // Relative to the overlay's directory: where a backing file is allowed to lie.
    const backingName = `backing-${String(this.#cases)}`;
    if (backing !== undefined) {
      const backingPath = join(this.directory, backingName);
      await createWithQemuImg(backingPath, { format: backing.format, size: backing.size });
      await fill(backingPath, backing.format, backing.fill);
    }
    await createWithQemuImg(path, {
      format: 'qcow2',
      size: virtualSize,
      options,
      ...(backing === undefined ? {} : { backing: { path: backingName, format: backing.format } }),
    });
    await fill(path, 'qcow2', prefill);
    if (test.snapshot === true) runTool('qemu-img', ['snapshot', '-c', 'before', path]);
  }

  async #serve(test: QemuCase, imageName: string): Promise<readonly TaggedRecord[]> {
    const log: TaggedRecord[] = [];
    let current: number | undefined;
    const storage = new FileStorage(this.directory, probeCapabilities(this.directory));
    await using stack = await openStack({
      storage,
      imageName,
      format: 'qcow2',
      cache: test.cache ?? 'writeback',
      caches: test.caches,
      hostLog: (record) => log.push({ ...record, request: current }),
    });
    await serveRequests(stack.backend, test.requests, (request) => (current = request));
    await stack.close();
    return log;
  }
}

async function fill(path: string, format: 'raw' | 'qcow2', requests: readonly Request[]): Promise<void> {
  if (requests.length > 0) {
    await runQemuIo({ path, format, cache: 'writeback', requests });
  }
}
