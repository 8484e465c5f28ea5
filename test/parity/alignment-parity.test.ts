/**
 * What O_DIRECT asks of requests where a file begins with a hole, as every fresh sparse file does:
 * QEMU finds no alignment there and takes 4 KiB, and so do we. Raw images, raw data files and raw
 * backing files; reads are compared too, as padding reads. Memory counts the same.
 */

import { truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import type { StackOptions } from '../../src/bench/stack.ts';
import { Random } from '../../src/core/random.ts';
import { probeCapabilities } from '../../src/device/capabilities.ts';
import { copySparse } from '../../src/device/file-copy.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import { MemoryStorage } from '../../src/device/memory-storage.ts';
import { compareOperations, formatOperation } from '../../src/peer/compare-operations.ts';
import { runQemuIo } from '../../src/peer/qemu-io.ts';
import { createWithQemuImg } from '../../src/peer/qemu-tools.ts';
import type { TaggedRecord } from '../../src/peer/varying-order.ts';
import type { Request } from '../../src/workload/request.ts';
import { expectSameFiles, expectSameOperations } from '../format/expect-same.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { servePeerRequests } from './peer-stack.ts';
import { ask, QemuCases } from './qemu-cases.ts';

const MIB = 1024 * 1024;
const SECTOR = 512;
const BLOCK = 4096;

const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');
const cases = new QemuCases();
const directory = testDirectory();

/** Requests of any place and length in sectors, with the ends of blocks among them. */
function anywhere(seed: number, size: number, count = 60): readonly Request[] {
  const random = new Random(seed);
  return Array.from({ length: count }, (_, index): Request => {
    const offset = random.below(size / SECTOR - 60) * SECTOR;
    const length = (1 + random.below(60)) * SECTOR;
    const fua = random.chance(0.2);
    switch (index % 7) {
      case 0:
      case 1:
        return { ...ask.write(offset, length), fua };
      case 2:
        return { ...ask.zero(offset, length), fua };
      case 3:
        return { ...ask.zero(offset, length, true), fua };
      case 4:
        return ask.discard(offset, length);
      case 5:
        // Whole blocks, or the ends of one.
        return ask.discard(BLOCK * (index + 1) - (index % 3) * SECTOR, BLOCK);
      default:
        return random.chance(0.5) ? ask.flush() : ask.read(offset, length);
    }
  });
}

// qemu-img and we write the first block of a new raw file; other programs do not.
function makeHole(name: string, size: number): string {
  const path = join(directory, name);
  writeFileSync(path, '');
  truncateSync(path, size);
  return path;
}

describe.skipIf(skip !== undefined || !probeCapabilities(tmpdir()).direct.ok)('over a hole, O_DIRECT', () => {
  it.each(['none', 'directsync'] as const)(
    'raw: requests are cut and padded as by QEMU: %s',
    async (cache) => {
      const path = makeHole(`raw-${cache}`, 4 * MIB);
      makeHole(`raw-${cache}-ours`, 4 * MIB);
      const requests = anywhere(1, 4 * MIB);
      const ours = await serve(requests, { imageName: `raw-${cache}-ours`, format: 'raw', cache });
      const theirs = (await runQemuIo({ path, format: 'raw', cache, requests })).filter(
        ({ phase, op }) => phase !== 'open' || op !== 'read',
      );
      const comparison = compareOperations(ours, theirs, { reads: true });
      expectSameOperations(comparison);
      await expectSameFiles(`${path}-ours`, path);

      const memory = new MemoryStorage();
      memory.create('raw').truncate(4 * MIB, 'data');
      const counted = await serve(requests, { storage: memory, imageName: 'raw', format: 'raw', cache });
      expect(counted.map(textOf)).toEqual(ours.map(textOf));
    },
  );

  it.each(['none', 'directsync'] as const)('a raw data file: %s', async (cache) => {
    // The disk cuts its last cluster off: the data file is then left without a first block.
    const virtualSize = 19 * 65_536 + 43 * SECTOR;
    const requests = anywhere(2, virtualSize);
    await cases.expectSame({ virtualSize, options: {}, dataFile: 'raw', cache, requests });
    const extended = { extended_l2: 'on' };
    await cases.expectSame({ virtualSize, options: extended, dataFile: 'raw', cache, requests });
  });

  it('a raw backing file: reads of it are padded', async () => {
    const below = makeHole('below', MIB);
    const path = join(directory, 'over');
    await runQemuIo({ path: below, format: 'raw', cache: 'none', requests: [ask.write(MIB / 2, 65_536)] });
    await createWithQemuImg(path, { format: 'qcow2', size: MIB, backing: { path: 'below', format: 'raw' } });
    await copySparse(path, `${path}-ours`);
    const requests = [
      ask.read(MIB / 2 + SECTOR, SECTOR),
      ask.write(MIB / 2 + 3 * SECTOR, SECTOR),
      ask.flush(),
    ];
    const files = { 'backing:0': below };
    const theirs = await runQemuIo({ path, format: 'qcow2', cache: 'none', requests, files });
    const ours = await serve(requests, { imageName: 'over-ours', format: 'qcow2', cache: 'none' });
    const ofBacking = (operations: readonly (TaggedRecord | (typeof theirs)[number])[]): readonly string[] =>
      operations.filter(({ file, phase }) => file === 'backing:0' && phase === 'run').map(textOf);
    expect(ofBacking(ours)).toEqual(ofBacking(theirs));
    expect(ofBacking(ours)[0]).toBe('R 0x80000 4096 (backing:0)');
    await expectSameFiles(`${path}-ours`, path);
  });

  it('an image whose size is no multiple of 4 KiB is refused for writing', async () => {
    const path = makeHole('odd', MIB + SECTOR);
    const requests = [ask.read(0, SECTOR)];
    await expect(runQemuIo({ path, format: 'raw', cache: 'none', requests })).rejects.toThrow(
      'not a multiple of request alignment',
    );
    const opened = serve(requests, { imageName: 'odd', format: 'raw', cache: 'none' });
    await expect(opened).rejects.toMatchObject({ code: 'raw-size-unaligned' });
    const reading = { imageName: 'odd', format: 'raw', cache: 'none', readOnly: true } as const;
    expect((await serve(requests, reading)).map(textOf)).toEqual(['R 0x0 4096']);
  });
});

function serve(
  requests: readonly Request[],
  options: Omit<StackOptions, 'storage' | 'hostLog'> & Partial<Pick<StackOptions, 'storage'>>,
): Promise<readonly TaggedRecord[]> {
  return servePeerRequests(requests, {
    storage: new FileStorage(directory, probeCapabilities(directory)),
    ...options,
  });
}

function textOf(record: TaggedRecord | Parameters<typeof formatOperation>[0]): string {
  return record.op === 'sync' ? 'F' : formatOperation(record);
}
