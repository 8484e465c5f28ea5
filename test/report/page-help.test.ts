/** The help of a page has the words of the documents, and each chart has its help. */

import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { expect, test } from 'vitest';

import { CACHE_HELP, CHART_HELP } from '../../src/report/page-help.ts';
import { CACHE_MODES } from '../../src/result/vocabulary.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** The items of a section, without their line breaks. */
function items(file: string, heading: string): readonly string[] {
  const text = readFileSync(join(ROOT, 'docs', file), 'utf8');
  const [, section = ''] = text.split(`\n## ${heading}\n`);
  const [own = ''] = section.split('\n## ');
  return own
    .split(/\n- /)
    .slice(1)
    .map((item) => item.split('\n\n')[0]?.replaceAll(/\s+/g, ' ').trim() ?? '');
}

test('docs/report.md has the help of each chart, and no other', () => {
  const shown = items('report.md', 'How to read each chart').map((item) =>
    item.replace(/^\*\*.*?\*\*: /, ''),
  );
  expect(shown).toEqual(Object.values(CHART_HELP));
});

test('docs/cache-modes.md has what each mode promises in the words of the page', () => {
  const shown = items('cache-modes.md', 'In one line each');
  expect(shown).toEqual(CACHE_MODES.map((mode) => `\`${mode}\`: ${CACHE_HELP[mode]}`));
});

test('each chart of the page has its help', () => {
  const sources = globSync('src/report/page/*.{ts,tsx}', { cwd: ROOT }).map((path) =>
    readFileSync(join(ROOT, path), 'utf8'),
  );
  const ids = sources.flatMap((source) =>
    [...source.matchAll(/(?:help|of)="([\w-]+)"/g)].map(([, id]) => id),
  );
  const measures = readFileSync(join(ROOT, 'src/report/page/measures.ts'), 'utf8');
  const own = [...measures.matchAll(/^ {6}id: '([\w-]+)'/gm)].map(([, id]) => id);
  expect([...own, ...ids].toSorted()).toEqual(Object.keys(CHART_HELP).toSorted());
});
