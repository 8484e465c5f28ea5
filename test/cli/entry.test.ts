/** The program's two doors: the installed file under an older Node, and `bin/qb` of a clone. */

import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { expect, test, vi } from 'vitest';

import { testDirectory } from '../test-directory.ts';
import { runCli } from './cli-process.ts';

vi.setConfig({ testTimeout: 300_000 });

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
const QB = fileURLToPath(new URL('../../bin/qb', import.meta.url));

test('an older Node gets one line with the version that is needed', () => {
  const old =
    "Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '20.19.2' } })";
  const ended = spawnSync(
    process.execPath,
    ['--import', `data:text/javascript,${encodeURIComponent(old)}`, MAIN],
    {
      encoding: 'utf8',
    },
  );
  expect(ended).toMatchObject({
    status: 1,
    stdout: '',
    stderr: 'qcow2-bench needs Node ≥ 24; this is v20.19.2\n',
  });
});

test.each(['--help', '--version'])('%s of the program needs no yargs, which is most of a start', (word) => {
  const refuse =
    "import { registerHooks } from 'node:module'; registerHooks({ resolve: (name, context, next) => { if (name === 'yargs') throw new Error('yargs'); return next(name, context); } });";
  const start = (...words: readonly string[]) =>
    spawnSync(
      process.execPath,
      ['--import', `data:text/javascript,${encodeURIComponent(refuse)}`, MAIN, ...words],
      { encoding: 'utf8' },
    );
  expect(start(word)).toMatchObject({ status: 0, stderr: '' });
  expect(start('list')).toMatchObject({ status: 1 });
});

test('qb works from any folder and through a link, with paths of that folder, exit codes and errors', () => {
  const folder = join(testDirectory(), 'a folder');
  mkdirSync(folder);
  symlinkSync(QB, join(folder, 'qb'));
  writeFileSync(join(folder, 'disk.raw'), new Uint8Array(4096));
  const call = (...words: readonly string[]) =>
    spawnSync('./qb', words, { cwd: folder, encoding: 'utf8', env: { ...process.env, NO_COLOR: '1' } });
  const info = call('info', 'disk.raw', '--json');
  expect(info).toMatchObject({ status: 0, stderr: '' });
  expect(JSON.parse(info.stdout)).toMatchObject({ filename: 'disk.raw', 'virtual-size': 4096 });
  const misuse = call('rnu');
  expect(misuse).toMatchObject({ status: 2, stdout: '' });
  expect(misuse.stderr).toContain("did you mean 'run'?");
  const missing = call('info', 'none.qcow2');
  expect(missing).toMatchObject({ status: 1, stdout: '' });
  expect(missing.stderr).toMatch(/^qcow2-bench: error: .*none\.qcow2: .*\n$/);
});

test.runIf(process.platform === 'linux')('qb keeps the bytes of names that are not UTF-8', () => {
  const folder = testDirectory();
  const script = `"$0" create --format qcow2 "$(printf 'caf\\351')" 1MiB`;
  expect(spawnSync('sh', ['-c', script, QB], { cwd: folder }).status).toBe(0);
  expect(readdirSync(folder, 'buffer').map((name) => name.toString('latin1'))).toEqual(['caf\xe9']);
});

// Those that write are killed in `kills`, and end by themselves there; all else is called within
// the process of the tests.
test('commands that only read end by themselves, with their whole answer', async () => {
  const folder = testDirectory();
  writeFileSync(join(folder, 'disk.raw'), new Uint8Array(4096));
  for (const [words, begin] of [
    ['list', 'Workloads'],
    ['--version', ''],
    ['info disk.raw', 'image: disk.raw'],
    ['map disk.raw', 'Offset'],
    ['trace info ext4-unpack', '/'],
  ] as const) {
    const ended = await runCli(folder, ...words.split(' '));
    expect(ended, words).toMatchObject({ code: 0, stderr: '' });
    expect(ended.stdout.slice(0, begin.length), words).toBe(begin);
    expect(ended.stdout.at(-1), words).toBe('\n');
  }
});
