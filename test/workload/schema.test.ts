import { fileURLToPath } from 'node:url';

import { format, resolveConfig } from 'prettier';
import { expect, test } from 'vitest';

import { workloadJsonSchema } from '../../src/workload/schema.ts';
import { phaseJson, workload } from './workload-texts.ts';

// After a change to the schema, `npm run docs:schemas` rewrites the file.
test('docs/workload.schema.json is the schema of the code', async () => {
  const path = fileURLToPath(new URL('../../docs/workload.schema.json', import.meta.url));
  const text = await format(JSON.stringify(workloadJsonSchema()), {
    ...(await resolveConfig(path)),
    parser: 'json',
  });
  await expect(text).toMatchFileSnapshot(path);
});

test('sizes are bytes after parsing, however they were written', () => {
  const { image, phases } = workload({
    image: { size: '1 GiB' },
    phases: [phaseJson({ blockSizes: [{ size: 4096 }, { size: '64K' }, { size: '1.5KiB' }] })],
  });
  expect(image.size).toBe(2 ** 30);
  expect(phases).toMatchObject([{ blockSizes: [{ size: 4096 }, { size: 65536 }, { size: 1536 }] }]);
});

test('a parsed workload says everything: defaults are filled in', () => {
  const minimal = workload({
    seed: undefined,
    phases: [{ name: 'p', requests: 1, blockSizes: [{ size: 512 }], pattern: { kind: 'uniform' } }],
  });
  expect(minimal).toEqual({
    schema: 'qcow2-bench/workload@1',
    name: 'for-a-test',
    title: 'For a test',
    description: 'Nothing to learn here.',
    seed: 1,
    image: { size: 1048576, prefill: [], crash: [] },
    phases: [
      {
        name: 'p',
        requests: 1,
        mix: { read: 0, write: 1, flush: 0, discard: 0, writeZeroes: 0 },
        fuaShare: 0,
        flushEvery: 0,
        unmap: false,
        blockSizes: [{ size: 512, weight: 1 }],
        pattern: { kind: 'uniform', replacement: true },
      },
    ],
  });
});
