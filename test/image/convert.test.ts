/** A conversion keeps what the guest reads and gives the bytes that `qemu-img convert` gives. */

import {
  existsSync,
  linkSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

import { beforeAll, describe, expect, it, vi } from 'vitest';

import { Qcow2BenchError } from '../../src/core/error.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import { HostFile } from '../../src/device/host-file.ts';
import { OverlappedFile } from '../../src/device/overlapped-file.ts';
import type { Format } from '../../src/format/disk-image.ts';
import type { ImageShape } from '../../src/format/image-shape.ts';
import { changeBitmap } from '../../src/image/change-bitmap.ts';
import { checkImageFile } from '../../src/image/check-image.ts';
import { convertImage, type ConvertOptions } from '../../src/image/convert-image.ts';
import { createImageFile } from '../../src/image/create-image.ts';
import { hostImage, SHARED_HOST_FILES, WRITABLE_HOST_FILES } from '../../src/image/host-image.ts';
import { openChain } from '../../src/image/open-chain.ts';
import { testDirectory } from '../test-directory.ts';
import { CHECK, QemuDirectory } from '../format/qemu-directory.ts';
import { rejectionOf } from '../format/rejection.ts';
import { reasonToSkip } from '../format/system-tools.ts';

const noQemu = reasonToSkip('qemu-img', 'qemu-io');
const MIB = 1024 * 1024;

interface Target {
  readonly what: string;
  readonly format: Format;
  readonly clusterSize?: number;
  readonly refcounts?: 'lazy';
  readonly shape?: ImageShape;
  readonly compress?: boolean;
  /** The same, for `qemu-img convert`. */
  readonly theirs: readonly string[];
}

const TARGETS: readonly Target[] = [
  { what: 'raw', format: 'raw', theirs: ['-O', 'raw'] },
  { what: 'qed', format: 'qed', theirs: ['-O', 'qed'] },
  { what: 'qcow2', format: 'qcow2', theirs: ['-O', 'qcow2'] },
  {
    what: 'qcow2 with clusters of 4 KiB and lazy refcounts',
    format: 'qcow2',
    clusterSize: 4096,
    refcounts: 'lazy',
    theirs: ['-O', 'qcow2', '-o', 'cluster_size=4096,lazy_refcounts=on'],
  },
  {
    what: 'qcow2 of version 2',
    format: 'qcow2',
    shape: { compat: '0.10' },
    theirs: ['-O', 'qcow2', '-o', 'compat=0.10'],
  },
  { what: 'qcow2, compressed', format: 'qcow2', compress: true, theirs: ['-c', '-O', 'qcow2'] },
  {
    what: 'qcow2, compressed with zstd',
    format: 'qcow2',
    compress: true,
    clusterSize: 32_768,
    shape: { compressionType: 'zstd' },
    theirs: ['-c', '-O', 'qcow2', '-o', 'compression_type=zstd,cluster_size=32768'],
  },
];

describe.skipIf(noQemu !== undefined)(`convert${noQemu === undefined ? '' : ` (${noQemu})`}`, () => {
  const qemu = new QemuDirectory();
  const path = (name: string): string => join(qemu.path, name);

  beforeAll(() => {
    // Data that compresses, data that does not, holes, written zeroes, blocks of a cluster that are
    // zero.
    qemu.img('create', '-q', '-f', 'raw', 'base', '12M');
    qemu.io('raw', 'base', 'write -P 7 1M 3M', 'write -P 8 8M 100k', 'write -z 9M 64k');
    qemu.img('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'raw', 'overlay', '20M');
    const writes = ['write -P 1 0 1300k', 'write -z 1M 200k', 'write -P 3 15M 4k', 'write -P 0 16M 1M'];
    qemu.io('qcow2', 'overlay', ...writes, 'write -P 9 18000k 70k', 'write -P 2 18200k 512');
    const words = Buffer.alloc(3 * MIB + 512);
    for (let at = 0; at < words.length; at++) words[at] = ((at * at * 31 + (at >> 9)) % 251) & (at >> 8);
    writeFileSync(path('text'), words);
    truncateSync(path('text'), 5 * MIB + 512);
    qemu.img('create', '-q', '-f', 'qed', 'old', '8M');
    qemu.io('qed', 'old', 'write -P 4 100k 3M', 'write -P 5 7M 1k');
    qemu.img('convert', '-c', '-O', 'qcow2', '-f', 'raw', 'text', 'packed');
  });

  async function convert(source: string, format: Format, target: Target, more: Partial<ConvertOptions> = {}) {
    const { clusterSize, refcounts, shape } = target;
    const place = hostImage(path('ours'));
    return convertImage({
      source: { path: path(source), format },
      target: { ...place, format: target.format, clusterSize, refcounts, shape, overwrite: true },
      compress: target.compress,
      ...more,
    });
  }

  const sources = [
    ['overlay', 'qcow2'],
    ['text', 'raw'],
    ['old', 'qed'],
    ['packed', 'qcow2'],
  ] as const;
  for (const [source, format] of sources) {
    it.each(TARGETS)(
      `of ${source} (${format}) to $what has the bytes of qemu-img convert`,
      async (target) => {
        await convert(source, format, target);
        qemu.img('convert', '-f', format, ...target.theirs, source, 'theirs');
        expect(Buffer.compare(readFileSync(path('ours')), readFileSync(path('theirs')))).toBe(0);
        qemu.img('compare', '-f', target.format, '-F', format, 'ours', source);
        if (target.format !== 'raw') qemu.expectCheck(target.format, 'ours', CHECK.clean);
        // As sparse as theirs, up to blocks of the file system's own.
        expect(statSync(path('ours')).blocks).toBeLessThanOrEqual(statSync(path('theirs')).blocks + 64);
      },
    );
  }

  const RAW = TARGETS[0] as Target;

  it.each(TARGETS)('of a snapshot to $what has the bytes of qemu-img convert -l', async (target) => {
    qemu.img('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'raw', 'taken', '14M');
    qemu.io('qcow2', 'taken', 'write -P 1 0 1300k', 'write -z 1M 200k');
    qemu.img('snapshot', '-c', 'first', 'taken');
    qemu.io('qcow2', 'taken', 'write -P 2 0 3M', 'write -P 3 12M 2M');
    const source = { path: path('taken'), format: 'qcow2', snapshot: 'first' } as const;
    await convert('taken', 'qcow2', target, { source });
    const which = ['-l', 'snapshot.name=first'];
    qemu.img('convert', '-f', 'qcow2', ...which, ...target.theirs, 'taken', 'theirs');
    expect(Buffer.compare(readFileSync(path('ours')), readFileSync(path('theirs')))).toBe(0);
  });

  const OVERLAYS = TARGETS.filter(({ format }) => format !== 'raw');
  it.each(OVERLAYS)('as an overlay of the same base to $what reads as the source', async (target) => {
    const source = { path: path('overlay'), format: 'qcow2' } as const;
    const { clusterSize, refcounts, shape, format } = target;
    const place = { ...hostImage(path('ours')), overwrite: true, keepBacking: true };
    await convertImage({
      source,
      target: { ...place, format, clusterSize, refcounts, shape },
      compress: target.compress,
    });
    const base = ['-B', 'base', '-F', 'raw'];
    qemu.img('convert', '-f', 'qcow2', ...target.theirs, ...base, 'overlay', 'theirs');
    qemu.img('compare', '-f', format, '-F', 'qcow2', 'ours', 'overlay');
    qemu.expectCheck(format, 'ours', CHECK.clean);
    expect(statSync(path('ours')).size).toBe(statSync(path('theirs')).size);
    const isSame = readFileSync(path('ours')).equals(readFileSync(path('theirs')));
    expect(isSame).toBe(true);
  });

  it('as an overlay names the image behind the source, and not the external data file of that', async () => {
    qemu.img('create', '-q', '-f', 'qcow2', '-o', 'data_file=split.data', 'split', '4M');
    qemu.io('qcow2', 'split', 'write -P 1 1M 1M');
    qemu.img('create', '-q', '-f', 'qcow2', '-b', 'split', '-F', 'qcow2', 'over-split');
    qemu.io('qcow2', 'over-split', 'write -P 2 2M 64k');
    const target = {
      ...hostImage(path('ours')),
      format: 'qcow2',
      overwrite: true,
      keepBacking: true,
    } as const;
    await convertImage({ source: { path: path('over-split'), format: 'qcow2' }, target });
    qemu.img('convert', '-f', 'qcow2', '-O', 'qcow2', '-B', 'split', '-F', 'qcow2', 'over-split', 'theirs');
    expect(Buffer.compare(readFileSync(path('ours')), readFileSync(path('theirs')))).toBe(0);
  });

  it('as an overlay needs a backing file, and a format that has one', async () => {
    const target = { ...hostImage(path('ours')), overwrite: true, keepBacking: true } as const;
    const flat = { source: { path: path('packed') }, target: { ...target, format: 'qcow2' } } as const;
    expect((await rejectionOf(() => convertImage(flat)))?.code).toBe('convert-without-backing');
    const raw = { source: { path: path('overlay') }, target: { ...target, format: 'raw' } } as const;
    expect((await rejectionOf(() => convertImage(raw)))?.code).toBe('option-of-other-format');
  });

  it('of a snapshot has the disk that the snapshot had, also where the disk was resized since', async () => {
    qemu.img('create', '-q', '-f', 'qcow2', 'resized', '3M');
    qemu.io('qcow2', 'resized', 'write -P 1 2M 1M');
    qemu.img('convert', '-O', 'raw', 'resized', 'as-taken');
    qemu.img('snapshot', '-c', 'first', 'resized');
    for (const size of ['2M', '5M']) {
      qemu.img('resize', '-q', '--shrink', 'resized', size);
      const source = { path: path('resized'), format: 'qcow2', snapshot: 'first' } as const;
      await convert('resized', 'qcow2', RAW, { source });
      expect(Buffer.compare(readFileSync(path('ours')), readFileSync(path('as-taken')))).toBe(0);
    }
  });

  it('of a snapshot names those that there are, and the formats that have any', async () => {
    const missing = { path: path('overlay'), format: 'qcow2', snapshot: 'none' } as const;
    const error = await rejectionOf(() => convert('overlay', 'qcow2', RAW, { source: missing }));
    expect(error?.code).toBe('snapshot-missing');
    const raw = { path: path('text'), format: 'raw', snapshot: 'none' } as const;
    const unsupported = await rejectionOf(() => convert('text', 'raw', RAW, { source: raw }));
    expect(unsupported?.code).toBe('snapshots-unsupported');
  });

  it('never replaces a file unless that was asked for', async () => {
    qemu.put('ours', Buffer.from('mine'));
    const { storage, name } = hostImage(path('ours'));
    const work = (): Promise<unknown> =>
      convert('text', 'raw', RAW, { target: { storage, name, format: 'raw' } });
    expect((await rejectionOf(work))?.code).toBe('file-exists');
    expect(readFileSync(path('ours'), 'utf8')).toBe('mine');
    expect(existsSync(path('ours.part'))).toBe(false);
  });

  it('that fails or is stopped leaves nothing, and what was there before as it was', async () => {
    qemu.put('ours', Buffer.from('mine'));
    const before = readdirSync(qemu.path);
    const stop = new AbortController();
    const stopped = convert('overlay', 'qcow2', RAW, {
      signal: stop.signal,
      onProgress: (done) => {
        if (done > MIB) stop.abort(new Error('stopped'));
      },
    });
    await expect(stopped).rejects.toThrow('stopped');
    // A table of the source that leads nowhere.
    const broken = qemu.get('packed');
    const l1 = new DataView(broken.buffer).getBigUint64(40);
    new DataView(broken.buffer).setBigUint64(Number(l1), 0x8000_0000_0000_0201n);
    qemu.put('broken', broken);
    const failing = (): Promise<unknown> => convert('broken', 'qcow2', RAW);
    expect((await rejectionOf(failing))?.code).toBe('qcow2-unaligned-l2-table');
    expect(readFileSync(path('ours'), 'utf8')).toBe('mine');
    expect(readdirSync(qemu.path).filter((name) => name !== 'broken')).toEqual(before);
  });

  it('opens no file behind the image but those that are allowed', async () => {
    qemu.img('create', '-q', '-u', '-f', 'qcow2', '-b', '/etc/hostname', '-F', 'raw', 'spy', '1M');
    const error = await rejectionOf(() => convert('spy', 'qcow2', RAW));
    expect(error?.code).toBe('backing-not-allowed');
  });

  it('refuses compression where the format has none', async () => {
    const error = await rejectionOf(() => convert('text', 'raw', { ...RAW, compress: true }));
    expect(error?.code).toBe('compress-unsupported');
  });
});

it.each([512, 65_536])(
  'the target is synced once, with clusters of %i bytes too; not at all where the conversion fails',
  async (clusterSize) => {
    const folder = testDirectory();
    const source = join(folder, 'disk.raw');
    // More than is read at once.
    writeFileSync(source, Buffer.alloc(5 * MIB, 7));
    const syncs = [HostFile, OverlappedFile].map((file) => vi.spyOn(file.prototype, 'sync'));
    const calls = (): unknown[][] => syncs.flatMap(({ mock }) => mock.calls);
    const target = { ...hostImage(join(folder, 'out')), format: 'qcow2', clusterSize } as const;
    const of = { source: { path: source, format: 'raw' }, target } as const;
    await convertImage(of);
    expect(calls()).toEqual([['close', undefined]]);
    for (const sync of syncs) sync.mockClear();
    const controller = new AbortController();
    const onProgress = (): void => {
      controller.abort(new Error('stopped'));
    };
    const again = { ...hostImage(join(folder, 'again')), format: 'qcow2', clusterSize } as const;
    await expect(
      convertImage({ ...of, target: again, signal: controller.signal, onProgress }),
    ).rejects.toThrow('stopped');
    expect(calls()).toEqual([]);
  },
);

it('image and external data file are durable before either has its name', async () => {
  const folder = testDirectory();
  writeFileSync(join(folder, 'disk.raw'), Buffer.alloc(MIB, 7));
  const steps: string[] = [];
  const { sync } = OverlappedFile.prototype;
  vi.spyOn(OverlappedFile.prototype, 'sync').mockImplementation(async function (this: OverlappedFile, cause) {
    await sync.call(this, cause);
    steps.push(`sync ${this.label}`);
  });
  const { storage, name } = hostImage(join(folder, 'out'));
  const { rename } = storage;
  storage.rename = (from, to, options) => {
    // An empty image has a temporary name.
    if (!to.endsWith('.tmp')) steps.push(`name ${to}`);
    rename.call(storage, from, to, options);
  };
  const target = { storage, name, format: 'qcow2', shape: { dataFile: 'raw' } } as const;
  await convertImage({ source: { path: join(folder, 'disk.raw'), format: 'raw' }, target });
  expect(steps.slice(0, 2).toSorted()).toEqual(['sync data', 'sync image']);
  expect(steps.slice(2)).toEqual(['name out.data', 'name out']);
});

it('that cannot be made durable leaves no file and no descriptor', async () => {
  const folder = testDirectory();
  await createImageFile({ ...hostImage(join(folder, 'base')), format: 'qcow2', virtualSize: MIB });
  await createImageFile({
    ...hostImage(join(folder, 'disk')),
    format: 'qcow2',
    backing: { name: 'base', path: join(folder, 'base'), format: 'qcow2', files: SHARED_HOST_FILES },
  });
  const before = readdirSync(folder);
  const opened = (['open', 'create'] as const).map((way) => vi.spyOn(FileStorage.prototype, way));
  const closed = vi.spyOn(HostFile.prototype, 'close');
  const source = { path: join(folder, 'disk'), format: 'qcow2' } as const;
  const target = { ...hostImage(join(folder, 'out')), format: 'qcow2' } as const;
  for (const more of [{ shape: { dataFile: 'plain' } }, { keepBacking: true }] as const) {
    vi.spyOn(OverlappedFile.prototype, 'sync').mockRejectedValue(new Error('no sync'));
    await expect(convertImage({ source, target: { ...target, ...more } })).rejects.toThrow('no sync');
    const files = opened.flatMap(({ mock }) => mock.results.filter(({ type }) => type === 'return'));
    expect(new Set(closed.mock.contexts).size).toBe(files.length);
  }
  expect(readdirSync(folder)).toEqual(before);
});

describe('in place', () => {
  /** The formats are those that the names say. */
  async function refusal(
    folder: string,
    names: readonly [source: string, target: string],
    more: Partial<ConvertOptions> = {},
  ): Promise<unknown> {
    const [source, target] = names.map((name) => {
      const format: Format = name.endsWith('.raw') ? 'raw' : 'qcow2';
      return { path: join(folder, name), ...hostImage(join(folder, name)), format };
    });
    if (source === undefined || target === undefined) throw new Error('two names');
    return rejectionOf(() => convertImage({ source, target: { ...target, inPlace: true }, ...more }));
  }

  it('one that is stopped leaves a whole image, with its bitmaps', async () => {
    const folder = testDirectory();
    writeFileSync(join(folder, 'disk.raw'), Buffer.alloc(8 * MIB, 7));
    const image = { ...hostImage(join(folder, 'target')), format: 'qcow2', virtualSize: 8 * MIB } as const;
    await createImageFile(image);
    const path = join(folder, 'target');
    const change = { action: 'add', name: 'changes' } as const;
    await changeBitmap({ name: path, format: 'qcow2', files: WRITABLE_HOST_FILES, change });
    const controller = new AbortController();
    const onProgress = (done: number): void => {
      if (done >= 4 * MIB) controller.abort(new Qcow2BenchError('stopped', 'stopped'));
    };
    const stopped = await refusal(folder, ['disk.raw', 'target'], { signal: controller.signal, onProgress });
    expect(stopped).toMatchObject({ code: 'stopped' });
    const { report } = await checkImageFile({ ...hostImage(path), format: 'qcow2' });
    expect(report).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
    // One that was not stored could only be removed.
    const clear = { action: 'clear', name: 'changes' } as const;
    await changeBitmap({ name: path, format: 'qcow2', files: WRITABLE_HOST_FILES, change: clear });
    const { image: opened } = await openChain({ path });
    const bytes = Buffer.alloc(8 * MIB);
    await opened.read(0, bytes);
    await opened.abandon();
    expect(bytes.subarray(0, 2 * MIB).equals(Buffer.alloc(2 * MIB, 7))).toBe(true);
  });

  it('a file that is read is never written: by another name, or as the data file of the target', async () => {
    const folder = testDirectory();
    writeFileSync(join(folder, 'base.raw'), Buffer.alloc(MIB, 7));
    await createImageFile({
      ...hostImage(join(folder, 'overlay')),
      format: 'qcow2',
      backing: { name: 'base.raw', path: join(folder, 'base.raw'), format: 'raw', files: SHARED_HOST_FILES },
    });
    linkSync(join(folder, 'base.raw'), join(folder, 'link.raw'));
    const shape = { dataFile: 'plain' } as const;
    const split = { ...hostImage(join(folder, 'split')), format: 'qcow2', virtualSize: MIB, shape } as const;
    await createImageFile(split);
    linkSync(join(folder, 'split.data'), join(folder, 'data.raw'));
    const names = readdirSync(folder);
    const before = names.map((name) => readFileSync(join(folder, name)));
    for (const pair of [
      ['overlay', 'base.raw'],
      ['overlay', 'link.raw'],
      ['data.raw', 'split'],
      ['split', 'split'],
    ] as const) {
      expect(await refusal(folder, pair), pair.join(' to ')).toMatchObject({ code: 'target-is-source' });
    }
    expect(names.map((name) => readFileSync(join(folder, name)))).toEqual(before);
  });
});
