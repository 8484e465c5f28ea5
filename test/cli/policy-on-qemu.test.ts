/** Images that policy strict wrote, before QEMU's tools. */

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

describe.skipIf(skip !== undefined)(`with QEMU's tools${skip === undefined ? '' : ` (${skip})`}`, () => {
  test.each([
    ['qcow2', 'lazy', 'writethrough'],
    ['qcow2', 'lazy', 'writeback'],
    ['qcow2', 'eager', 'writeback'],
    ['qed', undefined, 'writeback'],
  ])(
    '%s %s in %s is clean at rest, with the same data as with policy qemu',
    async (format, refcounts, cache) => {
      const folder = testDirectory();
      writeFileSync(join(folder, 'busy.json'), JSON.stringify(WORKLOAD));
      const images: string[] = [];
      for (const policy of ['strict', 'qemu']) {
        const image = join(folder, policy);
        const ended = await callCli(
          folder,
          ...`run --workload busy.json --samples 0 --format ${format} --cache ${cache} --policy ${policy} --image ${image}`.split(
            ' ',
          ),
          ...(refcounts === undefined ? [] : ['--refcounts', refcounts]),
        );
        expect(ended).toMatchObject({ code: 0 });
        images.push(image);
      }
      const [strict = ''] = images;
      // Throws unless it finds no error and no leak.
      expect(runTool('qemu-img', ['check', '-f', format, strict])).toContain('No errors were found');
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
