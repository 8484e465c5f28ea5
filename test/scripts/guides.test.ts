/** What guides a reader through the sources exists where it is needed and names what exists. */

import { existsSync, globSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

test('a folder of src/ with more than five files has a short README.md', () => {
  const folders = globSync('src/**/', { cwd: ROOT }).filter(
    (folder) => readdirSync(join(ROOT, folder)).filter((name) => name.endsWith('.ts')).length > 5,
  );
  expect(folders.length).toBeGreaterThan(10);
  for (const folder of folders) {
    const readme = join(ROOT, folder, 'README.md');
    expect(existsSync(readme), `${folder} has a README.md`).toBe(true);
    expect(readFileSync(readme, 'utf8').split('\n').length, readme).toBeLessThanOrEqual(30);
  }
});

test('the glossary names what the file beside it defines', () => {
  const rows = readFileSync(join(ROOT, 'docs/glossary.md'), 'utf8').matchAll(
    /^\| `.*?\|(.*?)\|\s*`(.*?)`\s*\|$/gm,
  );
  let names = 0;
  for (const [, ours = '', file = ''] of rows) {
    const text = readFileSync(join(ROOT, file), 'utf8');
    for (const [, name = ''] of ours.matchAll(/`(.*?)`/g)) {
      expect(text, `${file} has ${name}`).toContain(name);
      names++;
    }
  }
  expect(names).toBeGreaterThan(20);
});

test.each([
  ['CONTRIBUTING.md', 20],
  ['SECURITY.md', 20],
  ['docs/durability.md', 5],
])('files that %s names by their paths exist', (guide, least) => {
  const text = readFileSync(join(ROOT, guide), 'utf8');
  const paths = [...text.matchAll(/`((?:src|test|docs|scripts|results)\/[^` ]*)`/g)]
    .map(([, path = '']) => path)
    .filter((path) => !path.includes('NAME'));
  expect(paths.length).toBeGreaterThan(least);
  for (const path of paths) expect(existsSync(join(ROOT, path)), path).toBe(true);
});

test('each promise of SECURITY.md names its test', () => {
  const rows = readFileSync(join(ROOT, 'SECURITY.md'), 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('|') && !/^\|\s*(promise\b|-)/.test(line));
  expect(rows.length).toBeGreaterThan(20);
  for (const row of rows) expect(row.split('|')[2], row).toMatch(/`test\/\S+\.test\.ts`/);
});
