import {
  openSync,
  closeSync,
  writeSync,
  readFileSync,
  existsSync,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { crashQemuIo, reasonToSkip, runTool, tryTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import { errorLine } from './cli-process.ts';

const skipped = reasonToSkip('qemu-img', 'qemu-io');
const KINDS = ['qcow2', 'qed'] as const;

describe('create', () => {
  test('replaces an existing file only on request', async () => {
    const folder = testDirectory();
    const path = join(folder, 'disk.qcow2');
    writeFileSync(path, 'precious');
    const refused = await callCli(folder, 'create', 'disk.qcow2', '1GiB');
    expect(refused.code).toBe(1);
    expect(errorLine(refused)).toContain('disk.qcow2: file exists; use --overwrite');
    expect(readFileSync(path, 'utf8')).toBe('precious');
    expect((await callCli(folder, 'create', 'disk.qcow2', '1GiB', '--overwrite')).code).toBe(0);
    expect(readFileSync(path).subarray(0, 3).toString()).toBe('QFI');
  });

  test('refuses what the format does not take before it overwrites anything', async () => {
    const folder = testDirectory();
    writeFileSync(join(folder, 'disk.qed'), 'precious');
    const words = ['create', 'disk.qed', '1GiB', '--format', 'qed', '--cluster-size', '512', '--overwrite'];
    expect((await callCli(folder, ...words)).code).toBe(2);
    expect(readFileSync(join(folder, 'disk.qed'), 'utf8')).toBe('precious');
  });

  test('an overlay is as large as its backing file, which must be there', async () => {
    const folder = testDirectory();
    truncateSync(makeFile(folder, 'base.raw'), 3 * 1024 * 1024);
    const words = ['--backing', 'base.raw', '--backing-format', 'raw'];
    expect((await callCli(folder, 'create', 'top.qcow2', ...words)).code).toBe(0);
    const info = await callCli(folder, 'info', 'top.qcow2', '--json');
    expect(JSON.parse(info.stdout)).toMatchObject({
      'virtual-size': 3 * 1024 * 1024,
      'backing-filename': 'base.raw',
      'backing-filename-format': 'raw',
    });
    const missing = await callCli(
      folder,
      'create',
      'other.qcow2',
      '--backing',
      'no.raw',
      '--backing-format',
      'raw',
    );
    expect(missing.code).toBe(1);
    expect(errorLine(missing)).toContain('no.raw');
    expect(existsSync(join(folder, 'other.qcow2'))).toBe(false);
  });

  test.skipIf(skipped !== undefined).for(KINDS)(
    '%s: the bytes that qemu-img create writes',
    async (format) => {
      const folder = testDirectory();
      expect((await callCli(folder, 'create', 'ours', '1GiB', '--format', format)).code).toBe(0);
      runTool('qemu-img', ['create', '-q', '-f', format, 'theirs', '1G'], folder);
      expect(readFileSync(join(folder, 'ours')).equals(readFileSync(join(folder, 'theirs')))).toBe(true);
    },
  );
});

describe('check', () => {
  test('a raw image: 63, nothing to check', async () => {
    const folder = testDirectory();
    truncateSync(makeFile(folder, 'disk.raw'), 1024 * 1024);
    const ended = await callCli(folder, 'check', 'disk.raw');
    expect(ended.code).toBe(63);
    expect(errorLine(ended)).toContain('disk.raw');
  });

  test('no such image: 1', async () => {
    const ended = await callCli(testDirectory(), 'check', 'disk.qcow2');
    expect(ended.code).toBe(1);
    expect(errorLine(ended)).toContain('disk.qcow2');
  });

  const GOOD: readonly (readonly [name: string, format: 'qcow2' | 'qed', commands: readonly string[]])[] = [
    ['an empty image', 'qcow2', []],
    ['one that is half full', 'qcow2', ['write 0 32M']],
    ['compressed clusters', 'qcow2', ['write -c 0 64k', 'write -c 64k 64k', 'write 1M 128k']],
    ['fragments', 'qcow2', ['write 1M 64k', 'write 0 64k', 'write 2M 64k', 'write 1088k 64k']],
    ['QED', 'qed', ['write 1M 64k']],
    ['an empty QED image', 'qed', []],
  ];

  test.skipIf(skipped !== undefined).each(GOOD)(
    '%s: the lines of qemu-img check',
    async (_, format, commands) => {
      const folder = testDirectory();
      runTool('qemu-img', ['create', '-q', '-f', format, 'disk', '64M'], folder);
      runTool('qemu-io', ['-f', format, ...commands.flatMap((command) => ['-c', command]), 'disk'], folder);
      const { stdout } = await callCli(folder, 'check', 'disk');
      const theirs = runTool('qemu-img', ['check', '-f', format, 'disk'], folder);
      // Of QED qemu-img does not report it where the image ends.
      expect(format === 'qed' ? stdout.replace(/^Image end offset.*\n/m, '') : stdout).toBe(theirs);
    },
  );

  test.skipIf(skipped !== undefined)(
    'prints 20 findings of a kind, and how many more there are of each',
    async () => {
      const folder = testDirectory();
      runTool('qemu-img', ['create', '-q', '-f', 'qcow2', 'disk', '64M'], folder);
      runTool('qemu-io', ['-f', 'qcow2', '-c', 'write 0 8M', 'disk'], folder);
      // Clusters 10 to 39 have refcount 0; 40 to 64 have 2, and so a wrong copied flag.
      const refcounts = Buffer.alloc(55 * 2);
      for (let index = 30; index < 55; index++) refcounts.writeUInt16BE(2, index * 2);
      const descriptor = openSync(join(folder, 'disk'), 'r+');
      writeSync(descriptor, refcounts, 0, refcounts.byteLength, 0x20000 + 10 * 2);
      closeSync(descriptor);
      const ended = await callCli(folder, 'check', 'disk');
      expect(ended.code).toBe(2);
      const lines = ended.stdout.split('\n');
      expect(lines.filter((line) => line.startsWith('ERROR'))).toHaveLength(20);
      expect(lines.filter((line) => line.startsWith('Leaked'))).toHaveLength(20);
      expect(lines).toContain('… and 65 more errors, 5 more leaked clusters: use --verbose to list them');
      const verbose = await callCli(folder, 'check', 'disk', '--verbose');
      expect(verbose.stdout.match(/^(ERROR|Leaked)/gm)).toHaveLength(110);
      expect(verbose.stdout).not.toContain('… and');
    },
  );

  interface Damage {
    readonly name: string;
    readonly format: 'qcow2' | 'qed';
    readonly at: number;
    readonly bytes: readonly number[];
    /** Bytes of the file, if it is to be longer. */
    readonly fileSize?: number;
    /** Of `check`, then of `check --repair leaks`, then of `check --repair all`. */
    readonly codes: readonly [number, number, number];
  }

  // Offsets are of an image with 64 KiB clusters that has its first cluster written.
  const DAMAGES: readonly Damage[] = [
    { name: 'none', format: 'qcow2', at: 0, bytes: [0x51], codes: [0, 0, 0] },
    // Cluster 9, which nothing uses, has refcount 1 and is in the file.
    {
      name: 'a leaked cluster',
      format: 'qcow2',
      at: 0x20012,
      bytes: [0, 1],
      fileSize: 0xa0000,
      codes: [3, 0, 0],
    },
    // Cluster 5, the data, has refcount 0.
    {
      name: 'a cluster in use with refcount 0',
      format: 'qcow2',
      at: 0x2000a,
      bytes: [0, 0],
      codes: [2, 1, 0],
    },
    // Cluster 5 has refcount 2: a leak, and a wrong copied flag.
    {
      name: 'a refcount above its references',
      format: 'qcow2',
      at: 0x2000a,
      bytes: [0, 2],
      codes: [2, 0, 0],
    },
    { name: 'none', format: 'qed', at: 0, bytes: [0x51], codes: [0, 0, 0] },
    // The first entry of the second-level table leads past the end.
    { name: 'an entry past the end', format: 'qed', at: 0x60002, bytes: [0xff], codes: [2, 2, 3] },
    // Its first-level entry is gone: table and data leak.
    { name: 'a lost table', format: 'qed', at: 0x10000, bytes: [0, 0, 0], codes: [3, 3, 3] },
  ];

  test.skipIf(skipped !== undefined).for(DAMAGES)(
    '$format with $name: counts as qemu-img check has them, and the same repair',
    async ({ format, at, bytes, fileSize, codes }) => {
      const folder = testDirectory();
      const make = (): void => {
        for (const file of ['ours', 'theirs']) {
          runTool('qemu-img', ['create', '-q', '-f', format, file, '64M'], folder);
          runTool('qemu-io', ['-f', format, '-c', 'write -q 0 64k', file], folder);
          const descriptor = openSync(join(folder, file), 'r+');
          writeSync(descriptor, Uint8Array.from(bytes), 0, bytes.length, at);
          closeSync(descriptor);
          if (fileSize !== undefined) truncateSync(join(folder, file), fileSize);
        }
      };
      const COUNTS = [
        'format',
        'check-errors',
        'corruptions',
        'leaks',
        'corruptions-fixed',
        'leaks-fixed',
        // For QED qemu-img does not report it it.
        ...(format === 'qcow2' ? ['image-end-offset'] : []),
        'total-clusters',
        'allocated-clusters',
      ];
      for (const [index, repair] of [undefined, 'leaks', 'all'].entries()) {
        make();
        const words = repair === undefined ? [] : ['--repair', repair];
        const ours = await callCli(folder, 'check', 'ours', '--json', ...words);
        expect({ repair, code: ours.code }).toEqual({ repair, code: codes[index] });
        // QED has nothing that `-r leaks` frees, and there qemu-img repairs other things than asked
        // for.
        if (format === 'qed' && repair === 'leaks') continue;
        const qemuWords = repair === undefined ? [] : ['-r', repair];
        const theirs = tryTool(
          'qemu-img',
          ['check', '-f', format, '--output=json', ...qemuWords, 'theirs'],
          folder,
        );
        expect(ours.code).toBe(theirs.status);
        // A check that failed has nothing to tell there.
        if (theirs.stdout === '') continue;
        const named = { theirs: picked(JSON.parse(theirs.stdout), COUNTS) };
        expect({ theirs: picked(JSON.parse(ours.stdout), COUNTS) }).toEqual(named);
        if (codes[index] === 0) runTool('qemu-img', ['check', '-q', '-f', format, 'ours'], folder);
      }
    },
  );

  test.skipIf(skipped !== undefined)(
    'a bitmap with a cluster past the end of the file remains an error until it is removed',
    async () => {
      const folder = testDirectory();
      runTool('qemu-img', ['create', '-q', '-f', 'qcow2', 'disk', '4M'], folder);
      runTool('qemu-img', ['bitmap', '--add', 'disk', 'changed'], folder);
      runTool('qemu-io', ['-c', 'write 0 64k', 'disk'], folder);
      const bytes = readFileSync(join(folder, 'disk'));
      const extension = bytes.indexOf(Buffer.from('23852875', 'hex'));
      const directory = Number(bytes.readBigUInt64BE(extension + 24));
      const table = Number(bytes.readBigUInt64BE(directory));
      bytes.writeBigUInt64BE(0x400000n, table);
      writeFileSync(join(folder, 'disk'), bytes);
      expect((await callCli(folder, 'check', 'disk', '--repair', 'all')).code).toBe(2);
      // The bits that are lost are not called "nothing changed".
      expect(readFileSync(join(folder, 'disk')).readBigUInt64BE(table)).toBe(0x400000n);
      expect((await callCli(folder, 'check', 'disk')).code).toBe(2);
      runTool('qemu-img', ['bitmap', '--remove', 'disk', 'changed'], folder);
      expect((await callCli(folder, 'check', 'disk')).code).toBe(0);
    },
  );

  const DATA_FILES: readonly (readonly [
    name: string,
    change: (path: string) => void,
    error: string | undefined,
  ])[] = [
    ['is missing', (path) => rmSync(path), "its data file 'data' is missing: restore it"],
    ['is a directory', replaceByDirectory, 'its data file cannot be opened'],
    ['is cut short', (path) => truncateSync(path, 100), undefined],
  ];

  test.skipIf(skipped !== undefined).for(DATA_FILES)(
    'an image whose data file %s: the exit code of qemu-img check, and nothing is repaired without it',
    async ([, change, error]) => {
      const folder = testDirectory();
      runTool('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'data_file=data', 'disk', '4M'], folder);
      runTool('qemu-io', ['-c', 'write 0 1M', 'disk'], folder);
      const before = readFileSync(join(folder, 'disk'));
      change(join(folder, 'data'));
      const theirs = tryTool('qemu-img', ['check', 'disk'], folder).status;
      for (const words of [[], ['--repair', 'all'], ['--force-share']]) {
        const ended = await callCli(folder, 'check', 'disk', ...words);
        expect(ended.code, words.join(' ')).toBe(theirs);
        if (error !== undefined) expect(errorLine(ended)).toContain(error);
      }
      expect(readFileSync(join(folder, 'disk'))).toEqual(before);
    },
  );

  test.skipIf(skipped !== undefined)('a data file elsewhere is opened where that is allowed', async () => {
    const folder = testDirectory();
    mkdirSync(join(folder, 'images'));
    const options = `data_file=${join(folder, 'data')}`;
    runTool('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', options, 'images/disk', '4M'], folder);
    const refused = await callCli(folder, 'check', 'images/disk');
    expect(refused.code).toBe(1);
    expect(errorLine(refused)).toMatch(/--backing-dir, or any with --any-backing/);
    expect((await callCli(folder, 'check', 'images/disk', '--backing-dir', '.')).code).toBe(0);
    expect((await callCli(folder, 'check', 'images/disk', '--any-backing')).code).toBe(0);
  });

  describe.skipIf(skipped !== undefined)('--data-file-path', () => {
    const moved = (): string => {
      const folder = testDirectory();
      runTool('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'data_file=data', 'disk', '4M'], folder);
      runTool('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 1M 1M', 'disk'], folder);
      mkdirSync(join(folder, 'elsewhere'));
      renameSync(join(folder, 'data'), join(folder, 'elsewhere', 'moved'));
      return folder;
    };
    const path = ['--data-file-path', 'elsewhere/moved'];

    test('is where the data file is, in place of the name in the image', async () => {
      const folder = moved();
      const missing = await callCli(folder, 'convert', 'disk', 'copy', '--to', 'raw');
      expect(errorLine(missing)).toMatch(/--data-file-path.*\[file-missing\]/);
      for (const words of [
        ['convert', 'disk', 'copy', '--to', 'raw'],
        ['map', 'disk'],
        ['measure', 'disk'],
        ['check', 'disk'],
        ['amend', 'disk', '--refcounts', 'lazy'],
        ['snapshot', 'disk', '--delete', 'none'],
        ['bitmap', 'disk', '--add', 'one'],
        ['resize', 'disk', '8MiB'],
      ]) {
        const ended = await callCli(folder, ...words, ...path);
        if (words[0] === 'snapshot') expect(errorLine(ended)).toContain('[snapshot-missing]');
        else expect(ended, words.join(' ')).toMatchObject({ code: 0 });
      }
      const theirs =
        'driver=qcow2,file.filename=disk,data-file.driver=file,data-file.filename=elsewhere/moved';
      runTool('qemu-img', ['convert', '--image-opts', '-O', 'raw', theirs, 'theirs'], folder);
      const [ours, qemu] = ['copy', 'theirs'].map((name) => readFileSync(join(folder, name)));
      expect(ours?.equals(qemu?.subarray(0, ours.length) ?? Buffer.alloc(0))).toBe(true);
      expect(existsSync(join(folder, 'data'))).toBe(false);
    });

    test('is refused for an image without one, and never the output', async () => {
      const folder = moved();
      runTool('qemu-img', ['create', '-q', '-f', 'qcow2', 'plain', '4M'], folder);
      for (const words of [
        ['convert', 'plain', 'copy'],
        ['map', 'plain'],
        ['check', 'plain'],
      ]) {
        expect(errorLine(await callCli(folder, ...words, ...path)), words.join(' ')).toContain(
          '[no-data-file]',
        );
      }
      const itself = await callCli(folder, 'convert', 'disk', 'copy', '--data-file-path', './disk');
      expect(errorLine(itself)).toContain('[data-file-is-image]');
      const before = readFileSync(join(folder, 'elsewhere', 'moved'));
      const over = await callCli(folder, 'convert', 'disk', 'elsewhere/moved', ...path, '--overwrite');
      expect(over.code).toBe(2);
      expect(readFileSync(join(folder, 'elsewhere', 'moved')).equals(before)).toBe(true);
    });
  });

  test.skipIf(skipped !== undefined)('without --repair not a byte of a damaged image changes', async () => {
    const folder = testDirectory();
    runTool('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'lazy_refcounts=on', 'disk', '64M'], folder);
    crashQemuIo(['write 0 64k', 'flush'], 'disk', { directory: folder });
    const path = join(folder, 'disk');
    const before = { bytes: readFileSync(path), changed: statSync(path).mtimeMs };
    expect((await callCli(folder, 'check', 'disk')).code).toBe(2);
    expect({ bytes: readFileSync(path), changed: statSync(path).mtimeMs }).toEqual(before);
    const leaks = await callCli(folder, 'check', 'disk', '--repair', 'leaks');
    expect(leaks.code).toBe(1);
    // The mark of the unclean close stays, or the next writer would trust wrong refcounts.
    const info = await callCli(folder, 'info', 'disk', '--json');
    expect(JSON.parse(info.stdout)).toMatchObject({ 'dirty-flag': true });
    expect((await callCli(folder, 'check', 'disk', '--repair', 'all')).code).toBe(0);
    runTool('qemu-img', ['check', '-q', 'disk'], folder);
  });
});

function replaceByDirectory(path: string): void {
  rmSync(path);
  mkdirSync(path);
}

function makeFile(folder: string, name: string): string {
  const path = join(folder, name);
  writeFileSync(path, '');
  return path;
}

function picked(value: unknown, names: readonly string[]): Record<string, unknown> {
  const record = value as Record<string, unknown>;
  return Object.fromEntries(names.map((name) => [name, record[name]]));
}
