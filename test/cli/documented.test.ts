/**
 * What README.md and docs/ show can be typed: each command of their blocks runs, over a few
 * requests, and each option that the text names exists in the command that it is named with.
 */

import { cpSync, globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { beforeAll, describe, expect, test, vi } from 'vitest';

import { COMMANDS } from '../../src/cli/command-list.ts';
import { COMMON_OPTIONS, declaredOptions } from '../../src/cli/grammar/declared-options.ts';
import { nameOf } from '../../src/cli/named-command.ts';
import { EXIT } from '../../src/cli/terminal/exit-code.ts';
import { TRIES_ALL } from '../amount.ts';
import { testDirectory } from '../test-directory.ts';
import { callCliWith } from './call-cli.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const FILES = ['README.md', ...globSync('docs/*.md', { cwd: ROOT })].toSorted();
/** Of other programs, and of none. */
const FOREIGN = new Set(['output', 'remove', 'silent', 'option']);
/** So few that a documented run lasts a moment. */
const FEW_OPTIONS = ['--samples', '0', '--requests', '20'];
const FEW: Readonly<Record<string, readonly string[]>> = {
  run: FEW_OPTIONS,
  replay: FEW_OPTIONS,
  // Whole where all is tried: the suite and the studies take many seconds.
  ...(TRIES_ALL
    ? {}
    : {
        bench: [...FEW_OPTIONS, '--study', 'none'],
        study: FEW_OPTIONS,
        advise: ['--requests', '20', '--cache', 'none'],
      }),
};

interface Documented {
  readonly file: string;
  readonly words: readonly string[];
}

/** The commands of a file's blocks, without comments, line breaks and the `&` of a background job. */
function commandsOf(file: string): readonly Documented[] {
  const text = readFileSync(join(ROOT, file), 'utf8');
  const blocks = [...text.matchAll(/^```(?:sh)?\n(.*?)^```$/gms)].map(([, block = '']) => block);
  return blocks
    .flatMap((block) => block.replaceAll('\\\n', ' ').split('\n'))
    .map((line) => line.replace(/ +(?:#|&$).*$/, '').trim())
    .filter((line) => /^(?:qb|qcow2-bench) /.test(line))
    .map((line) => ({ file, words: line.split(/ +/).slice(1) }));
}

/** A flush that an NBD server received, as strace shows it. */
const NBD_LOG = `1 read(9, "\\x25\\x60\\x95\\x13\\0\\0\\0\\3${'\\0'.repeat(20)}", 28) = 28
1 fdatasync(5</vm/disk.qcow2>) = 0
`;

const DOCUMENTED = FILES.flatMap(commandsOf);
const inputs = testDirectory();

async function call(folder: string, words: readonly string[]): Promise<void> {
  // A server is ended when it says where it listens.
  const ended = await callCliWith({ interruptAt: /^(?:nbd(?:\+unix)?|http):/m }, folder, ...words);
  expect([EXIT.good, EXIT.interrupted], `${words.join(' ')}: ${ended.stderr}`).toContain(ended.code);
}

beforeAll(async () => {
  const workloads = readFileSync(join(ROOT, 'docs/workloads.md'), 'utf8');
  const [, workload = ''] = /^```json\n(\{.*?)^```$/ms.exec(workloads) ?? [];
  const [, trace = ''] = /^```\n(#qcow2-bench trace.*?)^```$/ms.exec(workloads) ?? [];
  writeFileSync(join(inputs, 'mine.json'), workload);
  for (const name of ['mine.trace.csv', 'my.trace.csv.gz', 'my.trace.csv.zst', 'app.trace.csv.gz']) {
    writeFileSync(join(inputs, name), trace);
  }
  writeFileSync(join(inputs, 'disk.csv'), 'Timestamp,Op,LBA,Bytes\n1,W,8,4096\n');
  writeFileSync(join(inputs, 'old.txt'), '13.5 0 8 16 0\n');
  writeFileSync(join(inputs, 'fmt.txt'), '0.000000100 D WS 8 8\n0.000000200 C WS 8 8\n');
  mkdirSync(join(inputs, 'results'));
  await call(inputs, ['create', 'disk.qcow2', '10GiB']);
  const result = ['--out', 'results/latest.json', '--report', 'page.html', '--samples', '0'];
  await call(inputs, ['bench', '--workload', 'stride', '--requests', '20', ...result]);
  await call(inputs, ['gate', 'results/latest.json', '--accept', '--baseline', 'results/baseline.json']);
  await call(inputs, [
    'history',
    'add',
    'results/latest.json',
    '--commit',
    'first',
    '--file',
    'history.jsonl',
  ]);
  for (const name of ['before.json', 'after.json', 'both.json']) {
    cpSync(join(inputs, 'results/latest.json'), join(inputs, name));
  }
  writeFileSync(join(inputs, 'nbd.log'), NBD_LOG);
  cpSync(join(inputs, 'disk.qcow2'), join(inputs, 'before.qcow2'));
  await call(inputs, ['create', 'mine.qcow2', '1GiB']);
  const ownLog = ['--in-place', '--image', 'mine.qcow2', '--host-log', 'ops.jsonl'];
  await call(inputs, ['run', '--workload', 'stride', '--cache', 'writeback', ...FEW_OPTIONS, ...ownLog]);
  await call(inputs, [
    'ingest',
    'nbd.log',
    '--engine-name',
    'mine',
    '--image',
    'disk.qcow2',
    '--out',
    'theirs.json',
  ]);
  cpSync(join(inputs, 'before.json'), join(inputs, 'ours.json'));
  const one = ['--workload', 'stride', '--format', 'raw', '--cache', 'none', ...FEW_OPTIONS];
  await call(inputs, ['run', ...one, '--host-log', 'a.jsonl']);
  for (const name of ['b.jsonl', 'before.jsonl', 'after.jsonl', 'other.jsonl']) {
    cpSync(join(inputs, 'a.jsonl'), join(inputs, name));
  }
});

test('the documents show commands', () => {
  expect(new Set(DOCUMENTED.map(({ file }) => file)).size).toBeGreaterThan(2);
  expect(DOCUMENTED.length).toBeGreaterThan(15);
});

describe('a documented command runs', () => {
  test.for(DOCUMENTED)('$file: $words', async ({ words: [command = '', ...rest] }) => {
    const folder = testDirectory();
    // These make the file that others read.
    if (command !== 'create' && command !== 'record') cpSync(inputs, folder, { recursive: true });
    if (command === 'report') mkdirSync(join(folder, 'reports'));
    const few = FEW[command] ?? [];
    const own = new Set(few.filter((word) => word.startsWith('--')));
    const places = new Set(rest.flatMap((word, at) => (isLeftOut(word, own) ? [at, at + 1] : [])));
    const kept = rest.filter((_, at) => !places.has(at));
    await call(folder, [command, ...kept, ...few]);
  });
});

/** Replaced by fewer, or a directory of the reader's. */
function isLeftOut(word: string, replaced: ReadonlySet<string>): boolean {
  return replaced.has(word) || word === '--qemu-bin-dir';
}

describe('an option that the text names exists', () => {
  const known = new Map<string, ReadonlySet<string>>();
  beforeAll(async () => {
    for (const listed of COMMANDS.flatMap((each) => ('commands' in each ? each.commands : [each]))) {
      const name = nameOf(listed.usage);
      const options = declaredOptions(await listed.load()).keys();
      known.set(name, new Set([...options, ...COMMON_OPTIONS, ...(known.get(name) ?? [])]));
    }
  });

  test.for(FILES)('%s', (file) => {
    const text = readFileSync(join(ROOT, file), 'utf8').replaceAll(/^```.*?^```$/gms, '');
    const all = new Set([...known.values()].flatMap((options) => [...options]));
    for (const [, span = ''] of text.matchAll(/`([^`\n]+)`/g)) {
      const words = span.split(/[ ()|[\]]+/);
      // `trace convert` is a command too.
      const name = words[0] === 'trace' ? words[1] : words[0];
      const options = known.get(name ?? '') ?? all;
      for (const [, option = ''] of span.matchAll(/(?:^|[ (|[])--([a-z][\w-]*)/g)) {
        expect(options.has(option) || FOREIGN.has(option), `${file}: \`${span}\` names --${option}`).toBe(
          true,
        );
      }
    }
  });
});
