/**
 * Host operations that are in flight at once on real files: what the guest wrote is there, and QEMU
 * finds the image clean.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { Payload } from '../../src/bench/payload.ts';
import { runRequests } from '../../src/bench/runner.ts';
import { openStack } from '../../src/bench/stack.ts';
import { Random } from '../../src/core/random.ts';
import { probeCapabilities } from '../../src/device/capabilities.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import { createImage } from '../../src/format/registry.ts';
import type { Request } from '../../src/workload/request.ts';
import { reasonToSkip, runTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';

const SECTOR = 512;
const DISK = 2 * 1024 * 1024;
/** Below the period of the payload, so that each write has bytes of its own. */
const WRITES = 250;

const skipped = reasonToSkip('qemu-img');

/** Writes that overlap each other within clusters and across them. */
function overlappingWrites(random: Random): Request[] {
  return Array.from({ length: WRITES }, (): Request => {
    const length = SECTOR * (1 + random.below(random.chance(0.2) ? 400 : 32));
    const offset = SECTOR * random.below((DISK - length) / SECTOR);
    return { op: 'write', offset, length, fua: random.chance(0.1), unmap: false, timeNs: 0 };
  });
}

/**
 * When each write began and ended. Two that were in flight together may end in either order on a
 * sector.
 */
class Spans {
  readonly #issued: number[] = [];
  readonly #done: number[] = [];
  #now = 0;

  resumes(): void {
    // Time here is the order of events alone.
  }

  issued(number: number): void {
    this.#issued[number] = this.#now++;
  }

  done(number: number): void {
    this.#done[number] = this.#now++;
  }

  /** The sectors whose byte is of no write that may have been the last one there. */
  wrongSectors(requests: readonly Request[], disk: Uint8Array): readonly number[] {
    const wrong: number[] = [];
    for (let sector = 0; sector < DISK / SECTOR; sector++) {
      const at = sector * SECTOR;
      const here = requests.flatMap(({ offset, length }, index) =>
        offset <= at && at < offset + length ? [index] : [],
      );
      const lastIssued = Math.max(-1, ...here.map((index) => this.#issued[index] ?? NaN));
      const possible = here.filter((index) => (this.#done[index] ?? NaN) > lastIssued);
      const bytes = disk.subarray(at, at + SECTOR);
      const [value = 0] = bytes;
      const isWhole = bytes.every((byte) => byte === value);
      const isKnown = here.length === 0 ? value === 0 : possible.some((index) => (index % 255) + 1 === value);
      if (!isWhole || !isKnown) wrong.push(sector);
    }
    return wrong;
  }
}

describe.skipIf(skipped !== undefined)(
  `overlapping writes on files${skipped === undefined ? '' : `: ${skipped}`}`,
  () => {
    describe.each([
      ['raw', undefined],
      ['qcow2', 'eager'],
      ['qcow2', 'lazy'],
      ['qed', undefined],
    ] as const)('%s %s', (format, refcounts) => {
      test.for([
        [1, 'writethrough', true],
        [4, 'none', true],
        [32, 'writethrough', true],
        [32, 'writeback', false],
        [256, 'none', true],
        [256, 'writeback', true],
      ] as const)('at depth %i, %s, overlap %s', async ([queueDepth, cache, overlap], context) => {
        const seed = 977 + queueDepth;
        const directory = testDirectory();
        const capabilities = probeCapabilities(directory);
        context.skip(cache === 'none' && !capabilities.direct.ok, 'no O_DIRECT here');
        const storage = new FileStorage(directory, capabilities);
        {
          // Closed before the image is opened: both hold its lock.
          using made = storage.create('image');
          await createImage({ device: made, format, virtualSize: DISK, refcounts });
        }
        const requests = overlappingWrites(new Random(seed));
        const watch = new Spans();
        await using stack = await openStack({
          storage,
          imageName: 'image',
          format,
          cache,
          refcounts,
          overlap,
        });
        const payload = new Payload('pattern', seed);
        await runRequests({ backend: stack.backend, batches: [requests], queueDepth, payload, watch });
        await stack.close();
        if (format !== 'raw') runTool('qemu-img', ['check', '-f', format, 'image'], directory);
        runTool('qemu-img', ['convert', '-f', format, '-O', 'raw', 'image', 'plain'], directory);
        const wrong = watch.wrongSectors(requests, readFileSync(join(directory, 'plain')));
        expect(wrong, `seed ${String(seed)}`).toEqual([]);
      });
    });
  },
);
