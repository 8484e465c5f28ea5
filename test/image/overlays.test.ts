/**
 * `rebase` and `commit` of random overlays: what the guest reads stays the same, with QEMU as the
 * judge; a stopped one loses nothing.
 */

import { copyFileSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import { Random } from '../../src/core/random.ts';
import type { Format } from '../../src/format/disk-image.ts';
import type { ImageShape } from '../../src/format/image-shape.ts';
import { openImage } from '../../src/format/registry.ts';
import { commitImage } from '../../src/image/commit-image.ts';
import { createImageFile } from '../../src/image/create-image.ts';
import { hostImage, SHARED_HOST_FILES, WRITABLE_HOST_FILES } from '../../src/image/host-image.ts';
import { rebaseImage } from '../../src/image/rebase-image.ts';
import { amount } from '../amount.ts';
import { QemuDirectory } from '../format/qemu-directory.ts';
import { rejectionOf } from '../format/rejection.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';

const KIB = 1024;
const MIB = KIB * KIB;
const noQemu = reasonToSkip('qemu-img', 'qemu-io');
const SEEDS = Array.from({ length: amount({ everyday: 4, full: 40 }) }, (_, seed) => seed);
const FORMATS = ['raw', 'qcow2', 'qed'] as const;
const SHAPES: readonly ImageShape[] = [{}, { compat: '0.10' }];
const OVERLAYS = ['qcow2', 'qed'] as const;

interface Made {
  readonly name: string;
  readonly format: Format;
  readonly size: number;
}

/** A folder with images of random formats, sizes and contents, written by our engines. */
class Folder {
  readonly path: string;
  readonly random: Random;

  constructor(seed: number, path = testDirectory()) {
    this.path = path;
    this.random = new Random(seed);
  }

  at(name: string): string {
    return join(this.path, name);
  }

  async make(name: string, { over, format }: { over?: Made; format?: Format } = {}): Promise<Made> {
    const { random } = this;
    // Raw is over nothing, and QED only over raw.
    const possible: readonly Format[] =
      over === undefined ? FORMATS : over.format === 'raw' ? OVERLAYS : (['qcow2'] as const);
    const chosen = format ?? possible[random.below(possible.length)] ?? 'qcow2';
    const size = (1 + random.below(6)) * MIB + random.below(9) * 512;
    const clusterSize = 2 ** (12 + random.below(5));
    const shapes = clusterSize < 16 * KIB ? SHAPES : [...SHAPES, { extendedL2: true }];
    await createImageFile({
      ...hostImage(this.at(name)),
      format: chosen,
      virtualSize: size,
      clusterSize: chosen === 'raw' ? undefined : clusterSize,
      shape: chosen === 'qcow2' ? shapes[random.below(shapes.length)] : undefined,
      backing: over && {
        name: over.name,
        format: over.format,
        path: this.at(over.name),
        files: SHARED_HOST_FILES,
      },
    });
    const made = { name, format: chosen, size };
    const image = await openImage({
      name: this.at(name),
      format: made.format,
      files: WRITABLE_HOST_FILES,
      readOnly: false,
    });
    for (let count = 4 + random.below(12); count > 0; count--) {
      const offset = random.below(size / 512) * 512;
      const length = Math.min(size - offset, (1 + random.below(600)) * 512);
      if (random.chance(0.2)) await image.writeZeroes(offset, length, { unmap: random.chance(0.5) });
      else await image.write(offset, Buffer.alloc(length, 1 + random.below(3)));
    }
    await image.close();
    return made;
  }

  /** The whole disk, through its chain. */
  async disk({ name, format }: Pick<Made, 'name' | 'format'>): Promise<Buffer> {
    const options = { name: this.at(name), format, files: SHARED_HOST_FILES, readOnly: true } as const;
    const image = await openImage(options);
    const bytes = Buffer.alloc(image.virtualSize);
    await image.read(0, bytes);
    await image.close();
    return bytes;
  }
}

describe.each(SEEDS)('an overlay of seed %i', (seed) => {
  it('reads the same over another chain, and over none', async () => {
    const folder = new Folder(seed);
    const base = await folder.make('base');
    const middle = await folder.make('middle', { over: base, format: 'qcow2' });
    const top = await folder.make('top', { over: middle, format: 'qcow2' });
    const other = await folder.make('other', folder.random.chance(0.5) ? {} : { over: base });
    const before = await folder.disk(top);
    const path = folder.at('top');
    for (const backing of [other, base, undefined]) {
      await rebaseImage({ path, format: 'qcow2', backing });
      expect((await folder.disk(top)).equals(before), backing?.name ?? 'flat').toBe(true);
    }
  });

  it('is committed: its backing file reads as it did, and so does the overlay, empty or not', async () => {
    const folder = new Folder(seed);
    const base = await folder.make('base');
    const middle = await folder.make('middle', { over: base, format: 'qcow2' });
    const top = await folder.make('top', { over: middle, format: 'qcow2' });
    const before = await folder.disk(top);
    const refused = await rejectionOf(() => commitImage({ path: folder.at('top'), format: 'qcow2' }));
    expect((await folder.disk(top)).equals(before)).toBe(true);
    if (refused !== undefined) {
      // It would have to grow, and hide what its own backing file has there.
      expect(refused.code).toBe('qcow2-zero-flag-needs-v3');
      expect((await folder.disk(middle)).byteLength).toBe(middle.size);
      return;
    }
    expect((await folder.disk(middle)).subarray(0, before.byteLength).equals(before)).toBe(true);
    await commitImage({ path: folder.at('top'), format: 'qcow2', empty: true });
    expect((await folder.disk(top)).equals(before)).toBe(true);
    expect(statSync(folder.at('top')).size).toBeLessThan(MIB / 2);
    const middleBefore = await folder.disk(middle);
    await commitImage({ path: folder.at('middle'), format: 'qcow2', empty: true });
    expect((await folder.disk(middle)).equals(middleBefore)).toBe(true);
  });
});

describe('a stopped', () => {
  it.each(['rebase', 'commit'] as const)('%s loses nothing, and can be done again', async (what) => {
    const folder = new Folder(3);
    const base = await folder.make('base', { format: 'raw' });
    const other = await folder.make('other', { format: 'raw' });
    const top = await folder.make('top', { over: base, format: 'qcow2' });
    const before = await folder.disk(top);
    const work = (signal?: AbortSignal, onProgress?: () => void): Promise<unknown> => {
      const options = { path: folder.at('top'), format: 'qcow2', signal, onProgress } as const;
      return what === 'rebase'
        ? rebaseImage({ ...options, backing: other })
        : commitImage({ ...options, empty: true });
    };
    const stop = new AbortController();
    let calls = 0;
    const stopped = work(stop.signal, () => {
      if (++calls === 2) stop.abort(new Error('stopped'));
    });
    await expect(stopped).rejects.toThrow('stopped');
    expect((await folder.disk(top)).equals(before)).toBe(true);
    await work();
    expect((await folder.disk(top)).equals(before)).toBe(true);
  });
});

describe('refused, with nothing changed', () => {
  it('a loop, a missing file, another format', async () => {
    const folder = new Folder(1);
    const base = await folder.make('base', { format: 'qcow2' });
    const top = await folder.make('top', { over: base, format: 'qcow2' });
    const bytes = readFileSync(folder.at('base'));
    const code = async (backing: { name: string; format: Format }, name = 'base') =>
      (await rejectionOf(() => rebaseImage({ path: folder.at(name), format: 'qcow2', backing })))?.code;
    expect(await code(top)).toBe('backing-loop');
    const place = { ...hostImage(folder.at('split')), format: 'qcow2', virtualSize: MIB } as const;
    await createImageFile({ ...place, shape: { dataFile: 'plain' } });
    const split = { name: 'split', format: 'qcow2', size: MIB } as const;
    expect(await code(await folder.make('over', { over: split, format: 'qcow2' }), 'split')).toBe(
      'backing-loop',
    );
    expect(await code({ name: 'none', format: 'raw' })).toBe('file-missing');
    expect(await code({ name: 'base', format: 'qed' }, 'top')).toBe('qed-bad-magic');
    const commit = await rejectionOf(() => commitImage({ path: folder.at('base'), format: 'qcow2' }));
    expect(commit?.code).toBe('commit-without-backing');
    expect(readFileSync(folder.at('base')).equals(bytes)).toBe(true);
  });

  it('a name that no image can hold, and a backing file under a raw data file', async () => {
    const folder = new Folder(4);
    const base = await folder.make('base', { format: 'raw' });
    const top = await folder.make('top', { over: base, format: 'qcow2' });
    const place = { ...hostImage(folder.at('split')), format: 'qcow2', virtualSize: MIB } as const;
    await createImageFile({ ...place, shape: { dataFile: 'raw' } });
    const cases = [
      ['top', { name: `${'./'.repeat(600)}base`, format: 'raw' }, 'qcow2-backing-name-too-long'],
      ['split', base, 'qcow2-raw-data-file-overlay'],
    ] as const;
    for (const [name, backing, code] of cases) {
      const before = await folder.disk({ name, format: top.format });
      const work = (): Promise<unknown> => rebaseImage({ path: folder.at(name), format: 'qcow2', backing });
      expect((await rejectionOf(work))?.code).toBe(code);
      expect((await folder.disk({ name, format: top.format })).equals(before)).toBe(true);
    }
    const named = { ...cases[0][1], path: folder.at('base'), files: SHARED_HOST_FILES };
    const made = { ...hostImage(folder.at('new')), format: 'qcow2', backing: named } as const;
    expect((await rejectionOf(() => createImageFile(made)))?.code).toBe('qcow2-backing-name-too-long');
  });

  it('a backing file outside the directory is not written', async () => {
    const folder = new Folder(2);
    const outside = new Folder(2);
    await outside.make('base', { format: 'raw' });
    const over = { name: outside.at('base'), format: 'raw', size: MIB } as const;
    await createImageFile({
      ...hostImage(folder.at('top')),
      format: 'qcow2',
      backing: { ...over, path: over.name, files: SHARED_HOST_FILES },
    });
    const error = await rejectionOf(() => commitImage({ path: folder.at('top'), format: 'qcow2' }));
    expect(error?.code).toBe('backing-not-allowed');
  });
});

describe.skipIf(noQemu !== undefined)(`QEMU agrees${noQemu === undefined ? '' : ` (${noQemu})`}`, () => {
  const qemu = new QemuDirectory();
  const isSeven = noQemu === undefined && qemu.img('--version').includes('version 7.');

  it.each(SEEDS)('on a rebase and a commit of seed %i', async (seed) => {
    const folder = new Folder(seed, qemu.path);
    const name = (what: string): string => `${what}-${String(seed)}`;
    const base = await folder.make(name('base'));
    const top = await folder.make(name('top'), { over: base, format: 'qcow2' });
    const other = await folder.make(name('other'));
    const theirs = name('theirs');
    const reference = name('reference');
    for (const copy of [theirs, reference]) copyFileSync(folder.at(top.name), folder.at(copy));
    for (const backing of [other, undefined]) {
      await rebaseImage({ path: folder.at(top.name), format: 'qcow2', backing });
      const named = backing === undefined ? ['-b', ''] : ['-b', backing.name, '-F', backing.format];
      qemu.img('rebase', ...named, theirs);
      qemu.img('compare', '-f', 'qcow2', '-F', 'qcow2', top.name, reference);
      qemu.img('check', '-q', '-f', 'qcow2', top.name);
      // Newer versions write whole clusters.
      const isSame = readFileSync(folder.at(top.name)).equals(readFileSync(folder.at(theirs)));
      if (isSeven) expect(isSame, backing?.name ?? 'flat').toBe(true);
    }
    const want = name('want');
    qemu.img('convert', '-O', 'raw', reference, want);
    await commitImage({ path: folder.at(reference), format: 'qcow2', empty: true });
    qemu.img('compare', '-f', 'qcow2', '-F', 'raw', reference, want);
    qemu.img('check', '-q', '-f', 'qcow2', reference);
    if (base.format !== 'raw') qemu.img('check', '-q', '-f', base.format, base.name);
  });
});
