/**
 * Outputs that are streams: what a redirected file holds already stays, and a FIFO stays a FIFO.
 */

import { spawnSync } from 'node:child_process';
import { lstatSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { beforeAll, describe, expect, test } from 'vitest';

import { someOf } from '../amount.ts';
import { testDirectory } from '../test-directory.ts';
import { MAIN, runCli } from './cli-process.ts';

const TRACE =
  '#qcow2-bench trace v1\n#virtual-size 1048576\ntime_ns,op,offset,length,flags\n0,write,0,4096,\n';
const RUN = 'run --workload stride --requests 8 --format raw --cache writeback --samples 0';
const OLD = 'text of another program\n';

const folder = testDirectory();

beforeAll(async () => {
  writeFileSync(join(folder, 't.csv'), TRACE);
  symlinkSync('/dev/stdout', join(folder, 'link'));
  const made = await runCli(folder, ...`${RUN} --out r.json`.split(' '));
  if (made.code !== 0) throw new Error(made.stderr);
  spawnSync('mkfifo', [join(folder, 'fifo')]);
}, 600_000);

function shell(script: string): { readonly status: number | null; readonly stderr: string } {
  const { status, stderr } = spawnSync('sh', ['-c', script, process.execPath, MAIN], {
    cwd: folder,
    encoding: 'utf8',
    timeout: 300_000,
  });
  return { status, stderr };
}

/** Each command with OUT for its output, and what that begins with. */
const WRITERS: readonly (readonly [words: string, begins: string])[] = [
  ['trace convert t.csv OUT', '#qcow2-bench trace'],
  ['trace slice t.csv OUT', '#qcow2-bench trace'],
  ['trace convert t.csv OUT --to dm-log-writes --lossy', 'rhswfsj'],
  [`${RUN} --out OUT`, '{"schema":'],
  [`${RUN} --host-log OUT`, '{"phase":'],
  ['report r.json --out OUT', '<!doctype html>'],
  ['report r.json --markdown --out OUT', '| Per guest write'],
  ['gate r.json --accept --baseline OUT', '{'],
];

describe('a stream is appended to, never emptied', () => {
  test.for(someOf(WRITERS, 3))('%s, >> file', ([words, begins]) => {
    const path = join(folder, 'log');
    for (const name of ['/dev/stdout', '/dev/fd/1', '/proc/self/fd/1', '/dev/../dev/stdout', 'link']) {
      if (name !== '/dev/stdout' && !words.startsWith('trace convert t.csv OUT')) continue;
      writeFileSync(path, OLD);
      const { status, stderr } = shell(`"$0" "$1" ${words.replace('OUT', name)} >> log`);
      expect(status, stderr).toBe(0);
      const text = readFileSync(path, 'latin1');
      expect(text.startsWith(OLD + begins), `${name}: ${text.slice(0, 200)}`).toBe(true);
    }
  });

  test.for(someOf(WRITERS, 3))('%s, into a FIFO', ([words, begins]) => {
    // The reader comes late and is slow.
    const reader = '(sleep 0.3; cat fifo) > read &';
    const { status, stderr } = shell(`${reader} "$0" "$1" ${words.replace('OUT', 'fifo')} && wait`);
    expect(status, stderr).toBe(0);
    expect(readFileSync(join(folder, 'read'), 'latin1').slice(0, begins.length)).toBe(begins);
    expect(lstatSync(join(folder, 'fifo')).isFIFO()).toBe(true);
  });

  test('a recording, >> file', () => {
    writeFileSync(join(folder, 'log'), OLD);
    const serve = 'record --image new.raw --create 1MiB --format raw --socket s --trace /dev/fd/3';
    const { stderr } = shell(`timeout -s INT 5 "$0" "$1" ${serve} 3>> log`);
    expect(readFileSync(join(folder, 'log'), 'utf8'), stderr).toMatch(
      new RegExp(`^${OLD}#qcow2-bench trace v1\n#virtual-size 1048576\n`),
    );
  });

  test('a recording that does not begin leaves the FIFO', () => {
    const serve = 'record --image r.json --format raw --socket t.csv --trace fifo';
    const { status } = shell(
      `cat fifo > read & "$0" "$1" ${serve}; code=$?; kill $! 2>/dev/null; exit $code`,
    );
    expect(status).not.toBe(0);
    expect(lstatSync(join(folder, 'fifo')).isFIFO()).toBe(true);
  });
});

describe('an image is never a stream', () => {
  test.for(['create OUT 1MiB --format raw', 'convert r.json OUT --from raw --to raw'])('%s', (words) => {
    for (const name of ['link', 'fifo']) {
      writeFileSync(join(folder, 'log'), OLD);
      const { status, stderr } = shell(`"$0" "$1" ${words.replace('OUT', name)} --overwrite >> log`);
      expect(stderr).toMatch(
        /: is a stream, but an image must be a regular file; name a file \[not-an-output\]\n$/,
      );
      expect(status).toBe(1);
      expect(readFileSync(join(folder, 'log'), 'utf8')).toBe(OLD);
    }
  });
});
