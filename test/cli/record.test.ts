/** `record` and `serve` with clients that know nothing of them. */

import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';

import { describe, expect, test } from 'vitest';

import { Random } from '../../src/core/random.ts';
import { findSource } from '../../src/workload/library.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { owned } from '../owned-process.ts';
import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import { errorLine, startCli, type Started } from './cli-process.ts';

const MIB = 1024 * 1024;
const skip = reasonToSkip('nbdinfo', 'nbdcopy', 'qemu-img', 'qemu-io', 'fio');
const FUSE = '/dev/fuse';
const skipFuse =
  reasonToSkip('nbdfuse', 'mkfs.ext4', 'qemu-img') ?? (existsSync(FUSE) ? undefined : `no ${FUSE} here`);
const run = promisify(execFile);

/** Waits until the program has said where it serves. */
async function uriOf(started: Started): Promise<string> {
  let stdout = '';
  started.process.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  while (!stdout.includes('\n')) {
    if (started.process.exitCode !== null) throw new Error((await started.ended).stderr);
    await delay(10);
  }
  return stdout.trim();
}

function randomFile(path: string, bytes: number): Buffer {
  const random = new Random(11);
  const content = Buffer.alloc(2 * bytes);
  // The second half is a hole to come.
  for (let at = 0; at < bytes; at += 4) content.writeUInt32LE(random.uint32(), at);
  writeFileSync(path, content);
  return content;
}

/** What of a map does not depend on where the file was written. */
async function guestMapOf(folder: string, image: string, format: string): Promise<unknown> {
  const map = (await mapOf(folder, image, format)) as Record<string, unknown>[];
  return map.map(({ start, length, data, zero }) => ({ start, length, data, zero }));
}

async function mapOf(folder: string, image: string, format: string): Promise<unknown> {
  const { stdout } = await run('qemu-img', ['map', '-f', format, '--output=json', image], { cwd: folder });
  return JSON.parse(stdout);
}

describe.skipIf(skip !== undefined)(`real clients${skip === undefined ? '' : ` (${skip})`}`, () => {
  test.each(['raw', 'qcow2', 'qed'])(
    'nbdcopy both ways, qemu-io and qemu-img see one disk (%s); the trace replays to the same map',
    async (format) => {
      const folder = testDirectory();
      const content = randomFile(join(folder, 'in.raw'), 8 * MIB);
      const made = ['--image', 'disk', '--create', '16MiB', '--format', format];
      const facts = ['--title', 'Copies', '--fact', 'program=nbdcopy', '--fact', 'tool=mine'];
      const place = ['--socket', 'nbd.sock', '--trace', 'trace.csv.zst'];
      const record = startCli(folder, 'record', ...made, ...place, ...facts);
      const uri = await uriOf(record);
      const { stdout } = await run('nbdinfo', ['--json', uri]);
      expect(JSON.parse(stdout)).toMatchObject({
        protocol: 'newstyle-fixed',
        structured: true,
        exports: [{ 'export-size': 16 * MIB, can_multi_conn: true, can_fua: true, is_read_only: false }],
      });
      await run('nbdcopy', ['--flush', 'in.raw', uri], { cwd: folder });
      await run('nbdcopy', [uri, 'out.raw'], { cwd: folder });
      expect(readFileSync(join(folder, 'out.raw')).equals(content)).toBe(true);
      const commands = [
        'write -P 7 12M 64k',
        'write -z -u 1M 64k',
        'flush',
        'read -P 7 12M 64k',
        'read -P 0 1M 64k',
      ];
      await run('qemu-io', ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), uri]);
      await run('qemu-img', ['convert', '-f', 'raw', '-O', 'raw', uri, 'converted.raw'], { cwd: folder });
      record.process.kill('SIGTERM');
      expect(await record.ended).toMatchObject({ code: 0, stdout: `${uri}\n` });
      expect(existsSync(join(folder, 'nbd.sock'))).toBe(false);
      await run('qemu-img', ['compare', '-f', format, '-F', 'raw', 'disk', 'converted.raw'], { cwd: folder });
      if (format !== 'raw') await run('qemu-img', ['check', '-f', format, 'disk'], { cwd: folder });
      expect(statSync(join(folder, 'trace.csv.zst')).size).toBeLessThan(20_000);

      const trace = await findSource(join(folder, 'trace.csv.zst'));
      if (trace.kind !== 'recording') throw new Error('not a recording');
      const { provenance } = trace;
      expect(['title', 'program', 'tool'].map((key) => provenance.get(key))).toEqual([
        'Copies',
        'nbdcopy',
        'mine',
      ]);
      expect(provenance.get('recorded')).toMatch(/^\d{4}-\d\d-\d\d$/);

      const cell = ['--format', format, '--refcounts', 'eager', '--cache', 'writeback'];
      const replayed = await callCli(folder, 'replay', 'trace.csv.zst', ...cell, '--image', 'replayed');
      expect(replayed.code).toBe(0);
      if (format === 'qcow2') {
        expect(await guestMapOf(folder, 'replayed', format)).toEqual(
          await guestMapOf(folder, 'disk', format),
        );
      }
      if (format !== 'raw') await run('qemu-img', ['check', '-f', format, 'replayed'], { cwd: folder });
    },
  );

  test('fio writes at random with verification over TCP, and --once ends when it leaves', async () => {
    const folder = testDirectory();
    const made = [
      '--image',
      'disk.qcow2',
      '--create',
      '32MiB',
      '--refcounts',
      'lazy',
      '--cache',
      'writethrough',
    ];
    const record = startCli(
      folder,
      'record',
      ...made,
      '--listen',
      '127.0.0.1:0',
      '--once',
      '--trace',
      'trace.csv',
    );
    const uri = await uriOf(record);
    expect(uri).toMatch(/^nbd:\/\/127\.0\.0\.1:\d+\/?$/);
    const job = ['--name=verify', '--ioengine=nbd', `--uri=${uri}`, '--rw=randwrite', '--bs=4k', '--size=4M'];
    await run('fio', [...job, '--iodepth=16', '--verify=crc32c', '--do_verify=1', '--fsync=8'], {
      cwd: folder,
    });
    const { code, stderr } = await record.ended;
    expect({ code, recorded: /recorded [\d,]+ requests/.test(stderr) }).toEqual({ code: 0, recorded: true });
    await run('qemu-img', ['check', 'disk.qcow2'], { cwd: folder });
    const trace = readFileSync(join(folder, 'trace.csv'), 'utf8');
    expect(trace.match(/,write,/g)).toHaveLength(1024);
    expect(trace.match(/,flush,/g)?.length).toBeGreaterThan(100);
    expect((await callCli(folder, 'replay', 'trace.csv', '--samples', '0')).code).toBe(0);
  });

  test('serve shows an image and writes no trace', async () => {
    const folder = testDirectory();
    expect((await callCli(folder, 'create', 'disk.qcow2', '1MiB')).code).toBe(0);
    // Without --once, which would end it if the second client came late.
    const serve = startCli(folder, 'serve', '--image', 'disk.qcow2', '--read-only', '--socket', 's');
    const uri = await uriOf(serve);
    await expect(run('qemu-io', ['-f', 'raw', '-c', 'write 0 64k', uri])).rejects.toThrow();
    await run('nbdcopy', [uri, 'out.raw'], { cwd: folder });
    serve.process.kill('SIGTERM');
    expect((await serve.ended).code).toBe(0);
    expect(statSync(join(folder, 'out.raw')).size).toBe(MIB);
  });
});

describe.skipIf(skipFuse !== undefined)(`the kernel${skipFuse === undefined ? '' : ` (${skipFuse})`}`, () => {
  test('makes a file system through nbdfuse, and fsck finds it sound there and in the image', async () => {
    const folder = testDirectory();
    const tool = (name: string, ...args: readonly string[]): Promise<unknown> =>
      run(name, args, {
        cwd: folder,
        env: { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` },
      });
    const made = ['--image', 'disk.qcow2', '--create', '64MiB', '--refcounts', 'lazy'];
    const record = startCli(folder, 'record', ...made, '--socket', 's', '--once', '--trace', 't.csv.gz');
    const uri = await uriOf(record);
    mkdirSync(join(folder, 'mnt'));
    const fuse = owned(spawn('nbdfuse', ['mnt/disk', uri], { cwd: folder, stdio: 'ignore' }));
    const left = new Promise((resolve) => fuse.once('close', resolve));
    try {
      while (!existsSync(join(folder, 'mnt/disk'))) {
        if (fuse.exitCode !== null) throw new Error(`nbdfuse ended with ${String(fuse.exitCode)}`);
        await delay(10);
      }
      await tool('mkfs.ext4', '-q', '-F', 'mnt/disk');
      randomFile(join(folder, 'content'), MIB);
      await tool('debugfs', '-w', '-R', 'write content kept', 'mnt/disk');
      await tool('fsck.ext4', '-f', '-n', 'mnt/disk');
    } finally {
      await tool('umount', 'mnt').catch(() => tool('fusermount3', '-u', 'mnt'));
      await left;
    }
    expect(await record.ended).toMatchObject({ code: 0 });
    await run('qemu-img', ['check', 'disk.qcow2'], { cwd: folder });
    await run('qemu-img', ['convert', '-O', 'raw', 'disk.qcow2', 'disk.raw'], { cwd: folder });
    await tool('fsck.ext4', '-f', '-n', 'disk.raw');
    await tool('debugfs', '-R', 'dump kept again', 'disk.raw');
    expect(readFileSync(join(folder, 'again')).equals(readFileSync(join(folder, 'content')))).toBe(true);

    const cell = ['--format', 'qcow2', '--refcounts', 'lazy', '--cache', 'writeback', '--verify'];
    expect(await callCli(folder, 'replay', 't.csv.gz', ...cell, '--image', 'replayed')).toMatchObject({
      code: 0,
    });
    expect(await guestMapOf(folder, 'replayed', 'qcow2')).toEqual(
      await guestMapOf(folder, 'disk.qcow2', 'qcow2'),
    );
    await run('qemu-img', ['check', 'replayed'], { cwd: folder });
  });
});

describe('a session that cannot begin says why and leaves things as they were', () => {
  test.each([
    [['--socket', 's', '--listen', '127.0.0.1:0'], 2, '--listen'],
    [[], 2, '--socket'],
    [['--listen', 'here'], 2, 'HOST:PORT'],
    [['--listen', '0.0.0.0:0'], 1, '--allow-remote'],
    [['--socket', 'trace.csv'], 1, 'trace.csv'],
    [['--socket', 's', '--fact', 'virtual-size=512'], 2, 'virtual-size'],
    [['--socket', 's', '--fact', 'two words=x'], 2, 'KEY=VALUE'],
    [['--socket', 's', '--fact', 'who=caf\udce9'], 2, 'in UTF-8'],
    [['--socket', 's', '--title', 'caf\udce9'], 2, 'UTF-8 text'],
    [['--socket', 's', '--title', 'two\nlines'], 2, 'on one line'],
  ])('%j', async (listen, code, named) => {
    const folder = testDirectory();
    writeFileSync(join(folder, 'trace.csv'), 'mine');
    const words = ['record', '--image', 'new.qcow2', '--create', '1MiB', '--trace', 'other.csv', ...listen];
    const ended = await callCli(folder, ...words);
    expect(ended.code).toBe(code);
    expect(errorLine(ended)).toContain(named);
    expect(readFileSync(join(folder, 'trace.csv'), 'utf8')).toBe('mine');
    expect([existsSync(join(folder, 'new.qcow2')), existsSync(join(folder, 'other.csv'))]).toEqual([
      false,
      false,
    ]);
  });

  test('of an image that is made with a data file, neither stays if the session cannot begin', async () => {
    const folder = testDirectory();
    writeFileSync(join(folder, 'taken'), 'mine');
    const made = ['--image', 'new.qcow2', '--create', '1MiB', '--data-file', 'plain'];
    const ended = await callCli(folder, 'serve', ...made, '--socket', 'taken');
    expect(ended.code).toBe(1);
    expect(errorLine(ended)).toContain('taken');
    expect(readdirSync(folder)).toEqual(['taken']);
  });

  test('--overwrite replaces a trace only when the session begins', async () => {
    const folder = testDirectory();
    for (const name of ['taken', 'trace.csv']) writeFileSync(join(folder, name), 'mine');
    const image = ['--image', 'new.qcow2', '--create', '1MiB'];
    const ended = await callCli(
      folder,
      ...['record', ...image, '--trace', 'trace.csv', '--socket', 'taken', '--overwrite'],
    );
    expect(ended.code).toBe(1);
    expect(errorLine(ended)).toContain('taken');
    expect(readFileSync(join(folder, 'trace.csv'), 'utf8')).toBe('mine');
    expect(readdirSync(folder).toSorted()).toEqual(['taken', 'trace.csv']);
  });

  test('a trace that is there is not written over', async () => {
    const folder = testDirectory();
    writeFileSync(join(folder, 'trace.csv'), 'mine');
    const words = [
      'record',
      '--image',
      'new.qcow2',
      '--create',
      '1MiB',
      '--trace',
      'trace.csv',
      '--socket',
      's',
    ];
    const ended = await callCli(folder, ...words);
    expect(ended.code).toBe(1);
    expect(errorLine(ended)).toContain('file exists; use --overwrite to replace it');
    expect(readFileSync(join(folder, 'trace.csv'), 'utf8')).toBe('mine');
  });
});
