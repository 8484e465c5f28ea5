/**
 * Outputs that cannot be written, on a full disk and a read-only one: one line that names the file
 * and the reason, exit code 1, the earlier file of that name as it was, and nothing else left.
 */

import { spawnSync } from 'node:child_process';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { ioWords, reasonToSkip, runTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import { errorLine, startCli } from './cli-process.ts';
import { mountSmall, reasonAgainstMount } from './small-disk.ts';

const noMount = reasonAgainstMount();
const PAGE = 4096;
const CELL = '--workload stride --format qcow2 --refcounts eager --cache writethrough --samples 0';

interface Output {
  readonly what: string;
  /** The command as it is run before, and again where it fails. */
  readonly words: string;
  /** Pages that are free then. */
  readonly room: number;
  /** Another output of the command that has room. */
  readonly written?: string;
}

const OUTPUTS: readonly Output[] = [
  { what: 'a result', words: `run ${CELL} --requests 50 --out small/out.json`, room: 0 },
  { what: 'a host log', words: `run ${CELL} --requests 2000 --out r.json --host-log small/log`, room: 1 },
  {
    what: 'a table',
    words: `bench ${CELL} --requests 50 --out small/b.json --report b.html`,
    room: 1,
    written: 'b.json',
  },
  { what: 'a report page', words: 'report result.json --out small/page.html', room: 1 },
  { what: 'Markdown', words: 'report result.json --markdown --overwrite --out small/page.md', room: 0 },
  { what: 'a baseline', words: 'gate result.json --accept --baseline small/base.json', room: 0 },
  { what: 'a trace', words: 'trace convert trace.csv small/t.csv --overwrite', room: 1 },
  { what: 'a trace, gzip', words: 'trace convert trace.csv small/t.csv.gz --overwrite', room: 1 },
  { what: 'a trace, Zstandard', words: 'trace convert trace.csv small/t.csv.zst --overwrite', room: 1 },
];

interface ImageChange {
  readonly what: string;
  /** The command, in a folder where `small/disk.qcow2` has data and little space is left. */
  readonly words: string;
  /** Clusters of 64 KiB that are free then. */
  readonly room: number;
}

const IMAGE_CHANGES: readonly ImageChange[] = [
  ...['qcow2', 'qed', 'raw'].flatMap((format) => [
    { what: `convert to ${format}`, words: `convert source.raw small/new.${format} --to ${format}`, room: 9 },
    {
      what: `convert over an image, ${format}`,
      words: `convert source.raw small/disk.qcow2 --to ${format} --overwrite`,
      room: 9,
    },
  ]),
  { what: 'convert to a pair', words: 'convert source.raw small/new.qcow2 --data-file plain', room: 9 },
  ...['metadata', 'falloc', 'full'].flatMap((preallocation) => {
    const size = preallocation === 'metadata' ? '16GiB' : '64MiB';
    return [
      {
        what: `create, ${preallocation}`,
        words: `create small/new.qcow2 ${size} --preallocation ${preallocation}`,
        room: 9,
      },
      {
        what: `resize, ${preallocation}`,
        words: `resize small/disk.qcow2 ${size} --preallocation ${preallocation}`,
        room: 9,
      },
    ];
  }),
  { what: 'a snapshot', words: 'snapshot small/disk.qcow2 --create one', room: 0 },
  {
    what: 'an image that a run makes',
    words: `run ${CELL} --image small/new.qcow2`,
    room: 9,
  },
  {
    what: 'the copy of an image that a run is served on',
    words: `replay few.csv --image source.raw --cache writeback --dir small`,
    room: 9,
  },
];

/** Takes all the space but `room` pages; gives it back by the function. */
function fill(folder: string, room: number): void {
  const file = openSync(join(folder, 'filler'), 'w');
  let size = 0;
  try {
    for (;;) size += writeSync(file, new Uint8Array(PAGE));
  } catch {
    // It is full.
  }
  ftruncateSync(file, Math.max(0, size - room * PAGE));
  closeSync(file);
}

function contents(folder: string): Readonly<Record<string, string>> {
  const names = readdirSync(folder).filter((name) => name !== 'filler');
  return Object.fromEntries(names.map((name) => [name, readFileSync(join(folder, name), 'latin1')]));
}

/** A trace and a result, made once. */
async function makeInputs(): Promise<Readonly<Record<string, string>>> {
  const folder = testDirectory();
  const head = '#qcow2-bench trace v1\n#virtual-size 4294967296\ntime_ns,op,offset,length,flags\n';
  // Offsets without order, so that a packed trace is long too.
  const lines = Array.from({ length: 20_000 }, (_, n) => {
    const block = (n * 2_654_435_761) % 1_048_576;
    return `${String(n * 1000)},write,${String(block * 4096)},4096,\n`;
  });
  writeFileSync(join(folder, 'trace.csv'), head + lines.join(''));
  const made = await callCli(folder, ...`bench ${CELL} --requests 50 --out result.json`.split(' '));
  expect(made.code, made.stderr).toBe(0);
  const names = ['trace.csv', 'result.json'];
  return Object.fromEntries(names.map((name) => [name, readFileSync(join(folder, name), 'latin1')]));
}

describe.skipIf(noMount !== undefined && process.env['CI'] !== 'true')(
  `an output that fails${noMount === undefined ? '' : ` (not tested: ${noMount})`}`,
  () => {
    let inputs: Readonly<Record<string, string>> | undefined;
    test.for(OUTPUTS)('$what', async ({ words, room, written = '' }) => {
      const folder = testDirectory();
      const small = join(folder, 'small');
      mkdirSync(small);
      mountSmall(small);
      inputs ??= await makeInputs();
      for (const [name, text] of Object.entries(inputs)) writeFileSync(join(folder, name), text, 'latin1');
      const good = await callCli(folder, ...words.split(' '));
      expect(good.code, good.stderr).toBe(0);
      const before = contents(small);
      const expectFailure = async (reason: string, place: RegExp): Promise<void> => {
        const ended = await callCli(folder, ...words.split(' '));
        expect(ended.code, ended.stdout).toBe(1);
        expect(errorLine(ended)).toContain(reason);
        expect(errorLine(ended)).toMatch(place);
        expect(errorLine(ended)).not.toContain('.tmp');
        expect({ ...contents(small), [written]: '' }).toEqual({ ...before, [written]: '' });
      };
      fill(small, room);
      await expectFailure('ENOSPC', /small\/\w+/);
      expect(spawnSync('mount', ['-o', 'remount,ro', small]).status).toBe(0);
      await expectFailure('EROFS', /: small: no file can be created in this directory/);
    });

    test.for(IMAGE_CHANGES)('$what', async ({ words, room }) => {
      const folder = testDirectory();
      const small = join(folder, 'small');
      mkdirSync(small);
      mountSmall(small);
      writeFileSync(join(folder, 'source.raw'), Buffer.alloc(8 * 1024 * 1024, 5));
      const head = '#qcow2-bench trace v1\n#virtual-size 1048576\ntime_ns,op,offset,length,flags\n';
      writeFileSync(join(folder, 'few.csv'), `${head}0,write,0,4096,\n`);
      writeFileSync(join(folder, 'data.raw'), Buffer.alloc(256 * 1024, 7));
      const call = (...given: readonly string[]): ReturnType<typeof callCli> => callCli(folder, ...given);
      expect((await call('convert', 'data.raw', 'small/disk.qcow2')).code).toBe(0);
      const before = contents(small);
      fill(small, (room * 65_536) / PAGE);

      const ended = await call(...words.split(' '));
      expect(ended.code, ended.stdout).toBe(1);
      expect(errorLine(ended)).toMatch(/small\/\w+.*ENOSPC|source\.raw: a copy needs .*small has/);
      expect(errorLine(ended)).not.toContain('.tmp');
      expect(readdirSync(small).toSorted()).toEqual(['disk.qcow2', 'filler']);
      if (!/^(?:resize|snapshot)/.test(words)) expect(contents(small)).toEqual(before);
      // In a longer file what is counted past its end would be a leak.
      rmSync(join(small, 'filler'));
      expect((await call('resize', 'small/disk.qcow2', '1MiB', '--preallocation', 'full')).code).toBe(0);
      const checked = await call('check', 'small/disk.qcow2');
      expect(checked.code, checked.stdout).toBe(0);
      expect((await call('convert', 'small/disk.qcow2', 'after.raw', '--to', 'raw')).code).toBe(0);
      const disk = readFileSync(join(folder, 'after.raw'));
      expect(disk.subarray(0, 256 * 1024).equals(readFileSync(join(folder, 'data.raw')))).toBe(true);
      expect(disk.subarray(256 * 1024).every((byte) => byte === 0)).toBe(true);
    });

    const noClient = reasonToSkip('qemu-io');
    describe.skipIf(noClient !== undefined)(
      `a recording${noClient === undefined ? '' : ` (${noClient})`}`,
      () => {
        test.for(['rec.csv', 'rec.csv.gz', 'rec.csv.zst'])('%s', async (name) => {
          const folder = testDirectory();
          const small = join(folder, 'small');
          mkdirSync(small);
          mountSmall(small);
          const image = ['--image', 'disk.qcow2', '--create', '64MiB'];
          const started = startCli(folder, 'record', ...image, '--trace', `small/${name}`, '--socket', 's');
          await new Promise<void>((resolve) => {
            started.process.stdout?.once('data', () => resolve());
            void started.ended.then(() => resolve());
          });
          fill(small, 2);
          const commands = Array.from({ length: 10_000 }, (_, n) => {
            const offset = ((n * 2_654_435_761) % 16_384) * 4096;
            if (n === 0) return 'write -q -P 7 0 64k\nflush\n';
            // Longer than what is recorded stays in memory: what came before reaches the file.
            return `read -q ${String(offset)} 4k\n${n === 200 ? 'sleep 1500\n' : ''}`;
          });
          const uri = `nbd+unix:///?socket=${join(folder, 's')}`;
          spawnSync('qemu-io', ['-f', 'raw', uri], { input: commands.join(''), timeout: 120_000 });
          const ended = await started.ended;
          expect(ended.code).toBe(1);
          expect(errorLine(ended)).toContain('ENOSPC');
          expect(errorLine(ended)).toContain(`small/${name}`);
          expect(readdirSync(small).toSorted()).toEqual(['filler', name]);

          const info = await callCli(folder, 'trace', 'info', `small/${name}`, '--recover', '--json');
          expect(info.code, info.stderr).toBe(0);
          const { requests } = JSON.parse(info.stdout) as { readonly requests: number };
          expect(requests).toBeGreaterThan(100);
          expect((await callCli(folder, 'check', 'disk.qcow2')).code).toBe(0);
          runTool('qemu-io', ioWords(['read -P 7 0 64k'], 'disk.qcow2', 'qcow2'), folder);
        });
      },
    );
  },
);
