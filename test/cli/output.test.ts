/**
 * What reaches the outputs of the program: no raw control character of a name, and no failed write
 * without an error.
 */

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inflateRawSync } from 'node:zlib';

import { expect, test, vi } from 'vitest';

import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import { type Ended } from './cli-process.ts';

// Each test starts the program several times.
vi.setConfig({ testTimeout: 300_000 });

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
/** ESC, BEL, a carriage return, DEL, C1, bidi, a line separator; a name that begins a line. */
const EVIL = '\u001b[31mE\u0007\u007f\u009b2J\u202e\u2028x';
const UNSAFE = /[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]/u;

function expectClean({ stdout, stderr }: Pick<Ended, 'stdout' | 'stderr'>): void {
  for (const line of `${stdout}${stderr}`.split('\n')) expect(line).not.toMatch(UNSAFE);
}

/** The program with its outputs where a shell puts them. */
function shell(folder: string, line: string): ReturnType<typeof spawnSync> & { readonly stderr: string } {
  const env = { ...process.env, NO_COLOR: '1', NODE: process.execPath, MAIN };
  const qb = 'qb() { "$NODE" "$MAIN" "$@"; }\n';
  return spawnSync('bash', ['-c', qb + line], { cwd: folder, env, encoding: 'utf8' });
}

test('names of images, backing files and snapshots are shown escaped, and are whole in JSON', async () => {
  const folder = testDirectory();
  const image = `${EVIL}\nforged: line.qcow2`;
  const made = [
    await callCli(folder, 'create', `base-${EVIL}`, '1MiB', '--format', 'raw'),
    await callCli(folder, 'create', image, '1MiB', '--backing', `base-${EVIL}`, '--backing-format', 'raw'),
    await callCli(folder, 'snapshot', image, '--create', `${EVIL}\ntag`),
    await callCli(folder, 'snapshot', image),
    await callCli(folder, 'info', image),
    await callCli(folder, 'info', image, '--backing-chain'),
    await callCli(folder, 'map', image),
    await callCli(folder, 'resize', image, '2MiB'),
    await callCli(folder, 'convert', image, `${EVIL}.raw`, '--to', 'raw'),
  ];
  for (const ended of made) {
    expect(ended.code, ended.stderr).toBe(0);
    expectClean(ended);
    expect(ended.stdout).not.toMatch(/^(forged|tag)/m);
  }
  const json = await callCli(folder, 'info', image, '--json');
  expectClean(json);
  expect(JSON.parse(json.stdout)).toMatchObject({
    filename: image,
    'backing-filename': `base-${EVIL}`,
    snapshots: [{ name: `${EVIL}\ntag` }],
  });
});

test('errors escape what they quote: missing files, values, commands, text that is no JSON', async () => {
  const folder = testDirectory();
  writeFileSync(join(folder, `${EVIL}.json`), `{"${EVIL}`);
  for (const words of [
    ['info', EVIL],
    [EVIL],
    ['run', '--format', EVIL],
    ['run', `--${EVIL}`],
    ['run', '--workload', `./${EVIL}.json`],
    ['gate', `${EVIL}.json`],
    ['replay', `${EVIL}.json`],
    ['list', EVIL],
  ]) {
    const ended = await callCli(folder, ...words);
    expect(ended.code).not.toBe(0);
    expectClean(ended);
    expect(ended.stderr).toContain('\\x1b[31mE\\x07');
  }
});

test('the title and provenance of a trace, and names in results, tables and pages', async () => {
  const folder = testDirectory();
  const trace = `${EVIL}.trace.csv`;
  writeFileSync(
    join(folder, trace),
    '#qcow2-bench trace v1\n#virtual-size 1048576\n#title \u001b[2J\u202etitle\ntime_ns,op,offset,length,flags\n0,write,0,4096,\n',
  );
  expectClean(await callCli(folder, 'trace', 'info', trace));
  const run = await callCli(
    folder,
    ...['replay', trace, '--format', 'raw,qcow2', '--cache', 'none', '--samples', '0', '--out', 'r.json'],
  );
  expect(run.code, run.stderr).toBe(0);
  expectClean(run);
  const markdown = await callCli(folder, 'report', 'r.json', '--markdown');
  expectClean(markdown);
  expect(markdown.stdout).toContain('x1b');
  const page = await callCli(folder, 'report', 'r.json', '--out', 'page.html');
  expectClean(page);
  const html = readFileSync(join(folder, 'page.html'), 'utf8');
  // The scripts are not foreign text.
  const own = html.replaceAll(/<script>.*?<\/script>/gs, '');
  expect(own).toContain('\\x1b[31mE');
  expect(own.replaceAll('\n', '')).not.toMatch(UNSAFE);
  const data = [...html.matchAll(/<script type="text\/plain"[^>]*>([^<]*)</g)].map(([, text = '']) =>
    inflateRawSync(Buffer.from(text, 'base64')).toString(),
  );
  expect(data).toHaveLength(2);
  for (const text of data) expect(JSON.stringify(JSON.parse(text))).not.toContain('\\u001b');
});

test.runIf(existsSync('/dev/full'))('a full standard output is one line of error and exit code 1', () => {
  const folder = testDirectory();
  for (const words of ['list', 'list --json', 'help run', 'completion bash']) {
    const { status, stderr } = shell(folder, `qb ${words} > /dev/full`);
    expect(stderr).toBe(
      'qcow2-bench: error: cannot write to standard output: no space left on device (ENOSPC) [output-failed]\n',
    );
    expect(status).toBe(1);
  }
  const misuse = shell(folder, 'qb nope > /dev/full');
  expect(misuse.status).toBe(2);
  expect(misuse.stderr.trim().split('\n')).toHaveLength(1);
});

test.runIf(existsSync('/dev/full'))('a full standard error changes no exit code', () => {
  const folder = testDirectory();
  expect(shell(folder, 'qb nope 2> /dev/full').status).toBe(2);
  expect(shell(folder, 'qb list 2> /dev/full').status).toBe(0);
});

test('a reader that went away is no error', () => {
  const { stderr, stdout } = shell(testDirectory(), 'qb list --json | true; echo "${PIPESTATUS[0]}"');
  expect({ stderr, stdout }).toEqual({ stderr: '', stdout: '0\n' });
});

test('a file on a disk that fills up is no silent cut', () => {
  // 1024-byte blocks: the limit falls into the middle of the list.
  const { status, stderr } = shell(testDirectory(), "trap '' XFSZ; ulimit -f 1; qb list --json > out.json");
  expect(status).toBe(1);
  expect(stderr).toMatch(/standard output: file too large \(EFBIG\) \[output-failed\]\n$/);
});
