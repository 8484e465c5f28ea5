/**
 * docs/answers.md has every study that ships, and the figures that it predicts are near the
 * published ones.
 */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { expect, test } from 'vitest';

import { publishedFigures } from '../../scripts/published-figures.ts';
import { readStudy, studyNames } from '../../src/study/study-file.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const DOCUMENT = readFileSync(join(ROOT, 'docs/answers.md'), 'utf8');

test.each(studyNames())('%s has a section with its question, chart and command', (name) => {
  const [, section = ''] = DOCUMENT.split(`<!-- section ${name} -->`);
  expect(section).toContain(`## ${readStudy(name).question}\n`);
  expect(section).toContain(`(answers/${name}.svg)`);
  expect(section).toContain(`$ qcow2-bench study ${name}\n`);
  expect(existsSync(join(ROOT, 'docs/answers', `${name}.svg`))).toBe(true);
});

test(
  'published figures are predicted within 5 %, and are those of the document',
  { timeout: 300_000 },
  async () => {
    const figures = await publishedFigures();
    const ratios = figures.flatMap(({ ratio }) => (ratio === undefined ? [] : [ratio]));
    expect(ratios.length).toBeGreaterThan(4);
    for (const ratio of ratios) expect(Math.abs(ratio - 1)).toBeLessThan(0.05);
    for (const { figure, ours } of figures) {
      expect(DOCUMENT).toContain(figure);
      expect(DOCUMENT).toContain(ours);
    }
  },
);
