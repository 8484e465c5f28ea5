/**
 * The strongest promise of the QED engine: for the same requests on the same starting file it makes the same
 * changes and syncs as QEMU, operation by operation, and leaves the same bytes.
 */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Random } from '../../../src/core/random.ts';
import { BlockBackend } from '../../../src/format/block-backend.ts';
import { openImage } from '../../../src/format/registry.ts';
import { filled, RecordedFiles } from '../recorded-files.ts';
import { reasonToSkip, runTool } from '../system-tools.ts';
import { traceQemuIo } from './traced-qemu-io.ts';

type Start = 'fresh' | 'prefilled' | 'crashed' | 'backed';

interface Request {
  readonly op: 'write' | 'fua-write' | 'read' | 'flush' | 'write-zeroes' | 'discard';
  readonly offset: number;
  readonly length: number;
  readonly value: number;
}

const SECTOR = 512;
const VIRTUAL_SIZE = 48 * 1024 * 1024 + 3 * SECTOR;
const skip = reasonToSkip('qemu-io', 'qemu-img', 'strace');

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'qcow2-bench-qed-parity-'));
});
afterAll(() => {
  rmSync(directory, { recursive: true });
});

const cases = (['writethrough', 'writeback'] as const).flatMap((cacheMode) =>
  (['fresh', 'prefilled', 'crashed', 'backed'] as const).flatMap((start, index) =>
    [4096, 65_536].map((clusterSize) => ({ cacheMode, start, clusterSize, seed: 100 * index + clusterSize })),
  ),
);

describe.skipIf(skip !== undefined)(
  `QED does what QEMU does${skip === undefined ? '' : ` (${skip})`}`,
  () => {
    it.each(cases)(
      '$start image, clusters of $clusterSize bytes, $cacheMode, seed $seed',
      async ({ cacheMode, start, clusterSize, seed }) => {
        const random = new Random(seed + (cacheMode === 'writeback' ? 7 : 0));
        makeStart(start, clusterSize, random);
        const files = new RecordedFiles();
        files.put('disk.qed', readFileSync(join(directory, 'disk.qed')));
        if (start === 'backed') files.put('base.raw', readFileSync(join(directory, 'base.raw')));

        const requests = randomRequests(random, { count: 30, zeroes: start !== 'backed' });
        const theirs = traceQemuIo({
          image: 'disk.qed',
          directory,
          cacheMode,
          commands: requests.map(asCommand),
        });

        const image = await openImage({ format: 'qed', name: 'disk.qed', files, readOnly: false });
        const backend = new BlockBackend({ image, cacheMode });
        for (const request of requests) await perform(backend, request);
        await image.close();

        // A trace that was not understood would compare nothing with nothing.
        expect(theirs.length).toBeGreaterThan(20);
        const ours = files.takeChanges().map(withoutReason);
        expect(ours).toEqual(theirs);
        expect(Buffer.compare(files.contents('disk.qed'), readFileSync(join(directory, 'disk.qed')))).toBe(0);
      },
    );
  },
);

function makeStart(start: Start, clusterSize: number, random: Random): void {
  const options = ['-o', `cluster_size=${String(clusterSize)}`];
  const backing = start === 'backed' ? ['-b', 'base.raw', '-F', 'raw'] : [];
  if (start === 'backed') {
    runTool(
      'qemu-img',
      ['create', '-q', '-f', 'raw', 'base.raw', String(VIRTUAL_SIZE / 2 + SECTOR)],
      directory,
    );
    writeFileSync(join(directory, 'base.raw'), patterned(20 * 1024 * 1024), { flag: 'r+' });
  }
  const create = ['create', '-q', '-f', 'qed', ...options, ...backing, 'disk.qed', String(VIRTUAL_SIZE)];
  runTool('qemu-img', create, directory);
  if (start !== 'prefilled' && start !== 'crashed') return;
  const writes = randomRequests(random, { count: 12, zeroes: true }).map(asCommand);
  const commands = [...writes, ...(start === 'crashed' ? ['abort'] : [])].flatMap((command) => [
    '-c',
    command,
  ]);
  spawnSync('qemu-io', ['-f', 'qed', ...commands, 'disk.qed'], { cwd: directory });
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
  const requests: Request[] = [];
  for (let index = 0; index < options.count; index++) {
    const length = SECTOR * (1 + random.below(random.chance(0.2) ? 1200 : 40));
    // Half of the requests share a small part of the disk, so that they meet what others allocated.
    const span = random.chance(0.5) ? 1024 * 1024 : VIRTUAL_SIZE;
    const offset = SECTOR * random.below((span - length) / SECTOR + 1);
    requests.push({ op: randomOp(random, options.zeroes), offset, length, value: 1 + (index % 255) });
  }
  return requests;
}

function randomOp(random: Random, zeroes: boolean): Request['op'] {
  const roll = random.fraction();
  if (roll < 0.55) return 'write';
  if (roll < 0.65) return 'fua-write';
  if (roll < 0.75) return 'flush';
  if (roll < 0.85) return 'read';
  return zeroes && roll < 0.95 ? 'write-zeroes' : 'discard';
}

function asCommand({ op, offset, length, value }: Request): string {
  const range = `${String(offset)} ${String(length)}`;
  switch (op) {
    case 'write':
      return `write -P ${String(value)} ${range}`;
    case 'fua-write':
      return `write -f -P ${String(value)} ${range}`;
    case 'read':
      return `read ${range}`;
    case 'flush':
      return 'flush';
    case 'write-zeroes':
      return `write -z ${range}`;
    case 'discard':
      return `discard ${range}`;
  }
}

async function perform(backend: BlockBackend, { op, offset, length, value }: Request): Promise<void> {
  switch (op) {
    case 'write':
      await backend.write(offset, filled(length, value), { fua: false });
      return;
    case 'fua-write':
      await backend.write(offset, filled(length, value), { fua: true });
      return;
    case 'read':
      await backend.read(offset, new Uint8Array(length));
      return;
    case 'flush':
      await backend.flush();
      return;
    case 'write-zeroes':
      await backend.writeZeroes(offset, length, { fua: false, unmap: false });
      return;
    case 'discard':
      await backend.discard(offset, length);
      return;
  }
}

/** `W data 0 512` → `W 0 512`, `F close` → `F`: QEMU does not say why. */
function withoutReason(change: string): string {
  const [letter = '', , offset, length] = change.split(' ');
  return letter === 'F' ? letter : `${letter} ${String(offset)} ${String(length)}`;
}
