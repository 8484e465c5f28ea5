import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { testDirectory } from '../../test-directory.ts';
import { faultOf, readWhole, temporaryFile } from './trace-files.ts';

const READY = '2026-03-01 23:59:58.000000 Ready thread_model=3\n';
const CONNECT = `${READY}2026-03-01 23:59:58.000000 connection=1 Connect export="" tls=0 size=0x100000 write=1 flush=1\n`;

/** A line at so many microseconds after 23:59:59. */
const at = (micros: number, rest: string) =>
  `2026-03-01 23:59:59.${String(micros).padStart(6, '0')} connection=1 ${rest}\n`;
const issue = (micros: number, id: number, what: string) =>
  at(micros, `${what.replace(' ', ` id=${String(id)} `)} ...`);
const answer = (micros: number, id: number, op: string, result = '0') =>
  at(micros, `...${op} id=${String(id)} return=${result}`);

const read = (body: string) => readWhole(temporaryFile(CONNECT + body, 'log'));

test('each operation of the log is the request it means', async () => {
  const trace = await read(
    issue(10, 1, 'Write offset=0x10000 count=0x1000 fua=1') +
      answer(20, 1, 'Write') +
      issue(30, 2, 'Read offset=0x0 count=0x200') +
      answer(40, 2, 'Read') +
      at(50, 'Flush id=3 ...') +
      answer(60, 3, 'Flush') +
      issue(70, 4, 'Trim offset=0x2000 count=0x1000 fua=0') +
      answer(80, 4, 'Trim') +
      issue(90, 5, 'Zero offset=0x4000 count=0x2000 trim=1 fua=1 fast=0') +
      answer(95, 5, 'Zero') +
      issue(96, 6, 'Extents offset=0x0 count=0x1000 req_one=0') +
      at(97, '...Extents id=6 extents=[] return=0') +
      at(98, 'Disconnect transactions=6'),
  );
  expect(trace.virtualSize).toBe(2 ** 20);
  expect(trace.requests).toEqual([
    { op: 'write', offset: 0x10000, length: 4096, fua: true, unmap: false, timeNs: 0 },
    { op: 'read', offset: 0, length: 512, fua: false, unmap: false, timeNs: 20_000 },
    { op: 'flush', offset: 0, length: 0, fua: false, unmap: false, timeNs: 40_000 },
    { op: 'discard', offset: 0x2000, length: 4096, fua: false, unmap: false, timeNs: 60_000 },
    { op: 'write-zeroes', offset: 0x4000, length: 8192, fua: true, unmap: true, timeNs: 80_000 },
  ]);
});

test('requests come in the order of issue, whatever the order of the answers', async () => {
  const { requests } = await read(
    issue(1, 1, 'Write offset=0x0 count=0x200 fua=0') +
      issue(2, 2, 'Write offset=0x200 count=0x200 fua=0') +
      issue(3, 3, 'Write offset=0x400 count=0x200 fua=0') +
      answer(4, 3, 'Write') +
      answer(5, 1, 'Write') +
      answer(6, 2, 'Write'),
  );
  expect(requests.map(({ offset }) => offset)).toEqual([0, 512, 1024]);
});

test('what failed or was never answered is left out and counted', async () => {
  const trace = await read(
    issue(1, 1, 'Write offset=0x0 count=0x200 fua=0') +
      issue(2, 2, 'Write offset=0x200 count=0x200 fua=0') +
      issue(3, 3, 'Write offset=0x400 count=0x200 fua=0') +
      answer(4, 3, 'Write') +
      answer(5, 2, 'Write', '-1 error=EIO'),
  );
  expect(trace.requests.map(({ offset }) => offset)).toEqual([1024]);
  expect(trace.failedCount).toBe(2);
});

test('times go on over midnight, and a clock that steps back does not turn them round', async () => {
  const { requests } = await read(
    at(0, 'Flush id=1 ...') +
      answer(1, 1, 'Flush') +
      '2026-03-02 00:00:01.000000 connection=1 Flush id=2 ...\n' +
      answer(2, 2, 'Flush') +
      at(500, 'Flush id=3 ...') +
      answer(501, 3, 'Flush'),
  );
  expect(requests.map(({ timeNs }) => timeNs)).toEqual([0, 2_000_000_000, 2_000_000_000]);
});

test('the same id on two connections is two requests', async () => {
  const other = (line: string) => line.replace('connection=1', 'connection=2');
  const { requests } = await read(
    issue(1, 1, 'Write offset=0x0 count=0x200 fua=0') +
      other(issue(2, 1, 'Write offset=0x200 count=0x200 fua=0')) +
      other(answer(3, 1, 'Write', '-1 error=EIO')) +
      answer(4, 1, 'Write'),
  );
  expect(requests.map(({ offset }) => offset)).toEqual([0]);
});

describe('a line that breaks a rule is an error with its number', () => {
  test.each<[string, RegExp]>([
    ['hello\n', /not a line of nbdkit.s log filter/],
    [issue(1, 1, 'Write offset=0x1 count=0x200 fua=0'), /offset 1 is not a multiple of 512/],
    [issue(1, 1, 'Write offset=0x0 count=0x0 fua=0'), /a write of length 0/],
    [issue(1, 1, 'Read offset=0x100000 count=0x200'), /past the device's end/],
    [issue(1, 1, 'Write offset=0x20000000000000 count=0x200 fua=0'), /not a number below 2\^53/],
    [issue(1, 1, 'Write offset=0x0 fua=0'), /offset or count is not a number/],
    [answer(1, 9, 'Write'), /a reply without a request/],
    [at(1, 'Connect export="" tls=0 size=0x200'), /a connection to a device of 512 bytes/],
  ])('%j', async (line, rule) => {
    const error = await faultOf(temporaryFile(CONNECT + line, 'log'));
    expect(error.code).toBe('bad-trace');
    expect(error.line).toBe(3);
    expect(error.message).toMatch(rule);
  });

  test('a request twice in flight with one id', async () => {
    const error = await faultOf(temporaryFile(CONNECT + at(1, 'Flush id=1 ...') + at(2, 'Flush id=1 ...')));
    expect(error.message).toMatch(
      /line 4: a request with the connection and ID of one that is still unanswered/,
    );
  });

  test('a log without a size, or with one that no device has', async () => {
    expect((await faultOf(temporaryFile(READY))).message).toMatch(/has no Connect line with the size/);
    expect((await faultOf(temporaryFile(READY + at(1, 'Flush id=1 ...')))).message).toMatch(
      /before any Connect line/,
    );
    const odd = temporaryFile(READY + at(1, 'Connect export="" size=0x101'));
    expect((await faultOf(odd, { skipBad: true })).message).toMatch(
      /line 2: the virtual size 257 is not a multiple/,
    );
  });

  test('with skipBad the lines around it are read, and requests without their pair are left out', async () => {
    const path = temporaryFile(
      `${CONNECT}hello\n${issue(1, 1, 'Write offset=0x1 count=0x200 fua=0')}${answer(2, 1, 'Write')}${at(3, 'Flush id=2 ...')}${answer(4, 2, 'Flush')}`,
    );
    const trace = await readWhole(path, { skipBad: true });
    expect(trace.requests.map(({ op }) => op)).toEqual(['flush']);
    expect(trace.skippedCount).toBe(3);
  });
});

function isInstalled(tool: string): boolean {
  try {
    execFileSync(tool, ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

test.skipIf(!isInstalled('nbdkit') || !isInstalled('qemu-io'))(
  'the log of a real nbdkit holds what a real client asked',
  async () => {
    const log = join(testDirectory(), 'log');
    const commands = [
      'write 64k 4k',
      'write -f 128k 8k',
      'flush',
      'read 64k 4k',
      'discard 256k 64k',
      'write -z 512k 64k',
      'write -z -u 640k 64k',
    ];
    // Through a format layer with its cache off, requests reach the server one by one as they are
    // given.
    const client = `qemu-io -t none -f raw "$uri" ${commands.map((command) => `-c "${command}"`).join(' ')}`;
    execFileSync('nbdkit', ['-U', '-', '--filter=log', 'memory', '1M', `logfile=${log}`, '--run', client], {
      stdio: 'ignore',
    });
    const { virtualSize, requests, failedCount } = await readWhole(log);
    expect(virtualSize).toBe(2 ** 20);
    expect(failedCount).toBe(0);
    const KIB = 1024;
    const asked = requests.map(({ op, offset, length, fua, unmap }) => ({
      op,
      offset: offset / KIB,
      length: length / KIB,
      fua,
      unmap,
    }));
    const plain = { fua: false, unmap: false };
    expect(asked.slice(0, 7)).toEqual([
      { op: 'write', offset: 64, length: 4, ...plain },
      { op: 'write', offset: 128, length: 8, fua: true, unmap: false },
      { op: 'flush', offset: 0, length: 0, ...plain },
      { op: 'read', offset: 64, length: 4, ...plain },
      { op: 'discard', offset: 256, length: 64, ...plain },
      { op: 'write-zeroes', offset: 512, length: 64, ...plain },
      { op: 'write-zeroes', offset: 640, length: 64, fua: false, unmap: true },
    ]);
    // Closing adds flushes and nothing else.
    expect(asked.slice(7).every(({ op }) => op === 'flush')).toBe(true);
  },
);
