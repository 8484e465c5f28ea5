/**
 * The qcow2 engine against a real QEMU, both starting from the same file: the same host writes, zero-ranges and
 * syncs in the same order, and the same bytes in the end.
 *
 * Within a stretch between two syncs QEMU's thread pool may reorder operations of one request that spans several
 * extents; such a stretch is compared as a multiset.
 */

import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openStack } from '../../src/bench/stack.ts';
import { probeCapabilities } from '../../src/device/capabilities.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import type { HostLogRecord } from '../../src/device/host-log.ts';
import type { BlockBackend } from '../../src/format/block-backend.ts';
import { compareOperations } from '../../src/peer/compare-operations.ts';
import { runQemuIo } from '../../src/peer/qemu-io.ts';
import { createWithQemuImg } from '../../src/peer/qemu-tools.ts';
import type { Request } from '../../src/workload/request.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { parityCase, type ParityCase } from './random-list.ts';

const SEEDS = Array.from({ length: 30 }, (_, index) => index + 1);

const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');
if (skip !== undefined) process.stderr.write(`parity with QEMU is skipped: ${skip}\n`);

let directory = '';
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'qcow2-bench-parity-'));
});
afterAll(() => {
  rmSync(directory, { recursive: true, force: true });
});

describe.skipIf(skip !== undefined)('host operations and final bytes equal those of QEMU', () => {
  it.each(SEEDS)('seed %i', async (seed) => {
    const test = parityCase(seed);
    const theirs = join(directory, `theirs-${String(seed)}`);
    const ours = `ours-${String(seed)}`;
    await prepare(test, theirs);
    copyFileSync(theirs, join(directory, ours));

    const theirOperations = await runQemuIo({
      path: theirs,
      format: 'qcow2',
      cache: test.cache,
      requests: test.requests,
    });
    const ourOperations = await serve(test, ours);

    const comparison = compareOperations(ourOperations, theirOperations, { ignoreFiles: ['backing:0'] });
    expect(comparison, describeCase(test)).toMatchObject({ identical: true });
    const bytesEqual = readFileSync(theirs).equals(readFileSync(join(directory, ours)));
    expect(bytesEqual, `final bytes differ: ${describeCase(test)}`).toBe(true);
  });
});

/** Makes the image, its backing file and what both hold, all by QEMU. */
async function prepare(test: ParityCase, path: string): Promise<void> {
  const { backing, virtualSize, clusterSize, refcounts } = test;
  // Relative to the overlay's directory: where a backing file is allowed to lie.
  const backingName = `backing-${String(test.seed)}`;
  const backingPath = join(directory, backingName);
  if (backing !== undefined) {
    await createWithQemuImg(backingPath, { format: backing.format, size: backing.size });
    await fill(backingPath, backing.format, test.backingFill);
  }
  await createWithQemuImg(path, {
    format: 'qcow2',
    size: virtualSize,
    options: { cluster_size: String(clusterSize), lazy_refcounts: refcounts === 'lazy' ? 'on' : 'off' },
    ...(backing === undefined ? {} : { backing: { path: backingName, format: backing.format } }),
  });
  await fill(path, 'qcow2', test.prefill);
}

async function fill(path: string, format: 'raw' | 'qcow2', requests: readonly Request[]): Promise<void> {
  if (requests.length > 0) await runQemuIo({ path, format, cache: 'writeback', requests });
}

/** Serves the requests with our engine, on the real file in the case's cache mode; answers the host log. */
async function serve(test: ParityCase, name: string): Promise<readonly HostLogRecord[]> {
  const log: HostLogRecord[] = [];
  const storage = new FileStorage(directory, probeCapabilities(directory));
  await using stack = await openStack({
    storage,
    imageName: name,
    format: 'qcow2',
    cache: test.cache,
    hostLog: (record) => log.push(record),
  });
  let writes = 0;
  for (const request of test.requests) {
    if (request.op === 'write') {
      await stack.backend.write(request.offset, payload(writes++, request), request);
    } else await serveOther(stack.backend, request);
  }
  await stack.close();
  return log;
}

async function serveOther(backend: BlockBackend, request: Request): Promise<void> {
  if (request.op === 'read') await backend.read(request.offset, new Uint8Array(request.length));
  else await backend.flush();
}

function payload(index: number, request: Request): Uint8Array {
  return new Uint8Array(request.length).fill((index % 255) + 1);
}

function describeCase(test: ParityCase): string {
  const { prefill, backingFill, requests, ...rest } = test;
  return JSON.stringify({
    ...rest,
    prefill: prefill.length,
    backingFill: backingFill.length,
    requests: requests.length,
  });
}
