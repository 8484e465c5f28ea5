/**
 * Every option that the help of a command lists is tried in that command with each of its words.
 * Commands, options and words come from the program, so that a new one is tried without a word
 * here.
 *
 * The promises: an exit code that is documented, and where a call fails one line of error that is
 * the user's, not a bug in qcow2-bench; what a refused call made is gone again; every option has a
 * word that its command takes.
 */

import { cpSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { beforeAll, describe, expect, test } from 'vitest';

import { COMMANDS } from '../../src/cli/command-list.ts';
import type { ListedCommand } from '../../src/cli/grammar/command.ts';
import {
  declaredOptions,
  COMMON_OPTIONS,
  type DeclaredOption,
} from '../../src/cli/grammar/declared-options.ts';
import { EXIT } from '../../src/cli/terminal/exit-code.ts';
import { nameOf } from '../../src/cli/named-command.ts';
import { readResult } from '../../src/result/store.ts';
import { TRIES_ALL } from '../amount.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { logOf } from '../crash/foreign-log.ts';
import { testDirectory } from '../test-directory.ts';
import { callCliWith } from './call-cli.ts';
import { linesOf, runCli, type Ended } from './cli-process.ts';
import { TINY } from './tiny-workload.ts';
import { COMMAND_CASES, FREE_VALUES, PLAUSIBLE, type Words } from './option-cases.ts';

const MIB = 1024 * 1024;
/**
 * What a command says that goes on until a signal, or for long: a server that listens, and a
 * calibration.
 */
const LONG_WORK = /^(?:nbd(?:\+unix)?:|http:|measuring the device)/m;
/** A word that no option takes. */
const NO_WORD = 'no-such-word';
/** 63 is of `check`, as in qemu-img. */
const EXIT_CODES: readonly number[] = [EXIT.good, EXIT.error, EXIT.usage, EXIT.verdict, 63, EXIT.interrupted];

export const LISTED: readonly (readonly [name: string, listed: ListedCommand])[] = COMMANDS.flatMap(
  (command) =>
    'commands' in command
      ? command.commands.map((inner) => [`${command.usage} ${nameOf(inner.usage)}`, inner] as const)
      : [[nameOf(command.usage), command] as const],
);

/** Slow commands have test files of their own, which workers share. */
const GROUPS = { cells: ['bench', 'run', 'replay', 'study', 'advise'], crash: ['crash'] } as const;
type Group = keyof typeof GROUPS | 'others';

function groupOf(name: string): Group {
  const found = Object.entries(GROUPS).find(([, names]) => (names as readonly string[]).includes(name));
  return (found?.[0] as Group | undefined) ?? 'others';
}

const TRACE = [
  '#qcow2-bench trace v1',
  `#virtual-size ${String(MIB)}`,
  'time_ns,op,offset,length,flags',
  ...Array.from(
    { length: 10 },
    (_, index) => `${String(index * 1000)},write,${String(index * 65_536)},4096,`,
  ),
  '',
].join('\n');
const MSR = Array.from(
  { length: 10 },
  (_, index) =>
    `${String(128_166_372_003_061_629n + BigInt(index))},hm,0,Write,${String(index * 65_536)},4096,113736`,
)
  .map((line) => `${line}\n`)
  .join('');

/** A crash before anything was done; the write is pending. */
const CRASH_CASE = {
  schema: 'qcow2-bench/crash-case@1',
  what: 'lost-write',
  virtualSize: MIB,
  workload: TINY,
  requests: [{ op: 'write', offset: 0, length: 4096, fua: false, unmap: false, timeNs: 0 }],
  epoch: 0,
  fates: [{ kept: false, sizeKept: false }],
  timeline: [],
};

/** Of another program: a write, a mark and a flush. */
const LOG = logOf([
  { op: 'write', offset: 0, bytes: new Uint8Array(4096).fill(9) },
  { op: 'flush' },
  { op: 'mark', text: 'fsync' },
]);
const ACKS = {
  schema: 'qcow2-bench/crash-acks@1',
  cache: 'writeback',
  requests: [
    { op: 'write', offset: 0, length: 4096, began: 0, done: 1, pattern: 9 },
    { op: 'flush', offset: 0, length: 0, began: 1, done: 2 },
  ],
};

/** One cell, and a sentence of it. */
const STUDY = {
  schema: 'qcow2-bench/study@1',
  name: 'tiny-study',
  question: 'What does a write cost?',
  description: 'A study for tests.',
  workloads: ['tiny.json'],
  axes: {},
  fixed: { format: 'qcow2', refcounts: 'eager', cache: 'none' },
  answer: [{ kind: 'zero', about: 'Syncs', figure: 'syncs', zero: 'None.', some: '{count} syncs.' }],
  table: { rows: ['workload'], figures: ['syncs'] },
  chart: { title: 'Syncs', mark: 'bars', figure: 'syncs', axis: 'workload' },
};

const inputs = testDirectory();

/** Tries the options of the commands of a group, each in a test. */
export function tryEveryOption(group: Group): void {
  beforeAll(async () => {
    writeFileSync(
      join(inputs, 'disk.raw'),
      Buffer.concat([Buffer.alloc(MIB / 4, 7), Buffer.alloc((3 * MIB) / 4)]),
    );
    writeFileSync(join(inputs, 'tiny.json'), JSON.stringify(TINY));
    writeFileSync(join(inputs, 'trace.csv'), TRACE);
    writeFileSync(join(inputs, 'msr.csv'), MSR);
    writeFileSync(join(inputs, 'study.json'), JSON.stringify(STUDY));
    writeFileSync(join(inputs, 'writes.log'), LOG);
    writeFileSync(join(inputs, 'acks.json'), JSON.stringify(ACKS));
    writeFileSync(join(inputs, 'gate.json'), JSON.stringify({ schema: 'qcow2-bench/gate@1' }));
    const cell = ['--format', 'qcow2', '--refcounts', 'eager', '--cache', 'writeback', '--samples', '0'];
    for (const words of [
      ['convert', 'disk.raw', 'disk.qcow2'],
      ['snapshot', 'disk.qcow2', '--create', 'one'],
      ['create', 'followed.qcow2', '1MiB'],
      ['bitmap', 'followed.qcow2', '--add', 'followed'],
      ['create', 'external.qcow2', '1MiB', '--data-file', 'plain'],
      ['create', 'top.qcow2', '--backing', 'disk.raw', '--backing-format', 'raw'],
      ['run', '--workload', 'tiny.json', ...cell, '--out', 'result.json'],
      ['run', '--workload', 'tiny.json', ...cell, '--cache', 'writeback,none', '--out', 'pair.json'],
      ['run', '--workload', 'tiny.json', ...cell, '--shard', '1/1', '--out', 'shard.json'],
      ['run', '--workload', 'tiny.json', ...cell, '--host-log', 'ops.jsonl'],
      ['bench', '--workload', 'tiny.json', ...cell, '--out', 'bench.json', '--report', 'bench.html'],
      ['replay', 'trace.csv', ...cell, '--out', 'replay.json'],
      ['gate', 'result.json', '--accept', '--baseline', 'baseline.json'],
      ['history', 'add', 'result.json', '--commit', 'first', '--file', 'history.jsonl'],
    ]) {
      expect(await call(inputs, words), words.join(' ')).toMatchObject({ code: EXIT.good });
    }
    const [first] = readResult(join(inputs, 'result.json')).cells;
    writeFileSync(join(inputs, 'crash.json'), JSON.stringify({ ...CRASH_CASE, cell: first?.cell }));
  });

  describe('every option with each of its words', () => {
    test.for(LISTED.filter(([name]) => groupOf(name) === group))('%s', async ([name, listed]) => {
      const declared = declaredOptions(await listed.load());
      const help = await call(inputs, [...name.split(' '), '--help']);
      const inHelp = new Set(
        [...help.stdout.matchAll(/^ +(?:-\w, +)?(--[^ ,]+(?:, --[^ ,]+)*)/gm)].flatMap(([, names = '']) =>
          names.split(', ').map((option) => option.slice(2)),
        ),
      );
      for (const common of COMMON_OPTIONS) inHelp.delete(common);
      // A hidden option is declared, and tried, too.
      expect([...inHelp].filter((option) => !declared.has(option))).toEqual([]);

      const faults: string[] = [];
      for (const [option, what] of declared) {
        let isTaken = false;
        const values = valuesToTry(option, what);
        for (const value of values) {
          // Every day one word that is taken, and the last.
          if (isTaken && !TRIES_ALL && value !== values.at(-1)) continue;
          const words = wordsOf(name, option, value);
          const { fault, ended } = await tryCall(words);
          if (fault !== undefined) faults.push(`${words.join(' ')}: ${fault}`);
          isTaken ||= ended.code === EXIT.good || ended.code === EXIT.interrupted;
        }
        if (!isTaken && !mayBeRefused(option)) faults.push(`--${option}: none of its words was taken`);
      }
      expect(faults).toEqual([]);
    });
  });
}

/** These need a clone with commits: see commits.test.ts. */
const OF_COMMITS: readonly string[] = ['against', 'bisect', 'run', 'rounds', 'time'];

function mayBeRefused(option: string): boolean {
  if (OF_COMMITS.includes(option)) return true;
  return option === 'qemu-bin-dir' && reasonToSkip('qemu-io', 'qemu-img') !== undefined;
}

function valuesToTry(
  option: string,
  { takesValue, values, isList }: DeclaredOption,
): readonly (string | true)[] {
  if (!takesValue) return [true];
  const plausible = PLAUSIBLE[option] ?? [];
  if (values.length === 0) return [...plausible, ...FREE_VALUES];
  return [...plausible, ...values, ...(isList ? [listOf(values)] : []), NO_WORD];
}

/** Two of them: each has been tried alone, and a list of all workloads would try each again. */
function listOf(values: readonly string[]): string {
  return [...new Set([values.at(0), values.at(-1)])].join(',');
}

function wordsOf(name: string, option: string, value: string | true): readonly string[] {
  const { call: words = {}, partners = {} } = COMMAND_CASES.get(name) ?? {};
  const given: Words = { ...words, ...partners[option], [option]: value };
  return [
    ...name.split(' '),
    ...Object.entries(given).flatMap(([key, word]) => {
      if (word === undefined) return [];
      if (word === true) return [`--${key}`];
      return key === key.toUpperCase() ? [word] : [`--${key}=${word}`];
    }),
  ];
}

/** Calls the program in a folder of its own; says what is wrong with how it ended. */
async function tryCall(
  words: readonly string[],
): Promise<{ readonly fault: string | undefined; readonly ended: Ended }> {
  const folder = testDirectory();
  try {
    cpSync(inputs, folder, { recursive: true });
    const before = readdirSync(folder).toSorted();
    const ended = await call(folder, words);
    return { fault: faultOf(ended) ?? leftoverOf(ended, before, readdirSync(folder).toSorted()), ended };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function faultOf({ code, stderr }: Ended): string | undefined {
  const errors = linesOf(stderr).filter((line) => line.startsWith('qcow2-bench: error: '));
  if (code === null || !EXIT_CODES.includes(code)) return `exit code ${String(code)}: ${stderr}`;
  if (/bug in qcow2-bench|internal error|internal-error|^ +at /m.test(stderr)) return stderr;
  if (errors.length > 1) return `several errors: ${stderr}`;
  if (code === EXIT.good && errors.length > 0) return `an error, and exit code 0: ${stderr}`;
  if (code === EXIT.usage && errors.length !== 1) return `a usage error without its line: ${stderr}`;
  return undefined;
}

function leftoverOf(
  { code }: Ended,
  before: readonly string[],
  after: readonly string[],
): string | undefined {
  const added = after.filter((name) => !before.includes(name));
  if (before.some((name) => !after.includes(name))) return `a file is gone: ${after.join(', ')}`;
  const left = code === EXIT.good ? added.filter((name) => /\.(?:part|tmp|sock)\b/.test(name)) : added;
  return left.length === 0 ? undefined : `exit code ${String(code)}, and left behind: ${left.join(', ')}`;
}

/** Long work is stopped as soon as it has begun. */
function call(folder: string, words: readonly string[]): Promise<Ended> {
  // A process that made private mounts has left the folder of the others for good.
  if (words.some((word) => word.startsWith('--host-fs'))) return runCli(folder, ...words);
  return callCliWith({ interruptAt: LONG_WORK }, folder, ...words);
}
