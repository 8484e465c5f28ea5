/**
 * Hostile images as a user meets them: every class of `hostile-classes` through every command. Each
 * gives one line of error with a stable code, the file and the rule, or an answer; quickly, in
 * little memory; no other file is opened, and nothing is written to an image that was refused.
 */

import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { beforeAll, describe, expect, test } from 'vitest';
import { LIMITS } from '../../src/core/limits.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { createQcow2 } from '../../src/format/qcow2/create.ts';
import { GOOD, HOSTILE_CLASSES, VIRTUAL_SIZE, type HostileClass } from '../format/hostile-classes.ts';
import { TRIES_ALL } from '../amount.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { errorLine, runCli } from './cli-process.ts';
import type { Call, Called } from './hostile-driver.ts';

const DRIVER = fileURLToPath(new URL('hostile-driver.ts', import.meta.url));
/** Microseconds: thrice the second that is promised, for a machine that does other things. */
const CPU_MAX_US = 3_000_000;
/**
 * KiB that one command may add. The most is a repair that grows the file to 1 TiB, as QEMU's does:
 * counters for 2^24 clusters are held twice for a while.
 */
const ADDED_MEMORY_MAX = 128 * 1024;
/** One more than are opened. */
const CHAIN_FILES = LIMITS.backingChainDepth + 1;
const noStrace = reasonToSkip('strace');

const TRACE = `#qcow2-bench trace v1
#virtual-size ${String(VIRTUAL_SIZE)}
time_ns,op,offset,length,flags
0,read,0,4096,
0,write,0,4096,
0,write,262144,4096,
`;

/** Each command with a hostile image in its place. */
const COMMANDS = {
  info: () => ['info', 'evil'],
  chain: () => ['info', '--backing-chain', 'evil'],
  check: () => ['check', 'evil'],
  map: () => ['map', '--json', 'evil'],
  convert: () => ['convert', 'evil', 'out.raw', '--to', 'raw'],
  record: (format) => [
    'record',
    '--image',
    'evil',
    '--format',
    format,
    '--socket',
    's',
    '--trace',
    'made.csv',
  ],
  replay: () => ['replay', 'trace.csv', '--cache', 'writeback', '--samples', '0', '--image', 'evil'],
  repair: () => ['check', '--repair', 'all', 'evil'],
  resize: () => ['resize', 'evil', '+4096'],
} as const satisfies Record<string, (format: 'qcow2' | 'qed') => readonly string[]>;
type CommandName = keyof typeof COMMANDS;
const NAMES = Object.keys(COMMANDS) as readonly CommandName[];

/** Those that a class is tried with: all, or every third, each class other ones. */
function commandsOf(index: number): readonly CommandName[] {
  return TRIES_ALL ? NAMES : NAMES.filter((_, at) => (at + index) % 3 === 0);
}

/** What a folder holds beside the image, and must hold afterwards. */
const BESIDE = [
  'evil',
  'trace.csv',
  'probed',
  'fifo',
  'link',
  ...Array.from({ length: CHAIN_FILES }, (_, n) => `chain-${String(n)}`),
];

interface Tried {
  readonly folder: string;
  readonly before: Uint8Array;
  readonly called: Called;
  /** Paths that were opened. */
  readonly opened: readonly string[];
}

describe.skipIf(noStrace !== undefined)(
  `a hostile image${noStrace === undefined ? '' : ` (${noStrace})`}`,
  () => {
    const root = realpathSync(testDirectory());
    const tried = new Map<string, Tried>();

    beforeAll(async () => {
      writeFileSync(join(root, 'secret'), Buffer.alloc(VIRTUAL_SIZE, 7));
      const chain = await makeChain(root);
      const good = { qcow2: await GOOD.qcow2(), qed: await GOOD.qed() };
      const calls: Call[] = [];
      const keys: string[] = [];
      const images: Uint8Array[] = [];
      for (const [index, one] of HOSTILE_CLASSES.entries()) {
        const bytes = one.spoil(good[one.format]);
        for (const command of commandsOf(index)) {
          const folder = join(root, `${String(index)}-${command}`);
          mkdirSync(folder);
          layOut(folder, bytes, one.behind === undefined ? undefined : chain);
          calls.push({ folder, words: COMMANDS[command](one.format) });
          keys.push(`${String(index)} ${command}`);
          images.push(bytes);
        }
      }
      const files = {
        calls: join(root, 'calls.json'),
        answers: join(root, 'answers.json'),
        trace: join(root, 'trace.txt'),
      };
      writeFileSync(files.calls, JSON.stringify(calls));
      const done = spawnSync(
        'strace',
        [
          '-f',
          '--seccomp-bpf',
          '-qq',
          '-s',
          '4096',
          '-e',
          'trace=open,openat',
          '-o',
          files.trace,
          process.execPath,
          '--expose-gc',
          '--max-semi-space-size=4',
          DRIVER,
          files.calls,
          files.answers,
        ],
        { encoding: 'utf8' },
      );
      expect(done.status, done.stderr).toBe(0);
      const answers = JSON.parse(readFileSync(files.answers, 'utf8')) as readonly Called[];
      const opened = openedByCall(readFileSync(files.trace, 'utf8'), calls);
      for (const [index, key] of keys.entries()) {
        tried.set(key, {
          folder: (calls[index] as Call).folder,
          before: images[index] as Uint8Array,
          called: answers[index] as Called,
          opened: opened[index] ?? [],
        });
      }
    });

    for (const [index, one] of HOSTILE_CLASSES.entries()) {
      test(`(${one.format}) ${one.name}`, () => {
        for (const command of commandsOf(index)) {
          const attempt = tried.get(`${String(index)} ${command}`) as Tried;
          const told = `${one.name}: ${command}: ${attempt.called.stdout}${attempt.called.stderr}`;
          expectAnswer(one, command, attempt, told);
          expectBounded(attempt.called, told);
          expectOnlyOwnFiles(attempt, told);
          expectUntouched(one, command, attempt, told);
        }
      });
    }
  },
);

/** The code, or undefined if the call was served. */
function codeOf({ stderr }: Called): string | undefined {
  return /^qcow2-bench: error: .*\[([a-z0-9-]+)\]$/m.exec(stderr)?.[1];
}

function expectAnswer(one: HostileClass, command: CommandName, { called }: Tried, told: string): void {
  expect(called.stderr, told).not.toMatch(/\n\s+at |bug in qcow2-bench/);
  const expected = answerOf(one, command);
  if (typeof expected === 'number') {
    expect({ exit: called.code, error: codeOf(called) }, told).toEqual({ exit: expected, error: undefined });
    return;
  }
  expect({ exit: called.code, error: codeOf(called) }, told).toEqual({ exit: 1, error: expected });
  const line = errorLine(called);
  if (one.refused !== expected) return;
  expect(line, told).toContain('evil');
  if (one.offset !== undefined) expect(line, told).toContain(`offset 0x${one.offset.toString(16)}: `);
}

/** The exit code of what is served, or the code of the error. */
function answerOf(one: HostileClass, command: CommandName): number | string {
  const { answers, refused, behind } = one;
  const isCheck = command === 'check' || command === 'repair';
  const answer = command === 'info' || command === 'chain' ? undefined : answers?.[command];
  if (answer !== undefined) return answer;
  if (!TOLD_THE_FORMAT.includes(command)) {
    if (one.isTakenForRaw === true) return isCheck ? 63 : 0;
    if (one.foreign !== undefined) return isCheck ? 63 : one.foreign;
  }
  if (refused !== undefined) return refused;
  // A chain is of backing files alone.
  const looksBehind =
    command === 'chain' ? behind?.startsWith('data-') !== true : command !== 'info' && !isCheck;
  return looksBehind && behind !== undefined ? behind : 0;
}

/** Commands that do not tell the format from the content. */
const TOLD_THE_FORMAT: readonly CommandName[] = ['record'];

function expectBounded({ cpuUs, addedMemory }: Called, told: string): void {
  expect(cpuUs, told).toBeLessThan(CPU_MAX_US);
  expect(addedMemory, told).toBeLessThan(ADDED_MEMORY_MAX);
}

/**
 * Files that no image here may lead to: they are named by images, and are outside of their folders
 * or need a format.
 */
const FORBIDDEN = /^\/etc\/passwd$|^\/dev\/zero$|\/(?:secret|link|fifo|probed)$/;

/** Of the files of the test, only those of the call's own folder are opened. */
function expectOnlyOwnFiles({ folder, opened }: Tried, told: string): void {
  expect(opened.length, told).toBeGreaterThan(0);
  const isOther = (path: string): boolean =>
    path.startsWith(dirname(folder)) && !path.startsWith(`${folder}/`);
  expect(
    opened.filter((path) => FORBIDDEN.test(path) || isOther(path)),
    told,
  ).toEqual([]);
}

/** A refused image is as it was, to the byte and to the time; no half-made file is left. */
function expectUntouched(one: HostileClass, command: CommandName, tried: Tried, told: string): void {
  const { folder, before, called } = tried;
  const made = { convert: ['out.raw'], record: ['made.csv'] } as const;
  const isMade = called.code === 0 && (command === 'convert' || command === 'record');
  const left = readdirSync(folder).filter((name) => !BESIDE.includes(name));
  expect(left, told).toEqual(isMade ? made[command] : []);
  const mayWrite = ['repair', 'record', 'resize'].includes(command);
  // What could be opened may have been written to before the damage was met.
  if (command === 'repair' && typeof answerOf(one, command) === 'number') return;
  if (command === 'resize' && one.isTakenForRaw === true) return;
  if (mayWrite && one.refused === undefined && (one.behind === undefined || command === 'repair')) return;
  expect(Buffer.compare(readFileSync(join(folder, 'evil')), before), told).toBe(0);
  expect(statSync(join(folder, 'evil')).mtimeMs, told).toBe(LONG_AGO_S * 1000);
}

const LONG_AGO_S = 1_000_000_000;

function layOut(folder: string, bytes: Uint8Array, chain: string | undefined): void {
  writeFileSync(join(folder, 'evil'), bytes);
  writeFileSync(join(folder, 'trace.csv'), TRACE);
  if (chain !== undefined) {
    for (const name of readdirSync(chain)) copyFileSync(join(chain, name), join(folder, name));
    symlinkSync('../secret', join(folder, 'link'));
    spawnSync('mkfifo', [join(folder, 'fifo')]);
  }
  utimesSync(join(folder, 'evil'), LONG_AGO_S, LONG_AGO_S);
}

/** A folder with images that back each other, and a raw file that claims to be qcow2. */
async function makeChain(root: string): Promise<string> {
  const folder = join(root, 'chain');
  mkdirSync(folder);
  for (let n = 0; n < CHAIN_FILES; n++) {
    const device = new MemoryDevice();
    const backingFile = { name: `chain-${String(n + 1)}`, format: 'qcow2' } as const;
    await createQcow2({ device, virtualSize: VIRTUAL_SIZE, clusterSize: 512, backingFile });
    writeFileSync(join(folder, `chain-${String(n)}`), device.contents());
  }
  writeFileSync(join(folder, 'probed'), Buffer.from('QFI\xfb', 'latin1'));
  return folder;
}

/**
 * By call: absolute paths of the files that were opened while it ran. The call's own folder is
 * listed in search of temporary files of killed processes, which opens no file.
 */
function openedByCall(trace: string, calls: readonly Call[]): readonly (readonly string[])[] {
  const found: string[][] = [];
  let current = -1;
  for (const [, path = '', flags = ''] of trace.matchAll(
    /open(?:at)?\((?:AT_FDCWD, )?"([^"]*)", ([A-Z_|]+)/g,
  )) {
    const mark = /^\/call\/(\d+)$/.exec(path)?.[1];
    if (mark !== undefined) {
      current = Number(mark);
      found[current] = [];
    } else if (current >= 0) {
      const folder = calls[current]?.folder ?? '';
      const opened = path.startsWith('/') ? path : join(folder, path);
      const isListing = opened === folder && flags.includes('O_DIRECTORY');
      if (!isListing) found[current]?.push(opened);
    }
  }
  return found;
}

test('a sparse file of 8 TiB, with references all over it, is checked in no time', async () => {
  const folder = testDirectory();
  const device = new MemoryDevice();
  await createQcow2({ device, virtualSize: 8 * VIRTUAL_SIZE, clusterSize: 512 });
  const bytes = device.contents();
  const view = new DataView(bytes.buffer);
  const l1 = Number(view.getBigUint64(40));
  // The L1 table itself is the L2 table of its first entry; all others lead into the void.
  for (let index = 0; index < 64; index++) {
    const at = l1 + index * 8;
    if (at + 8 <= bytes.byteLength) {
      view.setBigUint64(at, BigInt(index * 137_438_953_472 + (index === 0 ? l1 : 0)));
    }
  }
  const path = join(folder, 'evil');
  writeFileSync(path, bytes);
  truncateSync(path, 8 * 1024 ** 4);
  const ended = await runCli(folder, 'check', 'evil');
  expect([2, 3]).toContain(ended.code);
  expect(ended.stdout).toContain('Found on the image');
});

test.each(['info', 'check', 'map', 'convert', 'replay', 'record', 'resize'] as const)(
  '%s as a process of its own prints one line, and exits with 1',
  async (command) => {
    const folder = testDirectory();
    const bytes = await GOOD.qcow2();
    new DataView(bytes.buffer).setUint32(20, 63);
    layOut(folder, bytes, undefined);
    const ended = await runCli(folder, ...COMMANDS[command]('qcow2'));
    expect(ended.code, ended.stderr).toBe(1);
    expect(errorLine(ended)).toMatch(/evil, offset 0x14: .*\[qcow2-bad-cluster-bits\]$/);
    expect(Buffer.compare(readFileSync(join(folder, 'evil')), bytes)).toBe(0);
  },
);
