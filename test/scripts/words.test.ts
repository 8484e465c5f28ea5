/** The words that docs/style.md refuses are in no source, document, message or test title. */

import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** Below these and at the root; the style guide and this file have to name the words. */
const FILES = [
  '*.md',
  '*.ts',
  '*.mjs',
  '*.cjs',
  '{src,test,docs,scripts,examples,workloads}/**/*.{ts,md,mjs,sh}',
];
const NAMING_THE_WORDS = ['docs/style.md', 'test/scripts/words.test.ts'];

/** `lies(` and the like are calls; what a file or a table does is said otherwise. */
const REFUSED: readonly (readonly [RegExp, string])[] = [
  [/\bwhoever\b/i, 'name the caller, client or reader'],
  [/\bnobody\b/i, 'name who does not, or use the passive'],
  [/\banew\b/i, 'again, new, from scratch'],
  [/\bmend(s|ed|ing)?\b/i, 'repair, fix'],
  [/\bto be had\b/i, 'available'],
  [/\bfor want of\b/i, 'without, missing'],
  [/\bunder way\b/i, 'in flight, running, current'],
  [/\bsays of itself\b/i, 'contains; information about'],
  [/\blies\b(?!\()/i, 'is at, is in'],
  [/\bstands\b(?! out\b)/i, 'is in, means'],
  [/\btells\b/i, 'reports, prints, returns, shows'],
  [/\btold (from|apart|of|before)\b/i, 'detected from, distinguished, reported'],
  [/\b(is|are|was|were) told\b/i, 'is reported, is printed'],
  [/\bthere is no such\b/i, 'does not exist, unknown'],
  [/\bis written over\b/i, 'is overwritten'],
];

interface Finding {
  readonly place: string;
  readonly word: string;
  readonly instead: string;
}

/** What begins a line of a comment, a quotation or a list. */
const LINE_MARK = /^\s*(?:\/\/|\/?\*\*?(?!\/)|#+(?= )|>|-(?= ))?\s*/;

/** Also what a line break divides. */
function refusedIn(name: string, text: string): readonly Finding[] {
  const lines = text.split('\n');
  return lines.flatMap((line, index) => {
    const start = line.trimEnd();
    const joined = `${start} ${(lines[index + 1] ?? '').replace(LINE_MARK, '')}`;
    return REFUSED.flatMap(([pattern, instead]) => {
      const found = pattern.exec(joined);
      // What begins in the next line is a finding there.
      if (found === null || found.index >= start.length) return [];
      return [{ place: `${name}:${String(index + 1)}`, word: found[0], instead }];
    });
  });
}

test('no file has a refused word; each finding has its line and a better word', () => {
  const names = globSync(FILES, { cwd: ROOT }).filter((name) => !NAMING_THE_WORDS.includes(name));
  expect(names.length).toBeGreaterThan(500);
  const findings = names.flatMap((name) => refusedIn(name, readFileSync(join(ROOT, name), 'utf8')));
  expect(findings.map(({ place, word, instead }) => `${place}: not '${word}', but: ${instead}`)).toEqual([]);
});

/**
 * Columns of a comment, as .editorconfig has it; tables and drawings are indented and may be wider.
 */
const COMMENT_WIDTH = 110;
const PROSE_COMMENT = /^ *(\/\/|\/\*\*|\*) \S/;

function wideComments(name: string, text: string): readonly string[] {
  return text
    .split('\n')
    .flatMap((line, index) =>
      PROSE_COMMENT.test(line) && line.length > COMMENT_WIDTH ? [`${name}:${String(index + 1)}`] : [],
    );
}

test('comments fit the width of .editorconfig', () => {
  const names = globSync(FILES, { cwd: ROOT }).filter((name) => !name.endsWith('.md'));
  expect(names.flatMap((name) => wideComments(name, readFileSync(join(ROOT, name), 'utf8')))).toEqual([]);
  expect(wideComments('a.ts', `\n  // ${'wide '.repeat(22)}`)).toEqual(['a.ts:2']);
});

test.each([
  ['// Whoever opens it closes it.', 'Whoever'],
  [' * nobody reads it', 'nobody'],
  ["it('is written anew', () => {", 'anew'],
  ["'mended 2 clusters'", 'mended'],
  ['where it is not to be had', 'to be had'],
  ['skipped for want of QEMU', 'for want of'],
  ['the requests under way', 'under way'],
  ['what an image says of itself', 'says of itself'],
  ['where qemu-io lies', 'lies'],
  ['the table stands in the header', 'stands'],
  ['it tells how much', 'tells'],
  ['default: told from the content', 'told from'],
  ['the client is told', 'is told'],
  ['there is no such file', 'there is no such'],
  ['a file that is there is written over', 'is written over'],
  [' * it cannot be told\n * apart', 'told apart'],
  ['  // for want\n  // of', 'for want of'],
  ['text under\nway', 'under way'],
  ['- is not to\n  be had', 'to be had'],
])('%s: refused', (line, word) => {
  expect(refusedIn('a.ts', `first\n${line}`)).toMatchObject([{ place: 'a.ts:2', word }]);
});

test.each(['const isInside = lies(name, directory);', 'what stands out', 'amendment, renew, toldAll'])(
  '%s: allowed',
  (line) => {
    expect(refusedIn('a.ts', line)).toEqual([]);
  },
);
