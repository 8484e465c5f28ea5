/** Images that other policies than QEMU's wrote, before QEMU's tools. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { reasonToSkip, runTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import { TINY } from './tiny-workload.ts';

const skip = reasonToSkip('qemu-img', 'qemu-io');
const [PHASE] = TINY.phases;
/** Frees clusters and uses them again. */
const WORKLOAD = {
  ...TINY,
  name: 'busy',
  image: { size: '4MiB' },
  phases: [
    {
      ...PHASE,
      requests: 300,
      mix: { write: 6, flush: 1, writeZeroes: 2, discard: 2 },
      unmap: true,
      blockSizes: [{ size: '4KiB' }, { size: '64KiB' }],
      pattern: { kind: 'uniform', alignment: '4KiB' },
    },
  ],
};

/** Requests that are in flight at once touch different places: their order does not matter. */
const APART = {
  ...WORKLOAD,
  phases: [
    {
      ...PHASE,
      requests: 60,
      mix: { write: 6, flush: 1 },
      blockSizes: [{ size: '4KiB' }],
      pattern: { kind: 'uniform', alignment: '64KiB', replacement: false },
    },
  ],
};

describe.skipIf(skip !== undefined)(`with QEMU's tools${skip === undefined ? '' : ` (${skip})`}`, () => {
  test.each([
    ['strict', 'qcow2', 'lazy', 'writethrough'],
    ['strict', 'qcow2', 'lazy', 'writeback'],
    ['strict', 'qcow2', 'eager', 'writeback'],
    ['strict', 'qed', undefined, 'writeback'],
    ['sector', 'qcow2', 'lazy', 'writeback'],
    ['sector', 'qcow2', 'eager', 'writethrough'],
    ['soft-updates', 'qcow2', 'eager', 'writeback'],
    ['group-commit', 'qcow2', 'eager', 'writethrough', '--queue-depth', '8'],
    ['group-commit', 'qcow2', 'lazy', 'writeback', '--queue-depth', '8'],
    ['group-commit', 'qed', undefined, 'writethrough', '--queue-depth', '8'],
  ])(
    'policy %s: %s %s in %s is clean at rest, with the same data as with policy qemu',
    async (own = '', format = '', refcounts, cache = '', ...depth) => {
      const folder = testDirectory();
      writeFileSync(join(folder, 'busy.json'), JSON.stringify(depth.length === 0 ? WORKLOAD : APART));
      const images: string[] = [];
      for (const policy of [own, 'qemu']) {
        const image = join(folder, policy);
        const ended = await callCli(
          folder,
          ...`run --workload busy.json --samples 0 --format ${format} --cache ${cache} --policy ${policy} --image ${image}`.split(
            ' ',
          ),
          ...(refcounts === undefined ? [] : ['--refcounts', refcounts]),
          ...depth.filter((word) => word !== undefined),
        );
        expect(ended).toMatchObject({ code: 0 });
        images.push(image);
      }
      const [image = ''] = images;
      // Throws unless it finds no error and no leak.
      expect(runTool('qemu-img', ['check', '-f', format, image])).toContain('No errors were found');
      runTool('qemu-img', ['compare', '-f', format, '-F', format, ...images]);
    },
  );

  test('the engine qemu has no policy but its own, and says so', async () => {
    const folder = testDirectory();
    writeFileSync(join(folder, 'tiny.json'), JSON.stringify(TINY));
    const words = '--workload tiny.json --samples 0 --format qcow2 --refcounts lazy --cache writeback';
    const ended = await callCli(folder, 'run', ...words.split(' '), '--engine', 'qemu', '--policy', 'strict');
    expect(ended.stdout + ended.stderr).toContain('QEMU has no policy strict, only its own');
  });
});
