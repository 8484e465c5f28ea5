/** Hostile images as a user meets them: one line of error with the file and the rule, quickly, and nothing written. */

import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';
import { createQcow2 } from '../../src/format/qcow2/create.ts';
import { createQed } from '../../src/format/qed/create.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { errorLine, makeFolder, runCli } from './cli-process.ts';

const MIB = 1024 * 1024;
type Spoil = (view: DataView<ArrayBuffer>) => void;

interface Hostile {
  readonly what: string;
  readonly format: 'qcow2' | 'qed';
  readonly spoil: Spoil;
}

const IMAGES: readonly Hostile[] = [
  { what: 'version 4', format: 'qcow2', spoil: (view) => view.setUint32(4, 4) },
  { what: 'clusters of 2^63 bytes', format: 'qcow2', spoil: (view) => view.setUint32(20, 63) },
  { what: 'a header of 2^32 - 1 bytes', format: 'qcow2', spoil: (view) => view.setUint32(100, 0xffff_ffff) },
  { what: 'an unknown feature', format: 'qcow2', spoil: (view) => view.setBigUint64(72, 1n << 40n) },
  { what: 'an extension of 4 GiB', format: 'qcow2', spoil: (view) => view.setUint32(116, 0xffff_ffff) },
  {
    what: 'an L1 table of 2^32 - 1 entries',
    format: 'qcow2',
    spoil: (view) => view.setUint32(36, 0xffff_ffff),
  },
  { what: 'an L1 table at 2^63', format: 'qcow2', spoil: (view) => view.setBigUint64(40, 1n << 63n) },
  { what: 'a huge refcount table', format: 'qcow2', spoil: (view) => view.setUint32(56, 0xffff_ffff) },
  { what: '2^32 - 1 snapshots', format: 'qcow2', spoil: (view) => view.setUint32(60, 0xffff_ffff) },
  { what: 'a disk of 2^63 bytes', format: 'qcow2', spoil: (view) => view.setBigUint64(24, 1n << 63n) },
  { what: 'clusters of 0 bytes', format: 'qed', spoil: (view) => view.setUint32(4, 0, true) },
  { what: 'a header that overflows', format: 'qed', spoil: (view) => view.setUint32(12, 0xffff_ffff, true) },
  { what: 'an unknown feature', format: 'qed', spoil: (view) => view.setUint32(16, 8, true) },
  { what: 'an L1 table at 2^63', format: 'qed', spoil: (view) => view.setBigUint64(40, 1n << 63n, true) },
];

const TRACE =
  '#qcow2-bench trace v1\n#virtual-size 1048576\ntime_ns,op,offset,length,flags\n0,write,0,4096,\n';

/** Each command with a hostile image in its place. */
const COMMANDS: Readonly<Record<string, (image: string, format: string) => readonly string[]>> = {
  info: (image) => ['info', image],
  check: (image) => ['check', image],
  repair: (image) => ['check', '--repair', 'all', image],
  map: (image) => ['map', image],
  convert: (image) => ['convert', image, 'out.raw', '--to', 'raw'],
  replay: (image, format) => {
    const one = format === 'qcow2' ? ['--refcounts', 'eager'] : [];
    const words = ['--format', format, ...one, '--cache', 'writeback', '--samples', '0', '--image', image];
    return ['replay', 'trace.csv', ...words];
  },
};

async function good(format: 'qcow2' | 'qed'): Promise<Uint8Array<ArrayBuffer>> {
  const device = new MemoryDevice();
  await (format === 'qcow2' ? createQcow2 : createQed)({ device, virtualSize: MIB });
  return device.contents();
}

describe('a hostile image', () => {
  for (const { what, format, spoil } of IMAGES) {
    test(`(${format}) with ${what} is refused by every command, and left as it was`, async () => {
      const folder = makeFolder();
      const bytes = await good(format);
      spoil(new DataView(bytes.buffer));
      const path = join(folder, 'evil');
      writeFileSync(path, bytes);
      writeFileSync(join(folder, 'trace.csv'), TRACE);
      const before = readdirSync(folder);
      await Promise.all(
        Object.values(COMMANDS).map(async (words) => {
          const ended = await runCli(folder, ...words('evil', format));
          expect(ended.code, `${words('evil', format).join(' ')}: ${ended.stderr}`).toBe(1);
          expect(errorLine(ended)).toMatch(/evil.*:/);
          expect(ended.stderr).not.toMatch(/\n\s+at /);
        }),
      );
      expect(Buffer.compare(readFileSync(path), bytes)).toBe(0);
      expect(readdirSync(folder)).toEqual(before);
    });
  }

  test('that is a sparse file of 8 TiB, with references all over it, is checked in no time', async () => {
    const folder = makeFolder();
    const device = new MemoryDevice();
    await createQcow2({ device, virtualSize: 8 * MIB, clusterSize: 512 });
    const bytes = device.contents();
    const view = new DataView(bytes.buffer);
    const l1 = Number(view.getBigUint64(40));
    // The L1 table itself is the L2 table of its first entry; all others lead into the void.
    for (let index = 0; index < 64; index++) {
      const at = l1 + index * 8;
      if (at + 8 <= bytes.byteLength) {
        view.setBigUint64(at, BigInt(index * 137_438_953_472 + (index === 0 ? l1 : 0)));
      }
    }
    const path = join(folder, 'evil');
    writeFileSync(path, bytes);
    truncateSync(path, 8 * 1024 ** 4);
    const ended = await runCli(folder, 'check', 'evil');
    expect([2, 3]).toContain(ended.code);
    expect(ended.stdout).toContain('Found on the image');
  });
});
