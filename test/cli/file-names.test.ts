/**
 * File names are bytes: every command takes one that is not UTF-8, or holds blanks, quotes and
 * newlines, wherever a file is named, and makes and opens exactly that file.
 */

import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, onTestFinished, test } from 'vitest';

import { WORKLOAD_SCHEMA } from '../../src/workload/schema.ts';
import { someOf } from '../amount.ts';
import { reasonToSkip, runTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { MAIN, type Ended } from './cli-process.ts';

const skipped = reasonToSkip('qemu-io', 'qemu-img', 'strace');
const CELL = '--format qcow2 --refcounts eager --cache writethrough --samples 0';

/** Beginnings of names; each file of a test is called by one and an ending. */
const NAMES: readonly { readonly what: string; readonly bytes: Buffer }[] = [
  { what: 'a name that is not UTF-8', bytes: Buffer.from('d\xffsk\xe9', 'latin1') },
  { what: 'a dash, blanks, quotes and a newline', bytes: Buffer.from('-a b\'c"d%e\nf') },
];

/** A folder whose own name begins so too, with a comma, and the commands in it. */
class Folder {
  readonly #bytes: Buffer;
  readonly #path: Buffer;
  readonly #scripts = testDirectory();
  #count = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    // `--workload` and QEMU's options are lists with commas.
    this.#path = Buffer.concat([Buffer.from(`${testDirectory()}/`), bytes, Buffer.from(',')]);
    mkdirSync(this.#path);
  }

  at(ending: string): Buffer {
    return Buffer.concat([this.#path, Buffer.from('/'), this.#bytes, Buffer.from(ending)]);
  }

  /** Names in the folder, by their endings; one that is called otherwise is given whole. */
  endings(): readonly string[] {
    const names = readdirSync(this.#path, 'buffer').flatMap((name) => {
      const isOurs = name.subarray(0, this.#bytes.length).equals(this.#bytes);
      // Node's own, in the folder for temporary files.
      if (name.toString() === 'node-compile-cache') return [];
      return [isOurs ? name.toString('utf8', this.#bytes.length) : name.toString('latin1')];
    });
    return names.toSorted();
  }

  /**
   * Starts the program: `@.json` is the file with that ending. Arguments of Node are text, so a
   * shell has the bytes.
   */
  start(words: string): { readonly ended: Promise<Ended>; readonly stdout: () => string } {
    const script = join(this.#scripts, `${String(this.#count++)}.sh`);
    const named = words.split(' ').map((word) => {
      const at = word.indexOf('@');
      if (at < 0) return Buffer.from(`${word} `);
      const head = Buffer.from(`${word.slice(0, at)}'./`);
      return Buffer.concat([head, quoted(this.#bytes), Buffer.from(`${word.slice(at + 1)}' `)]);
    });
    const folder = [Buffer.from("cd '"), quoted(this.#path), Buffer.from("'\n")];
    // Temporary files have such a name above them too.
    const temporary = [Buffer.from("export TMPDIR='"), quoted(this.#path), Buffer.from("'\n")];
    const program = Buffer.from(`exec '${process.execPath}' '${MAIN}' `);
    writeFileSync(script, Buffer.concat([...folder, ...temporary, program, ...named]));
    const env: NodeJS.ProcessEnv = { ...process.env, NO_COLOR: '1' };
    // Once as for users, who have the compile cache among the temporary files: it must make no
    // folder of a wrong name.
    if (this.#count === 1) delete env['NODE_COMPILE_CACHE'];
    const child = spawn('sh', [script], { stdio: 'pipe', env });
    onTestFinished(() => void child.kill('SIGKILL'));
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    const ended = new Promise<Ended>((resolve) => {
      child.once('close', (code) => resolve({ code, stdout, stderr }));
    });
    return { ended, stdout: () => stdout };
  }

  async run(words: string): Promise<string> {
    const { code, stdout, stderr } = await this.start(words).ended;
    expect(code, `${words}: ${stdout}${stderr}`).toBe(0);
    return stdout;
  }

  /** Serves until its one client has written and left. */
  async serve(words: string, ...commands: readonly string[]): Promise<void> {
    const server = this.start(`${words} --socket @.s --once`);
    await Promise.race([expect.poll(server.stdout, { timeout: 60_000 }).toContain('\n'), server.ended]);
    const uri = server.stdout().trim();
    expect(uri, uri === '' ? (await server.ended).stderr : '').toMatch(/^nbd\+unix:/);
    expect(this.endings()).toContain('.s');
    runTool('qemu-io', ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), uri]);
    const { code, stderr } = await server.ended;
    expect(code, stderr).toBe(0);
  }
}

/** For a word in single quotes of a shell. */
function quoted(bytes: Buffer): Buffer {
  return Buffer.from(bytes.toString('latin1').replaceAll("'", "'\\''"), 'latin1');
}

describe.skipIf(skipped !== undefined || process.platform !== 'linux').for(someOf(NAMES, 1))(
  '$what',
  ({ bytes }) => {
    test('an image is made, converted, checked, resized, served and recorded', async () => {
      const folder = new Folder(bytes);
      await folder.run('create @ 4MiB');
      await folder.run('create @.top --backing @ --backing-format qcow2');
      await folder.serve('record --image @.top --trace @.csv.zst', 'write -P 7 0 64k', 'flush');
      await folder.serve('serve --image @.top', 'read -P 7 0 64k', 'write -P 8 64k 64k');
      await folder.run('resize @.top 8MiB');
      await folder.run('snapshot @.top --create now');
      await folder.run('check @.top --repair all');
      await folder.run('map @.top');
      expect(await folder.run('info @.top --backing-chain')).toContain('file format: qcow2');
      await folder.run('convert @.top @.raw --to raw');
      await folder.run('convert @.raw @.two --data-file raw');
      const raw = readFileSync(folder.at('.raw'));
      expect([raw.length, raw[0], raw[65_536], raw[131_072]]).toEqual([8 * 1024 * 1024, 7, 8, 0]);
      expect(readFileSync(folder.at('.two.data')).equals(raw)).toBe(true);
      expect(await folder.run('trace info @.csv.zst')).toContain('2');
      expect(folder.endings()).toEqual(['', '.csv.zst', '.raw', '.top', '.two', '.two.data']);
    });

    test('a trace and a workload are run, with all that is written of them', async () => {
      const folder = new Folder(bytes);
      const head = '#qcow2-bench trace v1\n#virtual-size 4194304\ntime_ns,op,offset,length,flags\n';
      writeFileSync(folder.at('.trace.csv'), `${head}0,write,0,65536,\n1000,flush,0,0,\n2000,read,0,4096,\n`);
      const sizes = [{ size: '4KiB', weight: 1 }];
      const phase = { name: 'run', requests: 5, blockSizes: sizes, mix: { write: 1 } };
      const workload = {
        ...{ schema: WORKLOAD_SCHEMA, name: 'small', title: 'Small', description: 'A few writes.' },
        ...{ image: { size: '4MiB' }, phases: [{ ...phase, pattern: { kind: 'sequential' } }] },
      };
      writeFileSync(folder.at('.w.json'), JSON.stringify(workload));
      await folder.run('trace convert @.trace.csv @.gz');
      await folder.run('trace slice @.gz @.bin --to dm-log-writes --limit 1 --lossy');
      await folder.run(`replay @.gz ${CELL} --image @.new --host-log @.log --out @.json`);
      await folder.run('replay @.gz --image @.new --cache writeback --samples 1 --dir . --out @.timed.json');
      expect(JSON.parse(readFileSync(folder.at('.json'), 'utf8'))).toMatchObject({ cells: [{}] });
      expect(readFileSync(folder.at('.log'), 'utf8').split('\n').length).toBeGreaterThan(3);
      // QEMU too: its programs get such a name only by a detour.
      const qemu = `--engine builtin,qemu --workload @.w.json --samples 0 --dir . --out @.qemu.json`;
      expect(await folder.run(`run ${qemu} --format qcow2,raw --cache writeback`)).toContain('identical');
      const own = '--engine builtin,qemu --cache writethrough --samples 0 --out @.own.json';
      expect(await folder.run(`replay @.gz --image @.new ${own}`)).toContain('identical');
      await folder.run('bench --workload @.w.json --samples 0 --format raw --out @.b.json --report @.b.html');
      await folder.run('gate @.b.json --accept --baseline @.base');
      expect(await folder.run('gate @.b.json --baseline @.base')).toContain('gate passed');
      await folder.run('report @.json --out @.html');
      await folder.run('report @.json --markdown --out @.md');
      expect(folder.endings()).toEqual(
        [
          ...['.trace.csv', '.w.json', '.gz', '.bin', '.new', '.log', '.json', '.timed.json', '.qemu.json'],
          ...['.own.json', '.base', '.html', '.md', '.b.json', '.b.csv', '.b.html'],
        ].toSorted(),
      );
    });
  },
);
