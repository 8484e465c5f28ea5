/** `info` says of an image, and of the chain behind it, what `qemu-img info` says. */

import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { LIMITS } from '../../src/core/limits.ts';
import { crashQemuIo, reasonToSkip, runTool, tryTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import { errorLine } from './cli-process.ts';

const skipped = reasonToSkip('qemu-img', 'qemu-io');

describe.skipIf(skipped !== undefined)(`info${skipped === undefined ? '' : ` (${skipped})`}`, () => {
  const SHAPES: readonly (readonly [name: string, format: string, options: string])[] = [
    ['qcow2', 'qcow2', 'preallocation=off'],
    ['version 2', 'qcow2', 'compat=0.10'],
    ['every feature', 'qcow2', 'lazy_refcounts=on,extended_l2=on,compression_type=zstd,refcount_bits=64'],
    ['a raw data file', 'qcow2', 'data_file=data.raw,data_file_raw=on'],
    ['QED', 'qed', 'cluster_size=4096'],
    ['raw', 'raw', 'preallocation=off'],
  ];

  test.each(SHAPES)('%s: the lines and the JSON of qemu-img info', async (_, format, options) => {
    const folder = testDirectory();
    runTool('qemu-img', ['create', '-q', '-f', format, '-o', options, 'disk', '300M'], folder);
    // QEMU counts the blocks of a data file in, which is not looked at here.
    if (options.includes('data_file')) truncateSync(join(folder, 'data.raw'), 0);
    await expectSame(folder, 'disk');
  });

  test('snapshots, bitmaps and an unclean close', async () => {
    const folder = testDirectory();
    runTool('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'lazy_refcounts=on', 'disk', '64M'], folder);
    runTool('qemu-img', ['snapshot', '-c', 'before', 'disk'], folder);
    runTool('qemu-img', ['bitmap', '--add', 'disk', 'one'], folder);
    runTool('qemu-img', ['bitmap', '--add', '--disable', '-g', '32k', 'disk', 'two'], folder);
    await expectSame(folder, 'disk');
    crashQemuIo(['write 0 64k'], 'disk', { directory: folder });
    const { text } = await expectSame(folder, 'disk');
    expect(text).toContain('cleanly shut down: no');
    expect(text).toContain('in-use');
  });

  test('an encrypted image is described, and refused by what reads its disk', async () => {
    const folder = testDirectory();
    const luks = 'encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10';
    const secret = ['--object', 'secret,id=key,data=word'];
    runTool('qemu-img', ['create', '-q', '-f', 'qcow2', ...secret, '-o', luks, 'disk', '8M'], folder);
    const { code, stdout } = await callCli(folder, 'info', 'disk', '--json');
    expect(code).toBe(0);
    const theirs = JSON.parse(runTool('qemu-img', ['info', '--output=json', 'disk'], folder)) as object;
    // What the keys are for is only QEMU's to show.
    const encrypt = { format: 'luks' };
    expect(JSON.parse(stdout)).toMatchObject({
      encrypted: true,
      'virtual-size': 8 * 1024 ** 2,
      'format-specific': { data: { encrypt } },
    });
    expect(theirs).toMatchObject({ encrypted: true, 'format-specific': { data: { encrypt } } });
    expect((await callCli(folder, 'info', 'disk')).stdout).toContain('encrypted: yes\n');
    for (const words of ['check disk', 'map disk', 'convert disk out --to raw', 'snapshot disk --create x']) {
      const refused = await callCli(folder, ...words.split(' '));
      expect(errorLine(refused)).toMatch(/encrypted images \(LUKS\) are not supported/);
    }
  });

  test('a chain of qcow2 over qcow2 over raw, and qcow2 over QED over raw, is reported as by qemu-img', async () => {
    const folder = testDirectory();
    mkdirSync(join(folder, 'images'));
    truncateSync(made(folder, 'base.raw'), 3 * 1024 ** 2);
    overlay(folder, 'middle.qcow2', 'base.raw', 'raw');
    runTool('qemu-img', ['snapshot', '-c', 'before', 'middle.qcow2'], folder);
    overlay(folder, 'top.qcow2', 'middle.qcow2', 'qcow2', '8M');
    overlay(folder, 'middle.qed', 'base.raw', 'raw');
    overlay(folder, 'top-of-qed.qcow2', 'middle.qed', 'qed');
    overlay(folder, 'images/away.qcow2', '../middle.qcow2', 'qcow2');
    for (const image of ['top.qcow2', 'top-of-qed.qcow2', 'base.raw']) {
      await expectSame(folder, image, '--backing-chain');
    }
    // The image alone, whatever its backing files are.
    const { text } = await expectSame(folder, 'images/away.qcow2');
    expect(text).toContain('(actual path: images/../middle.qcow2)');
  });

  test('a loop is an error, as with qemu-img', async () => {
    const folder = testDirectory();
    overlay(folder, 'one.qcow2', 'two.qcow2', 'qcow2', '1M');
    overlay(folder, 'two.qcow2', 'one.qcow2', 'qcow2', '1M');
    await expectBothRefuse(folder, 'one.qcow2', 'backing-loop');
  });

  test('a missing link is an error that names the file, as with qemu-img', async () => {
    const folder = testDirectory();
    overlay(folder, 'middle.qcow2', 'gone.raw', 'raw', '1M');
    overlay(folder, 'top.qcow2', 'middle.qcow2', 'qcow2', '1M');
    expect(await expectBothRefuse(folder, 'top.qcow2', 'file-missing')).toContain('gone.raw');
  });

  test('a link outside of the directory is opened only with the explicit flags, symbolic links followed', async () => {
    const folder = testDirectory();
    mkdirSync(join(folder, 'images'));
    truncateSync(made(folder, 'secret.raw'), 1024 ** 2);
    symlinkSync('../secret.raw', join(folder, 'images', 'innocent.raw'));
    overlay(folder, 'images/top.qcow2', '../secret.raw', 'raw');
    overlay(folder, 'images/linked.qcow2', 'innocent.raw', 'raw');
    for (const image of ['images/top.qcow2', 'images/linked.qcow2']) {
      const refused = await callCli(folder, 'info', '--backing-chain', '--json', image);
      expect(refused).toMatchObject({ code: 1, stdout: '' });
      expect(errorLine(refused)).toMatch(/\[backing-not-allowed\]$/);
      for (const allowed of [['--any-backing'], ['--backing-dir', '.']]) {
        const { code, stdout } = await callCli(
          folder,
          'info',
          '--backing-chain',
          '--json',
          image,
          ...allowed,
        );
        expect(code).toBe(0);
        expect(JSON.parse(stdout)).toMatchObject([{ format: 'qcow2' }, { format: 'raw' }]);
      }
    }
  });

  test('a format that no image names is given or the chain refused, never detected from the content', async () => {
    const folder = testDirectory();
    overlay(folder, 'base.qcow2', 'gone', 'raw', '1M');
    overlay(folder, 'top.qcow2', 'base.qcow2', 'raw', '1M');
    // The header extension that names the format becomes an unknown one.
    const descriptor = openSync(join(folder, 'top.qcow2'), 'r+');
    writeSync(descriptor, Uint8Array.of(0x12, 0x34, 0x56, 0x78), 0, 4, 112);
    closeSync(descriptor);
    const words = ['info', '--backing-chain', '--json', 'top.qcow2'];
    const refused = await callCli(folder, ...words);
    expect(refused.code).toBe(1);
    expect(errorLine(refused)).toMatch(/\[backing-format-missing\]$/);
    const { stdout } = await callCli(folder, ...words, '--backing-format', 'raw');
    expect(JSON.parse(stdout)).toMatchObject([{ format: 'qcow2' }, { format: 'raw' }]);
  });

  test('a chain of 20 files is described and read, as by qemu-img; one of more files than are allowed is refused', async () => {
    const folder = testDirectory();
    const last = LIMITS.backingChainDepth + 1;
    const name = (n: number): string => `disk-${String(n).padStart(3, '0')}`;
    truncateSync(made(folder, name(last)), 1024 ** 2);
    overlay(folder, name(last - 1), name(last), 'raw', '1M');
    overlay(folder, name(last - 2), name(last - 1), 'qcow2', '1M');
    const image = readFileSync(join(folder, name(last - 2)));
    const at = image.indexOf(name(last - 1));
    for (let n = last - 3; n >= 0; n--) {
      image.write(name(n + 1), at);
      writeFileSync(join(folder, name(n)), image);
    }
    await expectSame(folder, name(last - 20), '--backing-chain');
    const refused = await callCli(folder, 'info', '--backing-chain', name(0));
    expect(errorLine(refused)).toMatch(/\[backing-chain-too-deep\]$/);
    const { stdout } = await callCli(folder, 'info', '--backing-chain', '--json', name(1));
    expect(JSON.parse(stdout)).toHaveLength(LIMITS.backingChainDepth + 1);
    const mapped = await callCli(folder, 'map', name(1));
    expect(mapped).toMatchObject({ code: 0 });
  });

  test('a file behind the image that is missing is named with the image that leads to it', async () => {
    const folder = testDirectory();
    truncateSync(made(folder, 'base.raw'), 1024 ** 2);
    overlay(folder, 'middle.qcow2', 'base.raw', 'raw');
    overlay(folder, 'top.qcow2', 'middle.qcow2', 'qcow2');
    renameSync(join(folder, 'base.raw'), join(folder, 'moved.raw'));
    const copy = ['convert', 'top.qcow2', 'copy.raw', '--to', 'raw'];
    for (const words of [['info', '--backing-chain', 'top.qcow2'], ['map', 'top.qcow2'], copy]) {
      const ended = await callCli(folder, ...words);
      expect(errorLine(ended), words.join(' ')).toMatch(
        /middle\.qcow2: its backing file 'base\.raw' is missing: .* rebase --unsafe .*\[file-missing\]$/,
      );
    }
    runTool('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'data_file=data', 'disk', '1M'], folder);
    renameSync(join(folder, 'data'), join(folder, 'away'));
    const ended = await callCli(folder, 'map', 'disk');
    expect(errorLine(ended)).toMatch(/disk: its data file 'data' is missing: restore it.*\[file-missing\]$/);
  });

  test('flags for files behind the image need --backing-chain: a slip is reported', async () => {
    const folder = testDirectory();
    made(folder, 'disk');
    const ended = await callCli(folder, 'info', 'disk', '--any-backing');
    expect(ended.code).toBe(2);
    expect(errorLine(ended)).toContain('--backing-chain');
  });

  test('a name in the image does not get to move the cursor', async () => {
    const folder = testDirectory();
    overlay(folder, 'top.qcow2', 'a\u001b[2Jb', 'raw', '1M');
    const { stdout } = await callCli(folder, 'info', 'top.qcow2');
    expect(stdout).toContain(String.raw`backing file: a\x1b[2Jb`);
  });
});

test('info: a directory without write access is no obstacle, and nothing is written', async () => {
  const { code, stdout } = await callCli('/', 'info', 'proc/version', '--json');
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ format: 'raw' });
});

function made(folder: string, name: string): string {
  const path = join(folder, name);
  writeFileSync(path, '');
  return path;
}

/** Nothing is asked of the backing file, which need not be there if the size is given. */
function overlay(folder: string, name: string, backing: string, format: string, ...size: string[]): void {
  const own = name.endsWith('.qed') ? 'qed' : 'qcow2';
  const unlooked = size.length > 0 ? ['-u'] : [];
  runTool(
    'qemu-img',
    ['create', '-q', ...unlooked, '-f', own, '-b', backing, '-F', format, name, ...size],
    folder,
  );
}

/** What qemu-img has no line for: the length of the file, and QED's tables. */
function withoutOurs(text: string): string {
  return text
    .replaceAll(/^file length: .*\n?/gm, '')
    .replaceAll(/^Format specific information:\n {4}table size: .*\n?/gm, '')
    .trimEnd();
}

function jsonWithoutOurs(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(jsonWithoutOurs);
  const info = { ...(value as Record<string, unknown>) };
  delete info['file-size'];
  if (info['format'] === 'qed') delete info['format-specific'];
  return info;
}

async function expectSame(
  folder: string,
  image: string,
  ...words: readonly string[]
): Promise<{ readonly text: string }> {
  const [text, json] = await Promise.all([
    callCli(folder, 'info', ...words, image),
    callCli(folder, 'info', '--json', ...words, image),
  ]);
  expect(withoutOurs(text.stdout)).toBe(runTool('qemu-img', ['info', ...words, image], folder).trimEnd());
  const theirs: unknown = JSON.parse(runTool('qemu-img', ['info', '--output=json', ...words, image], folder));
  expect(jsonWithoutOurs(JSON.parse(json.stdout))).toEqual(theirs);
  expect([text.code, json.code]).toEqual([0, 0]);
  return { text: text.stdout };
}

async function expectBothRefuse(folder: string, image: string, code: string): Promise<string> {
  const words = ['info', '--backing-chain', image];
  expect(tryTool('qemu-img', words, folder).status).toBe(1);
  const refused = await callCli(folder, ...words);
  expect(refused).toMatchObject({ code: 1, stdout: '' });
  const line = errorLine(refused);
  expect(line).toContain(`[${code}]`);
  return line;
}
