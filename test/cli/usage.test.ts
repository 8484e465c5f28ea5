import { describe, expect, test } from 'vitest';

import { withOptions } from '../../src/cli/grammar/literal-words.ts';
import { testDirectory } from '../test-directory.ts';
import { COMMANDS } from '../../src/cli/command-list.ts';
import { nameOf } from '../../src/cli/named-command.ts';
import { callCli } from './call-cli.ts';
import { errorLine } from './cli-process.ts';

const MISUSES: readonly (readonly [words: string, naming: readonly string[]])[] = [
  ['', ['run', 'replay', 'bench', 'create']],
  ['benchmark', ["'benchmark'", 'bench']],
  ['lst', ["'lst'", "'list'"]],
  ['list extra', ["'extra'"]],
  ['list -- extra', ["'extra' is an extra argument"]],
  ['info a -- -b', ["'-b' is an extra argument"]],
  ['info --json -- -a --json', ["'--json' is an extra argument"]],
  ['resize a.qcow2 -1MiB -2MiB', ["'-2MiB' is an extra argument"]],
  ['-- info a', ['before --', 'info']],
  ['rnu', ["did you mean 'run'?"]],
  ['help rnu', ["did you mean 'run'?"]],
  ['trace inof', ["'trace inof'", "did you mean 'info'?", 'info, convert or slice']],
  ['run --wrokload stride', ['--wrokload', "did you mean '--workload'?"]],
  ['run --form qcow2', ["did you mean '--format'?"]],
  ['trace info x --limti 3', ["did you mean '--limit'?"]],
  ['run --workload strid', ["'strid'", "did you mean 'stride'?"]],
  ['create x.qcow2 10GB', ['SIZE', '10GiB or 10G', '10000000000']],
  ['create x.qcow2 10Gi', ['SIZE', '10GiB or 10G']],
  ['create x.qcow2 9000PiB', ['SIZE', 'too large']],
  ['create x.qcow2 1.3B', ['SIZE', 'whole number of bytes']],
  ['resize x.qcow2 +10GB', ['SIZE', '10GiB or 10G', '+ or -']],
  ['serve --create 10kB', ['--create', '10KiB or 10K', '10000']],
  ['completion fish', ['SHELL', "'fish'", 'bash or zsh']],
  ['run --out', ['--out']],
  ['run --format qcow3', ['--format', "'qcow3'", 'raw, qcow2, qed or btree', "did you mean 'qcow2'?"]],
  ['run --cache writethrough,fast', ['--cache', "'fast'", 'writethrough', 'directsync', 'unsafe']],
  ['run --refcounts eager,,lazy', ['--refcounts', 'comma-separated']],
  ['run --queue-depth 0', ['--queue-depth', "'0'", 'from 1 to 1024']],
  ['run --samples 1.5', ['--samples', "'1.5'", 'whole number']],
  ['run --cluster-size 3000', ['--cluster-size', "'3000'", 'powers of two']],
  ['run --cache writetrough', ["did you mean 'writethrough'?"]],
  ['run --device model:nvme-plpp', ["did you mean 'model:nvme-plp'?"]],
  ['run --device disk', ['--device', "'disk'", 'file, memory, null or model:NAME']],
  ['run --device model:floppy', ['--device', "'floppy'", 'model:nvme-plp', 'calibrate']],
  ['run --engine vbox', ['--engine', "'vbox'", 'builtin', 'qemu']],
  ['run --qemu-bin-dir .', ['--qemu-bin-dir', '--engine']],
  ['run --resume', ['--resume', '--out']],
  ['run --workload stride --host-log log.jsonl', ['--host-log', 'one cell', '--cache']],
  ['run --workload stride --image disk.qcow2', ['--image', 'one cell', '--format']],
  ['run --image disk.qcow2 --dir .', ['--image', '--dir']],
  ['run --image disk.qcow2 --samples 2', ['--image', '--samples']],
  ['run --in-place', ['--in-place', '--image']],
  ['run --image disk.qcow2 --in-place', ['--in-place', 'disk.qcow2 does not exist']],
  ['replay sqlite-wal --any-backing', ['--any-backing', '--image']],
  ['serve --image new --create 1MiB --backing-format raw --socket s', ['--backing-format', '--create']],
  ['run --refcount-bits 3', ['--refcount-bits', "'3'", '1, 2, 4, 8, 16, 32 or 64']],
  ['run --compat 0.9', ['--compat', "'0.9'", '0.10 or 1.1']],
  ['run --format raw,qed --compat 0.10', ['--compat', 'raw, qed', 'qcow2']],
  ['run --format raw --l2-cache-size 1MiB', ['--l2-cache-size', 'raw', 'qcow2']],
  ['create disk.qcow2 1GiB --compat 0.10 --refcounts lazy', ['--compat', 'lazy', '1.1']],
  ['create disk.raw 1GiB --format raw --refcount-bits 8', ['--refcount-bits', 'raw', 'qcow2']],
  ['serve --image disk.qcow2 --compat 0.10 --socket s', ['--compat', '--create']],
  ['replay', ['TRACE']],
  ['gate', ['RESULT']],
  ['create disk.qcow2', ['SIZE']],
  ['create disk.qcow2 ten', ['SIZE', "'ten'", 'GiB']],
  ['create disk.qcow2 1000', ['SIZE', '512']],
  ['create disk.qcow2 1GiB --cluster-size 3000', ['--cluster-size', '512B to 2MiB']],
  ['create disk.qed 1GiB --format qed --refcounts lazy', ['--refcounts', 'qcow2']],
  ['create disk.raw 1GiB --format raw --cluster-size 64KiB', ['--cluster-size', 'raw']],
  ['create disk.qcow2 1GiB --backing base.raw', ['--backing-format', 'raw']],
  ['create disk.qcow2 1GiB --preallocation all', ['--preallocation', "'all'", 'off']],
  ['create disk.qed 1GiB --format qed --preallocation full', ['--preallocation', 'qed', 'raw, qcow2']],
  ['create disk.raw 1GiB --format raw --preallocation metadata', ['--preallocation', 'raw', 'falloc']],
  [
    'create top --backing base --backing-format raw --preallocation full',
    ['--preallocation', 'backing file'],
  ],
];

describe('usage errors', () => {
  test.for(MISUSES)(
    '%s: one line that names what is wrong and what is allowed, exit code 2',
    async ([words, naming]) => {
      const folder = testDirectory();
      const ended = await callCli(folder, ...words.split(' ').filter((word) => word !== ''));
      const line = errorLine(ended);
      expect(line).toMatch(/^qcow2-bench: error: /);
      for (const name of naming) expect(line).toContain(name);
      expect(ended).toMatchObject({ code: 2, stdout: '' });
    },
  );

  test.for(['check', 'check --repair some disk.qcow2', 'check --frob disk.qcow2'])(
    '%s: exit code 1, as 2 means corruption there',
    async (words) => {
      const ended = await callCli(testDirectory(), ...words.split(' '));
      expect(errorLine(ended)).toMatch(/^qcow2-bench: error: /);
      expect(ended.code).toBe(1);
    },
  );
});

describe('after -- words are arguments, whatever they begin with', () => {
  const withArguments = COMMANDS.flatMap((listed) =>
    'commands' in listed
      ? listed.commands
          .filter(({ usage }) => usage.includes('<'))
          .map(({ usage }) => `${listed.usage} ${usage}`)
      : listed.usage.includes('<')
        ? [listed.usage]
        : [],
  );

  test.for(withArguments)('%s', async (usage) => {
    const names = [...usage.matchAll(/[<[](\w+)/g)].map(([, name]) => `-no-${name ?? ''}`);
    const ended = await callCli(testDirectory(), ...usage.replace(/ [<[].*/, '').split(' '), '--', ...names);
    const line = errorLine(ended);
    expect(line).not.toMatch(/no option|is missing|too many/);
    expect(names.some((name) => line.includes(name))).toBe(true);
  });

  test('an image with such a name is made, made larger and smaller, and copied', async () => {
    const folder = testDirectory();
    for (const words of [
      'create -- -a.qcow2 10MiB',
      'resize -- -a.qcow2 +2MiB',
      'resize --shrink -- -a.qcow2 -4MiB',
      'convert --to raw --overwrite -- -a.qcow2 --json',
    ]) {
      expect(await callCli(folder, ...words.split(' ')), words).toMatchObject({ code: 0, stderr: '' });
    }
    const { stdout } = await callCli(folder, 'info', '--json', '--', '--json');
    expect(JSON.parse(stdout)).toMatchObject({ format: 'raw', 'virtual-size': 8 * 2 ** 20 });
  });

  test('an option that is added to a command line goes before it', () => {
    expect(withOptions(['replay', '--', '-trace'], '--resume')).toEqual([
      'replay',
      '--resume',
      '--',
      '-trace',
    ]);
    expect(withOptions(['replay', 'trace'], '--resume')).toEqual(['replay', 'trace', '--resume']);
  });
});

describe('help', () => {
  test('of the program names every command and ends with 0', async () => {
    const { code, stdout, stderr } = await callCli(testDirectory(), '--help');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    for (const { usage } of COMMANDS) {
      expect(stdout).toMatch(new RegExp(`^ {2}${nameOf(usage)}\\b`, 'm'));
    }
    expect(stdout.split('\n').filter((line) => line.length > 100)).toEqual([]);
  });

  test.for([
    'bench',
    'run',
    'replay',
    'study',
    'advise',
    'report',
    'gate',
    'create',
    'info',
    'check',
    'list',
  ])('of %s fits 100 columns', async (command) => {
    const { code, stdout } = await callCli(testDirectory(), command, '--help');
    expect(code).toBe(0);
    expect(stdout).toContain(`qcow2-bench ${command}`);
    expect(stdout.split('\n').filter((line) => line.length > 100)).toEqual([]);
  });
});

test.for([
  ['help', '--help'],
  ['help run', 'run --help'],
  ['help trace', 'trace --help'],
  ['help trace slice', 'trace slice --help'],
  // One of several letters, whether or not the others are options.
  ['-xh', '--help'],
  ['trace -xh', 'trace --help'],
])('%s is %s', async ([asked = '', same = '']) => {
  const folder = testDirectory();
  const ended = await callCli(folder, ...asked.split(' '));
  expect(ended).toEqual(await callCli(folder, ...same.split(' ')));
  expect(ended).toMatchObject({ code: 0, stderr: '' });
  expect(ended.stdout).toContain(`qcow2-bench ${asked.replace(/help ?|-xh/, '')}`.trim());
});

describe('gate', () => {
  test('without a baseline says how to make one', async () => {
    const folder = testDirectory();
    const made = await callCli(
      folder,
      ...'run --workload stride --format raw --samples 0 --requests 1 --out r.json'.split(' '),
    );
    expect(made.code).toBe(0);
    const ended = await callCli(folder, 'gate', 'r.json');
    expect(ended.code).toBe(1);
    expect(errorLine(ended)).toMatch(/baseline\.json: does not exist: .*--accept/);
  });
});

describe('list', () => {
  test('fits 100 columns', async () => {
    const { stdout } = await callCli(testDirectory(), 'list');
    expect(stdout).toContain('subcluster-sequential');
    expect(stdout.split('\n').filter((line) => line.length > 100)).toEqual([]);
  });

  test('names every value that an option takes, also as JSON alone on standard output', async () => {
    const { code, stdout, stderr } = await callCli(testDirectory(), 'list', '--json');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const names = Object.fromEntries(
      Object.entries(JSON.parse(stdout) as Record<string, { readonly name: string }[]>).map(
        ([key, entries]) => [key, entries.map(({ name }) => name)],
      ),
    );
    expect(names).toMatchObject({
      formats: ['raw', 'qcow2', 'qed', 'btree'],
      refcounts: ['eager', 'lazy'],
      cacheModes: ['writethrough', 'directsync', 'writeback', 'none', 'unsafe'],
      devices: ['file', 'memory', 'null'],
      engines: ['builtin', 'qemu'],
    });
    expect(names['workloads']).toContain('stride');
    expect(names['recordings']).toContain('ext4-unpack');
  });
});
