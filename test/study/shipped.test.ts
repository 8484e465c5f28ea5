/** The studies that ship: each is valid, runs, and answers. */

import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { format, resolveConfig } from 'prettier';
import { describe, expect, test } from 'vitest';

import { studyArgs } from '../../src/cli/options/study-options.ts';
import { EXIT } from '../../src/cli/terminal/exit-code.ts';
import { studyJsonSchema } from '../../src/study/schema.ts';
import { readStudy, studyNames } from '../../src/study/study-file.ts';
import { findSource } from '../../src/workload/library.ts';
import { callCli } from '../cli/call-cli.ts';
import { testDirectory } from '../test-directory.ts';

const QUESTIONS = 12;
/** Studies of real files, whose times and counts below are not taken here: they have no chart then. */
const ON_FILES = ['file-system', 'host-fs'];

test('docs/study.schema.json is the schema', async () => {
  const docs = new URL('../../docs/', import.meta.url);
  const style = await resolveConfig(docs);
  const expected = await format(JSON.stringify(studyJsonSchema()), { ...style, parser: 'json' });
  expect(readFileSync(new URL('study.schema.json', docs), 'utf8')).toBe(expected);
});

test('there is a study for each question, named as its file', async () => {
  expect(studyNames()).toHaveLength(QUESTIONS);
  for (const name of studyNames()) {
    const study = readStudy(name);
    expect(study.name).toBe(name);
    for (const workload of study.workloads) await findSource(workload);
    expect(() => studyArgs(study, {}, name)).not.toThrow();
  }
});

/** The study with as few crash states as show that they are tried. */
function fewStates(name: string): object {
  const path = new URL(`../../workloads/studies/${name}.json`, import.meta.url);
  const { crash, ...rest } = JSON.parse(readFileSync(path, 'utf8')) as Readonly<Record<string, unknown>>;
  return { ...rest, ...(crash === undefined ? {} : { crash: { requests: 3, states: 2 } }) };
}

interface Answered {
  readonly answer: readonly { readonly about: string; readonly text: string }[];
  readonly cells: readonly {
    readonly axes: object;
    readonly figures: Readonly<Record<string, number | null>>;
  }[];
  readonly skipped: readonly unknown[];
}

const MODELLED = ['--device', 'model:nvme-consumer'];

describe.each(studyNames())('%s', (name) => {
  const folder = testDirectory();

  test('answers over few requests, without a placeholder left', { timeout: 120_000 }, async () => {
    const [workload = ''] = readStudy(name).workloads;
    writeFileSync(join(folder, 'few.study'), JSON.stringify(fewStates(name)));
    const device = name === 'host-fs' ? ['--device', 'file', '--host-fs', 'f2fs'] : MODELLED;
    const few = ['--workload', workload, '--requests', '8', '--samples', '1', ...device];
    const words = ['study', './few.study', ...few, '--output', '.', '--json'];
    const { code, stdout, stderr } = await callCli(folder, ...words);
    expect(code, stderr).toBe(EXIT.good);
    const { answer, cells } = JSON.parse(stdout) as Answered;
    expect(answer.length).toBeGreaterThan(0);
    for (const { text } of answer) expect(text).not.toMatch(/[{}]|undefined|NaN|null/);
    expect(cells.length).toBeGreaterThan(1);
    expect(new Set(cells.map(({ axes }) => JSON.stringify(axes))).size).toBe(cells.length);
    const written = readdirSync(folder).filter((file) => file.startsWith(`${name}.`));
    const endings = ON_FILES.includes(name) ? ['csv', 'json', 'md'] : ['csv', 'json', 'md', 'svg'];
    expect(written.toSorted()).toEqual(endings.map((ending) => `${name}.${ending}`));
    const lines = readFileSync(join(folder, `${name}.csv`), 'utf8')
      .trimEnd()
      .split('\n');
    expect(lines).toHaveLength(cells.length + 1);
  });
});
