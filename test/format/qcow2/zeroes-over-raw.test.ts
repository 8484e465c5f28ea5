/**
 * Zeroes written over a raw backing file: QEMU asks the file system where the file has holes, and a
 * part of a cluster that is over one needs no data. (A data write does not ask: its fill is
 * copied.)
 */

import { describe, it } from 'vitest';

import { Random } from '../../../src/core/random.ts';
import { SECTOR_SIZE, type Request } from '../../../src/workload/request.ts';
import { reasonToSkip } from '../system-tools.ts';
import { ask, QemuCases, type QemuCase } from '../../parity/qemu-cases.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');

describe.skipIf(skip !== undefined)('zeroes and discards over a raw backing file are as in QEMU', () => {
  const twins = new QemuCases();

  /**
   * Data at 0 to 64 KiB, in the middle of a cluster, and at the file's end in mid-cluster; holes
   * between.
   */
  const backing: QemuCase['backing'] = {
    format: 'raw',
    size: 3 * MIB + 20 * KIB,
    fill: [
      ask.write(0, 64 * KIB),
      ask.write(MIB + 16 * KIB, 8 * KIB),
      ask.write(2 * MIB, 40 * KIB),
      ask.write(3 * MIB, 20 * KIB),
    ],
  };
  const virtualSize = 4 * MIB + 512;

  it('parts of a cluster over data, over a hole, and over both', async () => {
    const requests = [
      ask.zero(4 * KIB, 4 * KIB),
      ask.zero(128 * KIB, 4 * KIB),
      ask.zero(MIB + 4 * KIB, 4 * KIB),
      ask.zero(MIB + 32 * KIB, 4 * KIB, true),
      ask.zero(MIB + 16 * KIB, 8 * KIB),
      ask.zero(2 * MIB + 44 * KIB, 4 * KIB),
      ask.zero(3 * MIB + 24 * KIB, 4 * KIB, true),
      ask.zero(2 * MIB + 512 * KIB, 64 * KIB),
      ask.zero(4 * MIB, 512),
      ask.discard(2 * MIB + 576 * KIB, 64 * KIB),
    ];
    await twins.expectSame({ virtualSize, options: {}, backing, requests });
    await twins.expectSame({ virtualSize, options: {}, backing, requests, cache: 'writethrough' });
  });

  it.each([1, 2, 3])('lists of all kinds of request (seed %i)', async (seed) => {
    const random = new Random(seed);
    const requests = Array.from({ length: 70 }, (): Request => {
      const offset = random.below(virtualSize / SECTOR_SIZE) * SECTOR_SIZE;
      const most = random.chance(0.7) ? 16 : 300;
      const length = Math.min((1 + random.below(most)) * SECTOR_SIZE, virtualSize - offset);
      const kind = random.below(100);
      if (kind < 60) return ask.zero(offset, length, random.chance(0.5));
      if (kind < 75) return ask.discard(offset, length);
      return kind < 90 ? ask.write(offset, length) : ask.flush();
    });
    const options = { lazy_refcounts: seed === 2 ? 'on' : 'off' };
    await twins.expectSame({ virtualSize, options, backing, requests });
  });
});
