/**
 * `run` and `replay` with an image that the user already has: it is served as it is, on a copy, and
 * never changed.
 */

import { createHash } from 'node:crypto';
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { HostFile } from '../../src/device/host-file.ts';
import { loadOfdLocks } from '../../src/device/ofd-lock.ts';
import type { CellRecord, ResultRecord } from '../../src/result/schema.ts';
import { reasonToSkip, runTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import { errorLine, startCli, type Ended } from './cli-process.ts';
import { mountSmall, reasonAgainstMount } from './small-disk.ts';

const MIB = 1024 ** 2;
const CELL = ['--cache', 'writeback', '--samples', '0', '--json'];
const HEADER = '#qcow2-bench trace v1\n#virtual-size 16777216\ntime_ns,op,offset,length,flags\n';
/** Two new clusters, one of them in part, a read of what is behind, and a discard. */
const REQUESTS =
  '0,write,0,65536,\n1,write,1052672,4096,\n2,flush,,,\n3,read,0,1048576,\n4,discard,0,65536,\n';

/** A folder with the trace `t.csv`, and what `make` puts there. */
function folderWith(make: (folder: string) => void): string {
  const folder = testDirectory();
  writeFileSync(join(folder, 't.csv'), `${HEADER}${REQUESTS}`);
  make(folder);
  return folder;
}

/** Bytes and times of all files. */
function stateOf(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => {
      const path = join(parentPath, name);
      const hash = createHash('sha256').update(readFileSync(path)).digest('hex');
      return `${path} ${hash} ${String(statSync(path).mtimeMs)}`;
    })
    .toSorted();
}

function cellsOf(ended: Ended): readonly CellRecord[] {
  expect({ code: ended.code, stderr: ended.code === 0 ? '' : ended.stderr }).toEqual({ code: 0, stderr: '' });
  return (JSON.parse(ended.stdout) as ResultRecord).cells;
}

/** Replays on the image, which must be as before afterwards, and so must all beside it. */
async function replay(
  folder: string,
  image: string,
  ...words: readonly string[]
): Promise<readonly CellRecord[]> {
  const before = stateOf(folder);
  const ended = await callCli(folder, 'replay', 't.csv', '--image', image, ...CELL, ...words);
  expect(stateOf(folder)).toEqual(before);
  return cellsOf(ended);
}

async function create(folder: string, ...words: readonly string[]): Promise<void> {
  expect(await callCli(folder, 'create', ...words)).toMatchObject({ code: 0, stderr: '' });
}

describe('an image of the user', () => {
  test('says all that the command line leaves out, and is not changed', async () => {
    const folder = folderWith(() => undefined);
    const shape = ['--cluster-size', '128KiB', '--refcounts', 'lazy', '--refcount-bits', '1'];
    await create(folder, 'disk.qcow2', '16MiB', ...shape, '--data-file', 'plain');
    const [record, ...others] = await replay(folder, 'disk.qcow2');
    expect(others).toEqual([]);
    expect(record?.cell).toMatchObject({
      format: 'qcow2',
      refcounts: 'lazy',
      clusterSize: 131_072,
      shape: { refcountBits: 1, dataFile: 'plain' },
      image: join(folder, 'disk.qcow2'),
    });
    expect(record?.image?.fileBytes).toBe(statSync(join(folder, 'disk.qcow2')).size);
    expect(record).toMatchObject({ countsDevice: 'file', counts: { guest: { allocatingWrites: 2 } } });
  });

  test('several cells and their samples run each on a copy of its own', async () => {
    const folder = folderWith(() => undefined);
    await create(folder, 'disk.qed', '16MiB', '--format', 'qed');
    const before = stateOf(folder);
    const matrix = ['--cache', 'writeback,writethrough', '--queue-depth', '1,4', '--samples', '1', '--json'];
    const words = ['--image', 'disk.qed', '--dir', '.', ...matrix];
    const cells = cellsOf(await callCli(folder, 'replay', 't.csv', ...words));
    expect(cells).toHaveLength(4);
    for (const { counts, timings, cell } of cells) {
      expect([cell.format, counts?.guest.allocatingWrites, timings.length]).toEqual(['qed', 2, 1]);
    }
    expect(stateOf(folder)).toEqual(before);
  });

  test('--in-place writes to it, and takes one cell', async () => {
    const folder = folderWith(() => undefined);
    await create(folder, 'disk.raw', '16MiB', '--format', 'raw');
    const words = ['replay', 't.csv', '--image', 'disk.raw', '--in-place'];
    const [record] = cellsOf(await callCli(folder, ...words, ...CELL));
    expect(record?.fallbacks).toContainEqual(expect.stringContaining('--in-place'));
    expect(readFileSync(join(folder, 'disk.raw'))[1_052_672]).toBe(2);
    const many = await callCli(folder, ...words, '--samples', '0');
    expect(many.code).toBe(2);
    expect(errorLine(many)).toContain(
      '--in-place needs exactly one cell; these options select 5: give one value each to --cache',
    );
  });

  test('what is said and contradicts it is refused, with both values and the option to leave out', async () => {
    const folder = folderWith(() => undefined);
    await create(folder, 'disk.qcow2', '16MiB');
    const before = stateOf(folder);
    const misuses: readonly (readonly [readonly string[], string])[] = [
      [['--format', 'raw'], '--format raw contradicts disk.qcow2, which has qcow2'],
      [['--refcounts', 'lazy'], '--refcounts lazy contradicts disk.qcow2, which has eager'],
      [['--cluster-size', '128KiB'], '--cluster-size 128KiB contradicts disk.qcow2, which has 64KiB'],
      [['--compat', '0.10'], '--compat 0.10 contradicts disk.qcow2, which has 1.1'],
      [['--extended-l2'], '--extended-l2 on contradicts disk.qcow2, which has off'],
      [['--data-file', 'raw'], '--data-file raw contradicts disk.qcow2, which has none'],
      [['--preallocation', 'full'], '--preallocation applies only to new images'],
      [['--device', 'memory'], 'needs --device file'],
    ];
    for (const [words, said] of misuses) {
      const ended = await callCli(folder, 'replay', 't.csv', '--image', 'disk.qcow2', ...CELL, ...words);
      expect(ended.code).toBe(2);
      expect(errorLine(ended)).toContain(said);
    }
    const small = await callCli(folder, 'run', '--workload', 'stride', '--image', 'disk.qcow2', ...CELL);
    expect(small.code).toBe(1);
    expect(errorLine(small)).toMatch(/disk\.qcow2: the disk has 16MiB, but stride needs 1GiB.*image-misfit/);
    expect(stateOf(folder)).toEqual(before);
  });

  test.skipIf(!loadOfdLocks().ok)('is locked against writers until the run has ended', async () => {
    const folder = folderWith(() => undefined);
    await create(folder, 'disk.qcow2', '16MiB');
    const words = ['--image', 'disk.qcow2', '--cache', 'writeback', '--samples', '1000'];
    const run = startCli(folder, 'replay', 't.csv', ...words);
    await run.said('timing');
    const lock = { kind: 'user', contents: 'metadata', readOnly: false } as const;
    const write = (): void => new HostFile(join(folder, 'disk.qcow2'), { label: 'image', lock }).close();
    expect(write).toThrow(/blocks writers; stop it first/);
    run.process.kill('SIGINT');
    await run.ended;
    expect(write).not.toThrow();
  });

  test('--resume keeps its counts unless it was changed since', async () => {
    const folder = folderWith(() => undefined);
    await create(folder, 'disk.qcow2', '16MiB');
    const words = ['replay', 't.csv', '--image', 'disk.qcow2', '--cache', 'writeback', '--samples', '0'];
    const allocating = async (...more: readonly string[]): Promise<number | undefined> => {
      const [record] = cellsOf(await callCli(folder, ...words, '--json', '--out', 'r.json', ...more));
      return record?.counts?.guest.allocatingWrites;
    };
    expect(await allocating()).toBe(2);
    const result = readFileSync(join(folder, 'r.json'), 'utf8');
    // What only the kept record says.
    writeFileSync(join(folder, 'r.json'), result.replace(/(?<key>"allocatingWrites":\s*)2/, '$<key>77'));
    expect(await allocating('--resume')).toBe(77);
    cellsOf(await callCli(folder, ...words, '--json', '--in-place'));
    // The run discarded one of the two clusters.
    expect(await allocating('--resume')).toBe(1);
  });

  test.skipIf(reasonAgainstMount() !== undefined)(
    'a place without room for the copy is one error',
    async () => {
      const folder = folderWith((path) => {
        writeFileSync(join(path, 'disk.raw'), Buffer.alloc(16 * MIB, 1));
        mkdirSync(join(path, 'small'));
      });
      mountSmall(join(folder, 'small'));
      const before = stateOf(folder);
      const ended = await callCli(
        folder,
        'replay',
        't.csv',
        '--image',
        'disk.raw',
        '--dir',
        'small',
        ...CELL,
      );
      expect(ended.code).toBe(1);
      expect(errorLine(ended)).toMatch(/disk\.raw: a copy needs 16\.?0* MiB.*--dir.*\[no-space\]/);
      expect(stateOf(folder)).toEqual(before);
    },
  );
});

const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');

describe.skipIf(skip !== undefined)(
  `an image that QEMU made${skip === undefined ? '' : ` (${skip})`}`,
  () => {
    const img = (folder: string, ...words: readonly string[]): string => runTool('qemu-img', words, folder);
    const fill = (folder: string, name: string, byte: number): void => {
      const format = name.endsWith('.raw') ? 'raw' : 'qcow2';
      runTool('qemu-io', ['-f', format, '-c', `write -P ${String(byte)} 1M 192k`, name], folder);
    };

    test('a chain of three, absolute and relative, by a symbolic link: as QEMU serves it', async () => {
      const folder = folderWith((path) => {
        img(path, 'create', '-q', '-f', 'raw', 'base.raw', '20M');
        fill(path, 'base.raw', 3);
        img(
          path,
          'create',
          '-q',
          '-f',
          'qcow2',
          '-b',
          join(path, 'base.raw'),
          '-F',
          'raw',
          'mid.qcow2',
          '16M',
        );
        fill(path, 'mid.qcow2', 4);
        img(path, 'create', '-q', '-f', 'qcow2', '-b', 'mid.qcow2', '-F', 'qcow2', 'top.qcow2');
        symlinkSync('top.qcow2', join(path, 'link'));
        chmodSync(join(path, 'top.qcow2'), 0o444);
      });
      const cells = await replay(folder, 'link', '--engine', 'builtin,qemu');
      expect(cells.map(({ cell }) => cell.backing)).toEqual(['qcow2', 'qcow2']);
      expect(cells[1]?.parity).toMatchObject({
        verdict: 'identical',
        finalBytes: 'identical',
        guestData: 'identical',
      });
      const [ours, theirs] = cells.map(({ counts }) => counts?.run);
      expect(theirs?.writes).toEqual(ours?.writes);
      expect(theirs?.syncs.byCause).toEqual(ours?.syncs.byCause);
    });

    test('snapshots, a bitmap and a raw data file: as QEMU serves them', async () => {
      const folder = folderWith((path) => {
        img(path, 'create', '-q', '-f', 'qcow2', 'disk.qcow2', '16M');
        for (const name of ['one', 'two', 'three']) {
          fill(path, 'disk.qcow2', 5);
          img(path, 'snapshot', '-c', name, 'disk.qcow2');
        }
        img(path, 'bitmap', '--add', 'disk.qcow2', 'b0');
        const data = 'data_file=d.raw,data_file_raw=on';
        img(path, 'create', '-q', '-f', 'qcow2', '-o', data, 'split.qcow2', '16M');
        fill(path, 'split.qcow2', 6);
      });
      for (const name of ['disk.qcow2', 'split.qcow2']) {
        const [, theirs] = await replay(folder, name, '--engine', 'builtin,qemu');
        expect(theirs?.parity).toMatchObject({ verdict: 'identical', finalBytes: 'identical' });
      }
    });

    test('a backing format that is wrong, or missing, is given with --backing-format', async () => {
      const folder = folderWith((path) => {
        img(path, 'create', '-q', '-f', 'raw', 'base.raw', '16M');
        fill(path, 'base.raw', 3);
        img(path, 'create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', 'wrong.qcow2');
        nameBackingFormat(join(path, 'wrong.qcow2'), 'file');
        img(path, 'create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', 'none.qcow2');
        nameBackingFormat(join(path, 'none.qcow2'), undefined);
        mkdirSync(join(path, 'below'));
        const away = ['-b', '../base.raw', '-F', 'raw', 'below/away.qcow2'];
        img(path, 'create', '-q', '-f', 'qcow2', ...away);
      });
      const refusal = async (image: string): Promise<string> =>
        errorLine(await callCli(folder, 'replay', 't.csv', '--image', image, ...CELL));
      expect(await refusal('wrong.qcow2')).toMatch(/'file'.*--backing-format \[unsupported-backing-format\]/);
      expect(await refusal('none.qcow2')).toMatch(/--backing-format \[backing-format-missing\]/);
      expect(await refusal('below/away.qcow2')).toMatch(
        /--backing-dir.*--any-backing \[backing-not-allowed\]/,
      );
      const given = ['--backing-format', 'raw', '--engine', 'builtin,qemu'];
      const [, wrong] = await replay(folder, 'wrong.qcow2', ...given);
      expect(wrong?.parity?.verdict).toBe('identical');
      const [none] = await replay(folder, 'none.qcow2', '--backing-format', 'raw');
      expect(none?.cell.backing).toBe('raw');
      const [away] = await replay(folder, 'below/away.qcow2', '--backing-dir', '.');
      expect(away?.counts?.guest.allocatingWrites).toBe(2);
    });
  },
);

/**
 * Writes another name into the header extension of the backing file's format, or makes that one of
 * an unknown kind.
 */
function nameBackingFormat(path: string, format: string | undefined): void {
  const image = readFileSync(path);
  const extension = image.indexOf(Buffer.from([0xe2, 0x79, 0x2a, 0xca]));
  if (format === undefined) {
    image.writeUInt32BE(0x1234_5678, extension);
  } else {
    image.writeUInt32BE(format.length, extension + 4);
    image.write(format.padEnd(4, '\0'), extension + 8);
  }
  writeFileSync(path, image);
}
