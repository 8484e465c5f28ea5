/**
 * The strongest promise of the QED engine: for the same requests on the same starting file it makes
 * the same changes and syncs as QEMU, operation by operation, and leaves the same bytes.
 *
 * One thing is left out: zeroes written to an image with a backing file. What QEMU 7.2 makes of a
 * zero cluster that is later written in part is not what the guest wrote (see `qed-image.test.ts`,
 * zero clusters).
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Random } from '../../src/core/random.ts';
import { BlockBackend } from '../../src/format/block-backend.ts';
import { openImage } from '../../src/format/registry.ts';
import { compareOperations } from '../../src/peer/compare-operations.ts';
import { runQemuIo } from '../../src/peer/qemu-io.ts';
import type { Request, RequestOp } from '../../src/workload/request.ts';
import { RecordedFiles } from '../format/recorded-files.ts';
import { serveRequests } from '../format/serve-requests.ts';
import { crashQemuIo, ioWords, reasonToSkip, runTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';

type Start = 'fresh' | 'prefilled' | 'crashed' | 'backed';

const SECTOR = 512;
const VIRTUAL_SIZE = 48 * 1024 * 1024 + 3 * SECTOR;
const BASE_SIZE = VIRTUAL_SIZE / 2 + SECTOR;
const skip = reasonToSkip('qemu-io', 'qemu-img', 'strace');

const directory = testDirectory();

const cases = (['writethrough', 'writeback'] as const).flatMap((cacheMode, cacheIndex) =>
  (['fresh', 'prefilled', 'crashed', 'backed'] as const).flatMap((start, index) =>
    [4096, 65_536].map((clusterSize) => ({
      cacheMode,
      start,
      clusterSize,
      seed: 1000 * cacheIndex + 100 * index + clusterSize,
    })),
  ),
);

const suite = `QED does what QEMU does${skip === undefined ? '' : ` (${skip})`}`;
describe.skipIf(skip !== undefined)(suite, () => {
  it.each(cases)('$start image, clusters of $clusterSize bytes, $cacheMode, seed $seed', async (shape) => {
    const { cacheMode, start } = shape;
    const random = new Random(shape.seed);
    makeStart(start, shape.clusterSize, random);
    const files = new RecordedFiles();
    files.put('disk.qed', inDirectory('disk.qed'));
    if (start === 'backed') files.put('base.raw', inDirectory('base.raw'));

    const requests = randomRequests(random, { count: 30, zeroes: start !== 'backed' });
    const theirs = await runQemuIo({
      path: join(directory, 'disk.qed'),
      format: 'qed',
      cache: cacheMode,
      requests,
    });

    const image = await openImage({ format: 'qed', name: 'disk.qed', files, readOnly: false });
    const backend = new BlockBackend({ image, cacheMode });
    await serveRequests(backend, requests);
    await image.close();

    // A trace that was not understood would compare nothing with nothing.
    expect(theirs.filter(({ op }) => op === 'write').length).toBeGreaterThan(20);
    const comparison = compareOperations(files.operations, theirs, { ignoreFiles: ['backing:0'] });
    expect(comparison).toMatchObject({ identical: true, reorderedStretches: 0 });
    expect(Buffer.compare(files.contents('disk.qed'), inDirectory('disk.qed'))).toBe(0);
  });
});

function inDirectory(name: string): Uint8Array {
  return readFileSync(join(directory, name));
}

/** Makes `disk.qed`, with QEMU's tools alone. */
function makeStart(start: Start, clusterSize: number, random: Random): void {
  const backing = start === 'backed' ? ['-b', 'base.raw', '-F', 'raw'] : [];
  if (start === 'backed') {
    runTool('qemu-img', ['create', '-q', '-f', 'raw', 'base.raw', String(BASE_SIZE)], directory);
    writeFileSync(join(directory, 'base.raw'), patterned(20 * 1024 * 1024), { flag: 'r+' });
  }
  const options = ['-o', `cluster_size=${String(clusterSize)}`, ...backing];
  const create = ['create', '-q', '-f', 'qed', ...options, 'disk.qed', String(VIRTUAL_SIZE)];
  runTool('qemu-img', create, directory);
  if (start !== 'prefilled' && start !== 'crashed') return;
  const commands = randomRequests(random, { count: 12, zeroes: true })
    .filter(({ op }) => op === 'write' || op === 'write-zeroes')
    .map(
      ({ op, offset, length }) =>
        `write ${op === 'write' ? '-P 200' : '-z'} ${String(offset)} ${String(length)}`,
    );
  if (start === 'crashed') crashQemuIo(commands, 'disk.qed', { format: 'qed', directory });
  else runTool('qemu-io', ioWords(commands, 'disk.qed', 'qed'), directory);
}

/** No two neighbouring sectors are alike, so that one copied to the wrong place shows. */
function patterned(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += SECTOR) bytes.fill(1 + ((at / SECTOR) % 251), at, at + SECTOR);
  return bytes;
}

function randomRequests(
  random: Random,
  options: { readonly count: number; readonly zeroes: boolean },
): Request[] {
  return Array.from({ length: options.count }, () => {
    const length = SECTOR * (1 + random.below(random.chance(0.2) ? 1200 : 40));
    // Half of the requests share a small part of the disk, so that they meet what others allocated.
    const span = random.chance(0.5) ? 1024 * 1024 : VIRTUAL_SIZE;
    const offset = SECTOR * random.below((span - length) / SECTOR + 1);
    const op = randomOp(random, options.zeroes);
    const fua = op === 'write' && random.chance(0.15);
    const range = op === 'flush' ? { offset: 0, length: 0 } : { offset, length };
    return { op, ...range, fua, unmap: false, timeNs: 0 };
  });
}

function randomOp(random: Random, zeroes: boolean): RequestOp {
  const roll = random.fraction();
  if (roll < 0.65) return 'write';
  if (roll < 0.75) return 'flush';
  if (roll < 0.85) return 'read';
  return zeroes && roll < 0.95 ? 'write-zeroes' : 'discard';
}
