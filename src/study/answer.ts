/**
 * The sentences of a study, from its rules and its cells.
 *
 * Invariants:
 * - A rule without cells to compare gives no sentence.
 * - The sentence of a rule is said only if every pair or place that the rule looks at agrees; where
 *   they differ, a list of what each shows is said instead, in words of the program.
 * - A sampled time is in words only if the samples show a difference.
 */

import { axisValue, NO_VALUE } from './axes.ts';
import { changeText, timesText } from './pair-sentences.ts';
import { bestText, enoughText, valuesText, zeroText } from './place-sentences.ts';
import { isSamePlace, type Scope } from './places.ts';
import type { Rule, Study } from './schema.ts';
import { filled, listed } from './sentence-words.ts';
import { groupedBy, rowsWhere, valuesOn, type StudyRow, type StudyTable } from './table.ts';

export interface Sentence {
  readonly about: string;
  readonly text: string;
}

/** All sentences, in the order of the rules; the first is the headline. */
export function answerOf({ answer }: Pick<Study, 'answer'>, table: StudyTable): readonly Sentence[] {
  return answer.flatMap((rule) => sentencesOf(rule, table));
}

/** One for each value of `per`; values with the same sentence share it. */
function sentencesOf(rule: Rule, table: StudyTable): readonly Sentence[] {
  const rows = rowsWhere(table.rows, rule.where);
  const said = groupsOf(rows, rule.per).flatMap((group) => {
    const [first] = group;
    const text = first === undefined ? undefined : textOf(rule, { table, rows: group });
    return first === undefined || text === undefined ? [] : [{ row: first, text }];
  });
  return [...Map.groupBy(said, ({ text }) => text)].flatMap(([text, among]) =>
    blocksOf(
      among.map(({ row }) => row),
      rule.per,
    ).map((block) => ({
      about: rule.about,
      text: filled(text, Object.fromEntries(rule.per.map((axis) => [axis, listed(valuesOn(block, axis))]))),
    })),
  );
}

/**
 * Rows in blocks whose values on the axes can be listed each by itself: every combination of the
 * listed values is there.
 */
function blocksOf(rows: readonly StudyRow[], axes: readonly string[]): readonly (readonly StudyRow[])[] {
  const combinations = axes.reduce((product, axis) => product * valuesOn(rows, axis).length, 1);
  const split = axes.find((axis) => valuesOn(rows, axis).length > 1);
  if (combinations === rows.length || split === undefined) return [rows];
  return [...groupedBy(rows, [split]).values()].flatMap((block) => blocksOf(block, axes));
}

/** By the values on the axes; a row that has no value on one is in every group. */
function groupsOf(rows: readonly StudyRow[], axes: readonly string[]): readonly (readonly StudyRow[])[] {
  const isWhole = ({ cell }: StudyRow): boolean => axes.every((axis) => axisValue(cell, axis) !== NO_VALUE);
  const others = rows.filter((row) => !isWhole(row));
  const groups = [...groupedBy(rows.filter(isWhole), axes).values()];
  return groups.length === 0
    ? [...groupedBy(rows, axes).values()]
    : groups.map((group) => [
        ...group,
        ...others.filter((row) => group.some((each) => isSamePlace(row, each, axes))),
      ]);
}

/** The placeholders of `per` are left as they are. */
function textOf(rule: Rule, scope: Scope): string | undefined {
  switch (rule.kind) {
    case 'change':
      return changeText(rule, scope);
    case 'best':
      return bestText(rule, scope);
    case 'values':
      return valuesText(rule, scope);
    case 'enough':
      return enoughText(rule, scope);
    case 'zero':
      return zeroText(rule, scope);
    case 'times':
      return timesText(rule, scope);
  }
}
