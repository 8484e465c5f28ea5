import { existsSync, readdirSync, readlinkSync, realpathSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, onTestFinished, test, vi } from 'vitest';

import { ImageDirectory } from '../../src/cli/files/image-directory.ts';
import { Interruption } from '../../src/cli/terminal/interruption.ts';
import type { Terminal } from '../../src/cli/terminal/terminal.ts';
import { readResult } from '../../src/result/store.ts';
import { reasonToSkip, runTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { runCli, startCli } from './cli-process.ts';

const CELLS = [
  '--workload',
  'stride,subcluster-sequential',
  '--format',
  'qcow2',
  '--cache',
  'writeback,unsafe',
];
const MEASURE = ['--timed-requests', '20', '--out', 'result.json'];

describe('Ctrl-C', () => {
  test('keeps finished cells, says how to go on, exits with 130; --resume does the rest', async () => {
    const folder = testDirectory();
    const started = startCli(folder, 'run', ...CELLS, ...MEASURE, '--samples', '1000');
    await started.said('counting 3/');
    started.process.kill('SIGINT');
    const { code, stdout, stderr } = await started.ended;
    expect({ code, stdout }).toEqual({ code: 130, stdout: '' });
    expect(stderr).toContain('qcow2-bench run');
    expect(stderr).toContain('--resume');
    const kept = readResult(join(folder, 'result.json'));
    expect(kept.cells.filter(({ counts }) => counts !== null).length).toBeGreaterThanOrEqual(3);
    expect(readdirSync(folder)).toEqual(['result.json']);

    const resumed = await runCli(folder, 'run', ...CELLS, ...MEASURE, '--samples', '1', '--resume');
    expect(resumed.code).toBe(0);
    expect(resumed.stderr).toContain('(kept)');
    const whole = readResult(join(folder, 'result.json'));
    expect(whole.cells.length).toBe(8);
    expect(whole.cells.every(({ counts, timings }) => counts !== null && timings.length >= 1)).toBe(true);
  });
});

const noQemu = reasonToSkip('qemu-img');

describe.skipIf(noQemu !== undefined)(
  `Ctrl-C in a check${noQemu === undefined ? '' : ` (${noQemu})`}`,
  () => {
    test('or in a repair ends it with 130 and one word of what is left', async () => {
      const folder = testDirectory();
      // 16.7 million clusters, in 164 MB of tables: more than half a second of work that never
      // waits.
      const big = ['create', '-q', '-f', 'qcow2', '-o', 'preallocation=metadata', 'disk', '1T'];
      runTool('qemu-img', big, folder);
      const before = statSync(join(folder, 'disk'));
      for (const [stopped, ...words] of [['check'], ['repair', '--repair', 'all']]) {
        const started = startCli(folder, 'check', 'disk', ...words);
        await opened(started.process.pid ?? 0, join(folder, 'disk'));
        started.process.kill('SIGINT');
        const { code, stdout, stderr } = await started.ended;
        expect({ code, stdout }).toEqual({ code: 130, stdout: '' });
        expect(stderr).toContain(`${String(stopped)} interrupted`);
        const { size, blocks } = statSync(join(folder, 'disk'));
        expect({ size, blocks }).toEqual({ size: before.size, blocks: before.blocks });
      }
    });

    /** Waits until the process has the file open: from then on it listens to signals. */
    async function opened(pid: number, path: string): Promise<void> {
      const folder = `/proc/${String(pid)}/fd`;
      await vi.waitFor(
        () => {
          expect(readdirSync(folder).map((name) => linkOf(join(folder, name)))).toContain(realpathSync(path));
        },
        { timeout: 20_000, interval: 5 },
      );
    }

    function linkOf(path: string): string | undefined {
      try {
        return readlinkSync(path);
      } catch {
        return undefined;
      }
    }
  },
);

describe('a second signal', () => {
  const NEVER = (): never => {
    throw new Error('exit');
  };

  /** What the class listens to, called as the system would. */
  function listen(): {
    readonly interruption: Interruption;
    readonly signal: () => void;
    readonly notes: string[];
  } {
    const before = process.listeners('SIGINT');
    const notes: string[] = [];
    const terminal = { warn: (text: string) => void notes.push(text), errors: { isTTY: false } };
    const interruption = new Interruption(terminal as unknown as Terminal, () => undefined);
    onTestFinished(() => interruption[Symbol.dispose]());
    const added = process.listeners('SIGINT').filter((listener) => !before.includes(listener));
    return { interruption, notes, signal: () => added.forEach((listener) => listener('SIGINT')) };
  }

  test('of the same stroke of the keys is the first again; a later one ends the program with 130', () => {
    const now = vi.spyOn(performance, 'now').mockReturnValue(1000);
    const exit = vi.spyOn(process, 'exit').mockImplementation(NEVER);
    const { interruption, signal, notes } = listen();
    expect(interruption.signal.aborted).toBe(false);
    signal();
    now.mockReturnValue(1400);
    signal();
    expect({ aborted: interruption.signal.aborted, said: notes.length }).toEqual({ aborted: true, said: 1 });
    expect(exit).not.toHaveBeenCalled();
    now.mockReturnValue(1600);
    expect(signal).toThrow('exit');
    expect(exit).toHaveBeenCalledWith(130);
  });

  test('leaves no image of this run behind, and nothing of others is touched', () => {
    const folder = testDirectory();
    const before = process.listeners('exit');
    using directory = new ImageDirectory(folder);
    writeFileSync(join(folder, `${directory.filePrefix}-0.qcow2`), 'image');
    writeFileSync(join(folder, 'qcow2-bench-notes.txt'), 'mine');
    for (const listener of process.listeners('exit')) if (!before.includes(listener)) listener(130);
    expect(readdirSync(folder)).toEqual(['qcow2-bench-notes.txt']);
  });

  test('takes a fresh directory along', () => {
    const before = process.listeners('exit');
    using directory = new ImageDirectory();
    expect(existsSync(directory.path)).toBe(true);
    for (const listener of process.listeners('exit')) if (!before.includes(listener)) listener(130);
    expect(existsSync(directory.path)).toBe(false);
  });
});

test('a reader that goes away is no error', async () => {
  const folder = testDirectory();
  const started = startCli(folder, 'list');
  started.process.stdout?.destroy();
  expect(await started.ended).toMatchObject({ code: 0, stderr: '' });
});
