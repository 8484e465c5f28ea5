/**
 * Overlays over chains of every format, three files deep, against a real QEMU: copy-on-write, what
 * counts as known to be zero, and reads, through backing files that are shorter or longer than what
 * is over them.
 */

import { describe, expect, it } from 'vitest';
import { Random } from '../../src/core/random.ts';
import { QEMU_FORMATS } from '../../src/core/format-name.ts';
import type { Format } from '../../src/format/disk-image.ts';
import { SECTOR_SIZE, type Request } from '../../src/workload/request.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { TwinImages } from './twin-images.ts';

const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');
if (skip !== undefined) process.stderr.write(`backing chains are not held against QEMU: ${skip}\n`);

const MIB = 1024 * 1024;

/** Raw backs nothing itself: it is at the bottom. */
const CHAINS = (['qcow2', 'qed'] as const)
  .flatMap((middle) =>
    QEMU_FORMATS.flatMap((bottom) => (['qcow2', 'qed'] as const).map((top) => ({ top, middle, bottom }))),
  )
  // Two files of unnamed format could only be opened if it were the same.
  .filter(({ top, middle, bottom }) => !(top === 'qed' && middle === 'qed' && bottom === 'qcow2'));

describe.skipIf(skip !== undefined)('an overlay over two files', () => {
  it.each(CHAINS)('$top over $middle over $bottom', async ({ top, middle, bottom }) => {
    const seed = CHAINS.findIndex(
      (chain) => chain.top === top && chain.middle === middle && chain.bottom === bottom,
    );
    const random = new Random(seed + 1);
    const sizes = shuffled(random, [2 * MIB, 3 * MIB + 5 * SECTOR_SIZE, MIB + SECTOR_SIZE]);
    const [topSize = 0, middleSize = 0, bottomSize = 0] = sizes;
    const clusterSize = random.chance(0.5) ? 4096 : 65_536;
    const what = JSON.stringify({ seed, sizes, clusterSize });
    // A QED image names the format of its backing file only if that is raw.
    const unnamed = middle === 'qed' && bottom !== 'raw' ? bottom : middle;
    const twins = new TwinImages({ format: top, unnamedBackingFormat: unnamed });
    create(twins, bottom, 'bottom', bottomSize, []);
    fill(twins, bottom, 'bottom', bottomSize, random);
    create(twins, middle, 'middle', middleSize, ['-b', 'bottom', '-F', bottom]);
    fill(twins, middle, 'middle', middleSize, random);
    const options =
      top === 'qcow2' || clusterSize >= 4096 ? ['-o', `cluster_size=${String(clusterSize)}`] : [];
    create(twins, top, 'disk', topSize, [...options, '-b', 'middle', '-F', middle]);

    await twins.serve(requests(random, top, topSize), `${what}, writethrough`, { cache: 'writethrough' });
    await twins.serve(requests(random, top, topSize), `${what}, writeback`);
    twins.run('qemu-img', 'convert', '-f', top, '-O', 'raw', 'disk', 'flat');
    const ours = await twins.readOurs();
    expect(ours.byteLength).toBe(topSize);
    expect(Buffer.compare(ours, twins.read('flat')), what).toBe(0);
  });
});

function create(
  twins: TwinImages,
  format: Format,
  name: string,
  size: number,
  more: readonly string[],
): void {
  twins.run('qemu-img', 'create', '-q', '-f', format, ...more, name, String(size));
}

/** Data, zeroes and nothing, by QEMU; in qcow2 also discarded and compressed clusters. */
function fill(twins: TwinImages, format: Format, name: string, size: number, random: Random): void {
  const commands = format === 'qcow2' ? ['write -c -P 99 64k 64k', 'write -c -P 98 960k 64k'] : [];
  for (let n = 0; n < 10; n++) {
    const offset = SECTOR_SIZE * random.below(size / SECTOR_SIZE);
    const length = Math.min(size - offset, SECTOR_SIZE * (1 + random.below(300)));
    const range = `${String(offset)} ${String(length)}`;
    const roll = random.below(10);
    if (roll < 6) commands.push(`write -P ${String(n + 10)} ${range}`);
    else if (roll < 8) commands.push(`write -z ${range}`);
    else if (format === 'qcow2') commands.push(`discard ${range}`);
  }
  twins.run('qemu-io', '-d', 'unmap', '-f', format, ...commands.flatMap((command) => ['-c', command]), name);
}

function requests(random: Random, format: Format, size: number): readonly Request[] {
  return Array.from({ length: 14 }, (): Request => {
    const offset = SECTOR_SIZE * random.below(size / SECTOR_SIZE);
    const length = Math.min(size - offset, SECTOR_SIZE * (1 + random.below(random.chance(0.3) ? 200 : 9)));
    const rest = { fua: false, unmap: random.chance(0.5), timeNs: 0 };
    const roll = random.below(100);
    if (roll < 60) return { op: 'write', offset, length, ...rest, unmap: false };
    if (roll < 75) return { op: 'write-zeroes', offset, length, ...rest };
    if (roll < 85 && format === 'qcow2') return { op: 'discard', offset, length, ...rest, unmap: false };
    return { op: 'read', offset, length, ...rest, unmap: false };
  });
}

function shuffled<T>(random: Random, items: readonly T[]): readonly T[] {
  const rest = [...items];
  return items.map(() => rest.splice(random.below(rest.length), 1)[0] as T);
}
