import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { Qcow2BenchError } from '../../src/core/error.ts';
import { LIMITS } from '../../src/core/limits.ts';
import { parseWorkload, readWorkload } from '../../src/workload/workload-file.ts';
import { testDirectory } from '../test-directory.ts';
import { phaseJson, workloadJson } from './workload-texts.ts';
import type { Json } from './workload-texts.ts';

function complaint(text: string): Qcow2BenchError {
  try {
    parseWorkload(text, 'w.json');
  } catch (error) {
    if (error instanceof Qcow2BenchError) return error;
    throw error;
  }
  throw new Error('the workload was accepted');
}

const withPhase = (changes: Json) => workloadJson({ phases: [phaseJson(changes)] });

test.each([LIMITS.backingChainDepth + 1, 20_000])('a chain of %i backing files is refused', (files) => {
  const backing = '{"backing":'.repeat(files - 1) + '{}' + '}'.repeat(files - 1);
  const text = JSON.stringify(workloadJson({ image: { size: '1MiB', backing: 'BACKING' } }));
  const error = complaint(text.replace('"BACKING"', backing));
  expect(error.message).toMatch(/image\.backing: a chain has at most 200 files/);
});

describe('a broken workload is one error that names', () => {
  test.each<[string, Json, RegExp]>([
    ['a missing field', workloadJson({ title: undefined }), /^w\.json: title: is missing; must be a string/],
    ['a wrong type', workloadJson({ seed: 'x' }), /seed: must be a(n integer| number)/],
    [
      'an unknown field and the known ones',
      workloadJson({ sede: 1 }),
      /the file: unknown field "sede"; the fields here are .*"seed"/,
    ],
    ['a foreign schema', workloadJson({ schema: 'fio' }), /schema: must be "qcow2-bench\/workload@1"/],
    [
      'a backing file behind raw',
      workloadJson({ image: { size: '1MiB', backing: { format: 'raw', backing: {} } } }),
      /image\.backing\.backing: raw has no backing file/,
    ],
    [
      'a request past the end of a layer',
      workloadJson({
        image: { size: '1MiB', backing: { backing: { size: '2KiB', fill: [phaseJson()] } } },
      }),
      /image\.backing\.backing\.fill\[0\]\.pattern: has 2KiB: less than the largest block size/,
    ],
    ['the form of names', workloadJson({ name: 'Two Words' }), /name: must be lower-case words/],
    [
      'a bad size and its field',
      workloadJson({ image: { size: '64 parsecs' } }),
      /image\.size: must be a size/,
    ],
    [
      'a size that is not a whole number of bytes',
      workloadJson({ image: { size: '0.3KiB' } }),
      /image\.size: '0\.3KiB' is not a whole number of bytes/,
    ],
    [
      'a size above 2^53',
      workloadJson({ image: { size: '9000PiB' } }),
      /image\.size: '9000PiB' is too large/,
    ],
    [
      'a size of no whole sectors',
      workloadJson({ image: { size: 1000 } }),
      /image\.size: must be a multiple of 512/,
    ],
    [
      'an image that is too large',
      workloadJson({ image: { size: '5000TiB' } }),
      /image\.size: must be at most 4096 TiB/,
    ],
    [
      'an unknown backing format',
      workloadJson({ image: { size: '1MiB', backing: { format: 'vmdk' } } }),
      /image\.backing\.format: must be "raw" or "qcow2" or "qed"/,
    ],
    ['no phases', workloadJson({ phases: [] }), /phases: must be at least 1 in number/],
    [
      'a phase that is no object',
      workloadJson({ phases: [7] }),
      /phases\[0\]: must be a phase, or \{"repeat"/,
    ],
    [
      'a misspelt phase field',
      withPhase({ flushEach: 1 }),
      /phases\[0\]: unknown field "flushEach"; the fields here are .*"flushEvery"/,
    ],
    ['a share above 1', withPhase({ fuaShare: 2 }), /phases\[0\]\.fuaShare: must be at most 1/],
    [
      'an unknown pattern and the known ones',
      withPhase({ pattern: { kind: 'random' } }),
      /phases\[0\]\.pattern(\.kind)?: .*"sequential", "stride", "uniform", "zipf"/,
    ],
    [
      'what a pattern lacks',
      withPhase({ pattern: { kind: 'stride' } }),
      /phases\[0\]\.pattern\.stride: must be a size/,
    ],
    [
      'a field of another pattern',
      withPhase({ pattern: { kind: 'sequential', theta: 1 } }),
      /phases\[0\]\.pattern: unknown field "theta"/,
    ],
    ['a mix of nothing', withPhase({ mix: {} }), /phases\[0\]\.mix: needs at least one weight above 0/],
    [
      'block sizes of no weight',
      withPhase({ blockSizes: [{ size: 512, weight: 0 }] }),
      /phases\[0\]\.blockSizes: needs at least one weight/,
    ],
    [
      'two ends of a phase',
      withPhase({ bytes: 512 }),
      /phases\[0\]: needs exactly one of "requests" and "bytes"/,
    ],
    [
      'a phase that never ends',
      withPhase({ requests: undefined, bytes: 512, mix: { flush: 1 } }),
      /phases\[0\]\.bytes: would never be reached/,
    ],
    [
      'a block larger than a transfer',
      withPhase({ blockSizes: [{ size: '64MiB' }] }),
      /phases\[0\]\.blockSizes: 64MiB exceeds the request limit \(32MiB\)/,
    ],
    [
      'a region past the end',
      withPhase({ pattern: { kind: 'uniform', region: { offset: '1MiB' } } }),
      /phases\[0\]\.pattern\.region: extends past the end of the image \(1MiB\)/,
    ],
    [
      'a region too small',
      withPhase({ pattern: { kind: 'uniform', region: { length: 512 } } }),
      /pattern\.region: has 512B: less than the largest block size, 4KiB/,
    ],
    [
      'a mistake inside a repeat',
      workloadJson({ phases: [{ repeat: 2, phases: [phaseJson({ requests: 0 })] }] }),
      /phases\[0\]\.phases\[0\]\.requests: must be at least 1/,
    ],
    [
      'a rule broken inside a repeat',
      workloadJson({ phases: [{ repeat: 2, phases: [phaseJson({ bytes: 512 })] }] }),
      /phases\[0\]\.phases\[0\]: needs exactly one/,
    ],
    [
      'a mistake in the prefill',
      workloadJson({ image: { size: '1MiB', prefill: [phaseJson({ bytes: 512 })] } }),
      /image\.prefill\[0\]: needs exactly one/,
    ],
    [
      'a backing file smaller than its fill',
      workloadJson({ image: { size: '1MiB', backing: { size: 512, fill: [phaseJson()] } } }),
      /image\.backing\.fill\[0\]\.pattern: has 512B/,
    ],
  ])('%s', (_, json, expected) => {
    const error = complaint(JSON.stringify(json));
    expect(error.code).toBe('bad-workload');
    expect(error.path).toBe('w.json');
    expect(error.message).toMatch(expected);
  });

  test.each<[string, string, number, number, RegExp]>([
    [
      'the line and column where JSON ends being JSON',
      '{\n  "name": "x",\n  "seed": 12x\n}',
      3,
      13,
      /not JSON/,
    ],
    [
      'the end of a file that was cut',
      '{\n  "name": "x"',
      2,
      14,
      /expected ',' or '}', found the end of the file/,
    ],
    ['a word that is no value', '{\n  "name": x\n}', 2, 11, /expected a value, found 'x'/],
    ['a comma too many', '{\n  "name": 1,\n}', 3, 1, /expected a field name in double quotes, found '}'/],
    ['the start of an empty file', '', 1, 1, /not JSON/],
    ['a bad token on the first line', 'hello', 1, 1, /not JSON/],
  ])('%s', (_, text, line, column, rule) => {
    const error = complaint(text);
    expect(error.code).toBe('bad-workload');
    expect(error.line).toBe(line);
    expect(error.message).toContain(`w.json, line ${String(line)}: column ${String(column)}: `);
    expect(error.message).toMatch(rule);
  });

  test('at most five complaints, and how many more there are', () => {
    const json = workloadJson({ name: 1, title: 1, description: 1, seed: 'x', image: 1, phases: 1 });
    expect(complaint(JSON.stringify(json)).message).toMatch(/and 1 more/);
  });
});

test('a file that begins with a byte order mark is read', () => {
  expect(parseWorkload(`\ufeff${JSON.stringify(workloadJson())}`, 'w.json').name).toBe('for-a-test');
});

test('a file that is missing or too large is refused before it is read', () => {
  const folder = testDirectory();
  const large = join(folder, 'large.json');
  writeFileSync(large, ' '.repeat(1024 * 1024 + 1));
  expect(() => readWorkload(large)).toThrow(/large\.json: has 1 MiB; a workload has at most 1 MiB/);
  expect(() => readWorkload(join(folder, 'none.json'))).toThrow(/none\.json: cannot be read \(ENOENT\)/);
});
