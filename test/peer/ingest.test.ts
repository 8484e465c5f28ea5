/**
 * Real servers under strace, driven by real requests of qemu-io: what is ingested of their logs is
 * what the QEMU engine counts of qemu-io on the same requests.
 */

import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { describe, expect, test, vi } from 'vitest';

import { qemuIoScript } from '../../src/peer/qemu-io.ts';
import type { CellRecord } from '../../src/result/schema.ts';
import { readResult } from '../../src/result/store.ts';
import { findSource, openStream } from '../../src/workload/library.ts';
import type { Request } from '../../src/workload/request.ts';
import { callCli } from '../cli/call-cli.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { owned } from '../owned-process.ts';
import { testDirectory } from '../test-directory.ts';

vi.setConfig({ testTimeout: 120_000 });

const PATIENCE_MS = 20_000;
const COUNT = 60;
const CALLS =
  'trace=openat,close,dup,pread64,preadv,pwrite64,pwritev,fallocate,ftruncate,fdatasync,fsync,read,recvfrom,recvmsg,io_uring_enter,io_submit';

interface Server {
  readonly command: string;
  /** @param socket where it listens. */
  readonly words: (socket: string, image: string) => readonly string[];
  /** Whether it goes on when its client has left. */
  readonly stays: boolean;
}

const QEMU_NBD: Server = {
  command: 'qemu-nbd',
  words: (socket, image) => ['-f', 'qcow2', '--cache=writeback', '--discard=unmap', '-k', socket, image],
  stays: false,
};
const STORAGE_DAEMON: Server = {
  command: 'qemu-storage-daemon',
  words: (socket, image) => [
    ...['--blockdev', `driver=file,node-name=f,filename=${image},discard=unmap`],
    ...['--blockdev', 'driver=qcow2,node-name=q,file=f,discard=unmap'],
    ...['--nbd-server', `addr.type=unix,addr.path=${socket}`],
    ...['--export', 'type=nbd,id=e,node-name=q,name=,writable=on'],
  ],
  stays: true,
};

const skip = reasonToSkip('qemu-io', 'qemu-img', 'qemu-nbd', 'qemu-storage-daemon', 'strace');
const folder = testDirectory();

function at(name: string): string {
  return join(folder, name);
}

async function requestsOf(workload: string): Promise<readonly Request[]> {
  await using stream = await openStream(await findSource(workload), { limit: COUNT });
  const requests: Request[] = [];
  for await (const batch of stream.batches) requests.push(...batch);
  return requests;
}

/** Serves the requests over NBD with the server under strace; its log is NAME.log. */
async function serve(server: Server, name: string, requests: readonly Request[]): Promise<void> {
  const socket = at(`${name}.sock`);
  rmSync(socket, { force: true });
  const image = at(`${name}.qcow2`);
  const strace = ['-f', '-y', '-s', '32', '-v', '-e', CALLS, '-o', at(`${name}.log`)];
  const child: ChildProcess = owned(
    spawn('strace', [...strace, server.command, ...server.words(socket, image)], { stdio: 'ignore' }),
  );
  const ended = new Promise<void>((resolve) => {
    child.once('close', () => {
      resolve();
    });
  });
  let isServed = false;
  try {
    await drive(socket, qemuIoScript(requests));
    isServed = true;
  } finally {
    // qemu-nbd ends when its client has left; one that was never reached must not stay.
    if (server.stays || !isServed) endTraced(at(`${name}.log`));
    await ended;
  }
}

/** The server takes a moment until it listens. */
async function drive(socket: string, input: string): Promise<void> {
  const words = ['-f', 'raw', '-t', 'writeback', '-d', 'unmap', `nbd+unix:///?socket=${socket}`];
  const late = Date.now() + PATIENCE_MS;
  for (;;) {
    const { stderr } = spawnSync('qemu-io', words, { input, encoding: 'utf8' });
    if (stderr === '') return;
    if (Date.now() > late || !stderr.includes('Failed to connect')) throw new Error(stderr);
    await delay(20);
  }
}

/** strace ends with what it traces; the first line of its log has the process. */
function endTraced(log: string): void {
  const [, pid] = /^(\d+) /.exec(readFileSync(log, 'utf8')) ?? [];
  try {
    if (pid !== undefined) process.kill(Number(pid), 'SIGTERM');
  } catch {
    // It has ended.
  }
}

function cellOf(name: string): CellRecord {
  const [cell] = readResult(at(name)).cells;
  if (cell === undefined) throw new Error(`${name} has no cell`);
  return cell;
}

function ingestWords(name: string, ...more: readonly string[]): readonly string[] {
  const image = ['--image', `${name}.qcow2`, '--base', 'base.qcow2', '--format', 'qcow2'];
  return ['ingest', `${name}.log`, '--engine-name', 'theirs', ...image, ...more];
}

describe.skipIf(skip !== undefined)(`real servers${skip === undefined ? '' : ` (${skip})`}`, () => {
  test.each([
    ['qemu-nbd', 'database-commit', QEMU_NBD],
    ['qemu-nbd', 'random-allocation', QEMU_NBD],
    ['qemu-storage-daemon', 'database-commit', STORAGE_DAEMON],
  ] as const)('%s serves %s: counts of the run are those of the QEMU engine', async (_, workload, server) => {
    const own = ['--format', 'qcow2', '--refcounts', 'eager', '--cache', 'writeback', '--samples', '0'];
    const run = ['run', '--engine', 'qemu', '--workload', workload, '--requests', String(COUNT), ...own];
    const ran = await callCli(folder, ...run, '--out', 'qemu.json');
    expect(ran.code, ran.stderr).toBe(0);
    const { virtualSize } = await findSource(workload);
    spawnSync('qemu-img', ['create', '-q', '-f', 'qcow2', at('base.qcow2'), String(virtualSize)]);
    copyFileSync(at('base.qcow2'), at('served.qcow2'));
    const requests = await requestsOf(workload);
    await serve(server, 'served', requests);

    const more = ['--requests', workload, '--count', String(COUNT), '--out', 'theirs.json', '--overwrite'];
    const ended = await callCli(folder, ...ingestWords('served', ...more));
    expect(ended.stderr).toBe('');
    const [theirs, qemu] = [cellOf('theirs.json'), cellOf('qemu.json')];
    expect(theirs.counts?.run).toEqual(qemu.counts?.run);
    expect(theirs.counts?.guest).toEqual(qemu.counts?.guest);
    expect(theirs.requests).toEqual(qemu.requests);

    // The log shows its requests itself; the last flush is the client's, when it leaves.
    const alone = await callCli(folder, ...ingestWords('served', '--out', 'alone.json', '--overwrite'));
    expect(alone.stderr).toBe('');
    const { counts } = cellOf('alone.json');
    const { guest } = theirs.counts ?? {};
    expect({ ...counts?.guest, flushes: 0 }).toEqual({ ...guest, flushes: 0 });
    expect(counts?.run.writes.byPurpose.data).toEqual(theirs.counts?.run.writes.byPurpose.data);
  });

  test('a sync that is planted into the log is one message of the gate; a truncated log is an error', async () => {
    spawnSync('qemu-img', ['create', '-q', '-f', 'qcow2', at('base.qcow2'), '1G']);
    copyFileSync(at('base.qcow2'), at('served.qcow2'));
    await serve(QEMU_NBD, 'served', await requestsOf('database-commit'));
    const words = ingestWords(
      'served',
      '--requests',
      'database-commit',
      '--count',
      String(COUNT),
      '--overwrite',
    );
    expect(await callCli(folder, ...words, '--out', 'good.json')).toMatchObject({ code: 0, stderr: '' });
    expect((await callCli(folder, 'gate', 'good.json', '--accept', '--baseline', 'b.json')).code).toBe(0);

    const log = readFileSync(at('served.log'), 'utf8');
    const lines = log.split('\n');
    // A data write of some later request, and a sync behind it.
    const data = lines.findIndex(
      (line, index) => index > lines.length / 2 && /pwrite64\(.*served\.qcow2>/.test(line),
    );
    const [, thread = '', file = ''] = /^(\d+) +pwrite64\((\d+<[^>]*>)/.exec(lines[data] ?? '') ?? [];
    const before = lines.slice(0, data).findLastIndex((line) => line.includes('pwrite64('));
    writeFileSync(
      at('served.log'),
      lines.toSpliced(Math.max(before, data), 0, `${thread} fdatasync(${file}) = 0`).join('\n'),
    );
    expect(await callCli(folder, ...words, '--out', 'bad.json')).toMatchObject({ code: 0, stderr: '' });
    const { code, stdout } = await callCli(folder, 'gate', 'bad.json', '--baseline', 'b.json');
    expect(code).toBe(3);
    expect(stdout.match(/^(?:WORSE|FEWER SYNCS)/gm)).toEqual(['WORSE']);
    expect(stdout).toMatch(/\+1\.00 sync per run, [\w-]+ \([^]*, request \d+/);

    writeFileSync(at('served.log'), log.slice(0, -40));
    const cut = await callCli(folder, ...words, '--out', 'cut.json');
    expect(cut.code).toBe(1);
    expect(cut.stderr).toMatch(/served\.log, line \d+: the file ends within this line: the log is truncated/);
  });
});
