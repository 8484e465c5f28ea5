import { describe, expect, test } from 'vitest';

import type { Sentence } from '../../src/study/answer.ts';
import { readStudy } from '../../src/study/study-file.ts';
import { studyText } from '../../src/study/study-text.ts';
import { studyTable } from '../../src/study/table.ts';
import { smallResult, type SmallCell } from './small-study.ts';

const plain = (text: string): string => text;
const OPTIONS = { paint: { bold: plain, dim: plain, yellow: plain }, width: 100 };
const STUDY = readStudy('lazy-refcounts');
const SENTENCES: readonly Sentence[] = [
  { about: 'Syncs', text: 'The headline.' },
  { about: 'Bytes', text: 'Bytes of one.' },
  { about: 'Bytes', text: 'Bytes of two.' },
  { about: 'Time', text: 'Time of one.' },
  { about: 'Time', text: 'Time of two.' },
];

/** A line of the table for each. */
function manyCells(count: number): readonly SmallCell[] {
  return Array.from({ length: count }, (_, index) => ({ workload: `w${String(index).padStart(3, '0')}` }));
}

function textOf(cells: readonly SmallCell[], all: boolean, width = 100): readonly string[] {
  const table = studyTable(smallResult(cells));
  return studyText(STUDY, { sentences: SENTENCES, table }, { ...OPTIONS, width, all }).split('\n');
}

describe('the answer on a terminal', () => {
  test('is question, headline, and the first sentence about each thing', () => {
    const lines = textOf(manyCells(2), false);
    expect(lines.slice(0, 3)).toEqual([STUDY.question, '', 'The headline.']);
    expect(lines.filter((line) => /^(?:Bytes|Time) {2}/.test(line))).toEqual([
      'Bytes           Bytes of one.',
      'Time            Time of one.',
    ]);
    expect(lines).toContain('Not shown: 2 sentences; --all shows them.');
  });

  test('has the first lines of a long table, and counts the others', () => {
    const lines = textOf(manyCells(30), false);
    expect(lines.filter((line) => line.startsWith('w0'))).toHaveLength(24);
    expect(lines).toContain('Not shown: 2 sentences, 6 lines; --all shows them.');
  });

  test('leaves out columns that do not fit, and names them', () => {
    const cells = manyCells(3).flatMap((cell) => [cell, { ...cell, refcounts: 'lazy' as const }]);
    const lines = textOf(cells, false, 50);
    const table = lines.slice(lines.findIndex((line) => line.startsWith('workload')));
    for (const line of table.slice(0, 4)) expect(line.length).toBeLessThanOrEqual(50);
    expect(lines.join(' ')).toMatch(/2 sentences, 2 columns \(B\/write eager, B\/write lazy\)/);
  });

  test('is whole with --all', () => {
    const lines = textOf(manyCells(30), true, 40);
    expect(lines.filter((line) => line.startsWith('w0'))).toHaveLength(30);
    for (const { text } of SENTENCES) expect(lines.join('\n')).toContain(text);
    expect(lines.join('\n')).not.toContain('Not shown');
    expect(lines.join('\n')).toContain('B/write');
  });
});
