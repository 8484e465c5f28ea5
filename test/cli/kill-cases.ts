/**
 * Commands that write, as they are killed: the words, the words that are run after the kill, and
 * what must then hold.
 *
 * Every case works in a folder of its own that holds the files of `makeInputs`.
 */

import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { checkImageFile } from '../../src/image/check-image.ts';
import { createImageFile } from '../../src/image/create-image.ts';
import { hostImage } from '../../src/image/host-image.ts';
import { openChain } from '../../src/image/open-chain.ts';
import { openImage } from '../../src/format/registry.ts';
import { readBaseline } from '../../src/gate/baseline.ts';
import { readDeviceModel } from '../../src/result/device-model-file.ts';
import { readResult } from '../../src/result/store.ts';
import { runCli } from './cli-process.ts';

const MIB = 1024 ** 2;
const CLUSTER = 65_536;
const LEAKED_CLUSTERS = 100;
const CELLS = '--workload stride --samples 0 --requests 400';
const MATRIX = `run ${CELLS} --format raw,qcow2,qed --cache writethrough,writeback --out out.json`;
const CELL = '--format qcow2 --refcounts eager --cache writethrough --samples 0';

/**
 * Present in every folder; a case may change `disk.qcow2` or `damaged.qcow2` only where it says so.
 */
export const INPUTS = ['disk.qcow2', 'damaged.qcow2', 'trace.csv', 'result.json', 'old'] as const;
type Input = (typeof INPUTS)[number];

export interface KillCase {
  readonly name: string;
  readonly words: string;
  /** Run after the kill; default: the same. */
  readonly again?: string;
  /** Serves until a signal comes. */
  readonly serves?: boolean;
  /** The input that the command changes; its guest data stay. */
  readonly changes?: Input;
  /** Too long for a run of all tests; `npm run kills:full` kills it now and then. */
  readonly isLong?: boolean;
  /** Files that are there in the end. */
  readonly makes: readonly string[];
  /** What it makes is never replaced without `--overwrite`. */
  readonly isNewFile?: boolean;
  /** What both the killed and repeated, and the uninterrupted command give: compared as a value. */
  readonly outcome?: (folder: string) => unknown;
  /** Of an output that replaces `old`: whether it is whole. Called after the kill. */
  readonly isWhole?: (path: string) => Promise<boolean>;
}

export const KILL_CASES: readonly KillCase[] = [
  {
    name: 'run',
    words: MATRIX,
    again: `${MATRIX} --resume`,
    makes: ['out.json'],
    outcome: countsOf('out.json'),
  },
  {
    name: 'run --image, new',
    words: `run --workload stride ${CELL} --requests 300 --image new.qcow2 --data-file plain`,
    makes: ['new.qcow2', 'new.qcow2.data'],
    outcome: bytesOf('new.qcow2'),
  },
  {
    name: 'run, timed',
    words: `run --workload stride --format qcow2 --cache none --samples 2 --timed-requests 60 --dir . --out out.json`,
    makes: ['out.json'],
  },
  {
    name: 'replay',
    words: `replay trace.csv ${CELL} --host-log log.jsonl --out out.json`,
    makes: ['out.json', 'log.jsonl'],
    outcome: bytesOf('log.jsonl'),
  },
  {
    name: 'bench',
    words: `bench ${CELLS} --out b.json --report b.html`,
    makes: ['b.json', 'b.csv', 'b.html'],
    outcome: countsOf('b.json'),
  },
  { name: 'report', words: 'report result.json --out p.html', makes: ['p.html'], outcome: bytesOf('p.html') },
  {
    name: 'gate --accept',
    words: 'gate result.json --accept --baseline base.json',
    makes: ['base.json'],
    outcome: (folder) => readBaseline(join(folder, 'base.json')),
  },
  {
    name: 'trace convert',
    words: 'trace convert trace.csv out.csv.zst',
    isNewFile: true,
    makes: ['out.csv.zst'],
    outcome: bytesOf('out.csv.zst'),
  },
  {
    name: 'trace slice',
    words: 'trace slice trace.csv out.csv --limit 30000',
    isNewFile: true,
    makes: ['out.csv'],
    outcome: bytesOf('out.csv'),
  },
  {
    name: 'create',
    words: 'create new.qcow2 64MiB --preallocation full',
    isNewFile: true,
    makes: ['new.qcow2'],
    outcome: bytesOf('new.qcow2'),
  },
  {
    name: 'convert',
    words: 'convert disk.qcow2 out.qcow2',
    isNewFile: true,
    makes: ['out.qcow2'],
    outcome: bytesOf('out.qcow2'),
  },
  {
    name: 'convert --overwrite',
    words: 'convert disk.qcow2 old --to raw --overwrite',
    makes: [],
    outcome: bytesOf('old'),
    isWhole: (path) => Promise.resolve(isOldOr(readFileSync(path), 24 * MIB)),
  },
  {
    name: 'resize',
    words: 'resize disk.qcow2 256MiB --preallocation metadata',
    changes: 'disk.qcow2',
    makes: [],
  },
  {
    name: 'bitmap',
    words: 'bitmap disk.qcow2 --add new',
    // It may have been added.
    again: 'info disk.qcow2',
    changes: 'disk.qcow2',
    makes: [],
  },
  { name: 'amend', words: 'amend disk.qcow2 --compat 0.10', changes: 'disk.qcow2', makes: [] },
  { name: 'snapshot', words: 'snapshot disk.qcow2 --create now', changes: 'disk.qcow2', makes: [] },
  { name: 'check --repair', words: 'check damaged.qcow2 --repair all', changes: 'damaged.qcow2', makes: [] },
  {
    name: 'calibrate',
    words: 'calibrate --dir . --out m.json',
    isLong: true,
    isNewFile: true,
    makes: ['m.json'],
    outcome: isModel('m.json'),
  },
  {
    name: 'record',
    words: 'record --image disk.qcow2 --socket s --trace rec.csv',
    again: 'record --image disk.qcow2 --socket s --trace rec.csv --overwrite',
    serves: true,
    changes: 'disk.qcow2',
    makes: ['rec.csv'],
  },
  {
    name: 'serve --create',
    words: 'serve --image new.qcow2 --create 64MiB --socket s',
    again: 'serve --image new.qcow2 --create 64MiB --socket s --overwrite',
    serves: true,
    makes: ['new.qcow2'],
  },
];

export async function makeInputs(folder: string): Promise<void> {
  const at = (name: string): string => join(folder, name);
  for (const name of ['disk.qcow2', 'damaged.qcow2']) {
    const place = hostImage(at(name));
    await createImageFile({ ...place, format: 'qcow2', virtualSize: 24 * MIB });
    const image = await openImage({ format: 'qcow2', name, files: place.storage, readOnly: false });
    for (let offset = 0; offset < 24 * MIB; offset += 2 * MIB) {
      await image.write(offset, new Uint8Array(MIB).fill(1 + offset / MIB));
    }
    await image.close();
  }
  damageRefcounts(at('damaged.qcow2'));
  const lines = Array.from(
    { length: 40_000 },
    (_, n) => `${String(n * 1000)},write,${String((n * 37) % 4096)}`,
  );
  const requests = lines.map((line) => line.replace(/(\d+)$/, (k) => `${String(Number(k) * 4096)},4096,`));
  const head = '#qcow2-bench trace v1\n#virtual-size 16777216\ntime_ns,op,offset,length,flags\n';
  writeFileSync(at('trace.csv'), `${head}${requests.join('\n')}\n`);
  writeFileSync(at('old'), 'old');
  const made = await runCli(folder, ...MATRIX.replace('out.json', 'result.json').split(' '));
  if (made.code !== 0) throw new Error(made.stderr);
}

/** Counts of nothing at the end, and data that are counted as free: a repair corrects both. */
function damageRefcounts(path: string): void {
  const bytes = Buffer.concat([readFileSync(path), Buffer.alloc(LEAKED_CLUSTERS * CLUSTER)]);
  const block = Number(bytes.readBigUInt64BE(Number(bytes.readBigUInt64BE(48))));
  const clusters = bytes.length / CLUSTER;
  for (let index = clusters - LEAKED_CLUSTERS; index < clusters; index++) {
    bytes.writeUInt16BE(1, block + 2 * index);
  }
  for (let index = 50; index < 150; index += 3) bytes.writeUInt16BE(0, block + 2 * index);
  writeFileSync(path, bytes);
}

/** What a guest reads of the first 24 MiB. */
export async function guestBytes(path: string): Promise<Buffer> {
  const { image } = await openChain({ path, format: 'qcow2' });
  try {
    const bytes = new Uint8Array(24 * MIB);
    await image.read(0, bytes);
    return Buffer.from(bytes.buffer);
  } finally {
    await image.abandon();
  }
}

/** Repairs the image if need be; answers what is left. */
export async function faultsAfterRepair(path: string): Promise<number> {
  const place = hostImage(path);
  await checkImageFile({ ...place, format: 'qcow2', repair: 'all' });
  const { report } = await checkImageFile({ ...place, format: 'qcow2' });
  return report.corruptions + report.leaks + report.checkErrors;
}

function bytesOf(name: string): (folder: string) => unknown {
  return (folder) =>
    createHash('sha256')
      .update(readFileSync(join(folder, name)))
      .digest('hex');
}

/** The exact counts, cell by cell. */
function countsOf(name: string): (folder: string) => unknown {
  return (folder) =>
    readResult(join(folder, name))
      .cells.map(({ cell, counts }) => JSON.stringify({ cell, counts }))
      .toSorted();
}

function isModel(name: string): (folder: string) => unknown {
  return (folder) => existsSync(join(folder, name)) && readDeviceModel(join(folder, name)).name;
}

function isOldOr(bytes: Buffer, length: number): boolean {
  return bytes.toString('latin1', 0, 3) === 'old' ? bytes.length === 3 : bytes.length === length;
}
