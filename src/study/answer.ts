/**
 * The sentences of a study, from its rules and its cells.
 *
 * Invariants:
 * - A rule without cells to compare gives no sentence.
 * - The sentence of a rule is said only if every pair or place that the rule looks at agrees; where
 *   they differ, a list of what each shows is said instead, in words of the program.
 * - A sampled time is in words only if the samples show a difference.
 */

import { modelName } from '../result/vocabulary.ts';
import { factorText, percentText } from '../report/numbers.ts';
import type { Figure } from './figures.ts';
import type { Rule, RuleOf, Study } from './schema.ts';
import {
  compareRows,
  figureIn,
  groupedBy,
  placeText,
  requiredFigure,
  rowsWhere,
  valuesOn,
  valueText,
  type StudyRow,
  type StudyTable,
  type Verdict,
} from './table.ts';
import { axisValue, NO_VALUE } from './axes.ts';

export interface Sentence {
  readonly about: string;
  readonly text: string;
}

/** Places that a sentence lists at most. */
const PLACES_MAX = 4;

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

interface Scope {
  readonly table: StudyTable;
  readonly rows: readonly StudyRow[];
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

interface Pair {
  readonly from: StudyRow;
  readonly to: StudyRow;
  readonly place: string;
}

/** Rows that differ in nothing but the axis, and in what one of the two does not have. */
function pairsOf(
  { axis, from, to, per }: Pick<RuleOf<'change'>, 'axis' | 'from' | 'to' | 'per'>,
  { table, rows }: Scope,
): readonly Pair[] {
  const shared = placeAxes(axis, table);
  const named = shared.filter((each) => !per.includes(each) && valuesOn(rows, each).length > 1);
  const [ones, others] = [rowsWhere(rows, { [axis]: [from] }), rowsWhere(rows, { [axis]: [to] })];
  return ones.flatMap((one) =>
    others
      .filter((other) => isSamePlace(one, other, shared))
      .map((other) => ({ from: one, to: other, place: placeText(other, named) })),
  );
}

function isSamePlace(one: StudyRow, other: StudyRow, axes: readonly string[]): boolean {
  return axes.every((axis) => {
    const values = [axisValue(one.cell, axis), axisValue(other.cell, axis)];
    return values[0] === values[1] || values.includes(NO_VALUE);
  });
}

/** Format, refcounts, and both in one, are three names of the same. */
function placeAxes(axis: string, { varying }: StudyTable): readonly string[] {
  const names = varying.filter((each) => each !== axis);
  switch (axis) {
    case 'variant':
      return names.filter((each) => each !== 'format' && each !== 'refcounts');
    case 'format':
    case 'refcounts':
      return varying.includes('variant')
        ? [...names.filter((each) => each !== 'variant'), axis === 'format' ? 'refcounts' : 'format']
        : names;
    default:
      return names;
  }
}

interface JudgedPair extends Pair {
  readonly fromValue: number;
  readonly toValue: number;
  readonly verdict: Verdict;
}

function changeText(rule: RuleOf<'change'>, scope: Scope): string | undefined {
  const figure = requiredFigure(rule.figure);
  const pairs = judged(pairsOf(rule, scope), figure, scope.table);
  const known = pairs.filter(({ verdict }) => verdict !== 'unknown');
  if (known.length === 0) return pairs.length > 0 && figure.isSampled === true ? NOT_KNOWN : undefined;
  const verdicts = new Set(known.map(({ verdict }) => verdict));
  if (verdicts.size === 1 && verdicts.has('same')) {
    const [first] = known;
    return rule.same === undefined || first === undefined
      ? undefined
      : filled(rule.same, changeValues(known, first, figure));
  }
  const isLess = !verdicts.has('more');
  const isMore = !verdicts.has('less');
  const text = isLess ? rule.less : isMore ? rule.more : undefined;
  if (text === undefined) return mixedText(rule, figure, known);
  const moved = known.filter(({ verdict }) => verdict !== 'same');
  const greatest = moved.toSorted((a, b) => effectOf(b) - effectOf(a))[0];
  if (greatest === undefined) return undefined;
  const rest = known.filter(({ verdict }) => verdict === 'same').map(({ place }) => place);
  const others = rest.length === 0 ? '' : ` No difference: ${somePlaces(rest)}.`;
  return filled(text, changeValues(moved, greatest, figure)) + others;
}

const NOT_KNOWN = 'Not known yet: there are too few samples. Use more --samples or a longer --time-limit.';

function judged(pairs: readonly Pair[], figure: Figure, table: StudyTable): readonly JudgedPair[] {
  return pairs.flatMap((pair): JudgedPair[] => {
    const [fromValue, toValue] = [figureIn(pair.from, figure), figureIn(pair.to, figure)];
    if (fromValue === null || toValue === null) return [];
    const verdict = compareRows(table, { row: pair.to, other: pair.from, figure });
    return [{ ...pair, fromValue, toValue, verdict }];
  });
}

/** How far a value moved, alike in both directions. */
function effectOf({ fromValue, toValue }: JudgedPair): number {
  if (fromValue === 0 || toValue === 0) return Infinity;
  return Math.abs(Math.log(toValue / fromValue));
}

function changeValues(
  pairs: readonly JudgedPair[],
  pair: JudgedPair,
  figure: Figure,
): Readonly<Record<string, string>> {
  const shares = distinct(pairs.toSorted((a, b) => effectOf(a) - effectOf(b)).map((each) => shareText(each)));
  const [least = '', most = ''] = [shares[0], shares.at(-1)];
  return {
    from: figure.text(pair.fromValue),
    to: figure.text(pair.toValue),
    change: shareText(pair),
    factor: pair.fromValue === 0 ? '–' : factorText(pair.toValue / pair.fromValue),
    range: least === most ? most : `${least} to ${most}`,
    place: pair.place === '' ? 'here' : pair.place,
    pairs: String(pairs.length),
  };
}

/** How much was saved or added, as a share of what it was. */
function shareText({ fromValue, toValue }: JudgedPair): string {
  if (fromValue === 0) return '–';
  const share = Math.abs(toValue - fromValue) / fromValue;
  if (share < 0.005) return 'less than 1 %';
  return toValue > 0 && share > 0.995 && share < 1 ? 'more than 99 %' : percentText(share);
}

/** `32 % less`, `3.2× as long`. */
function byText(pair: JudgedPair): string {
  const { fromValue, toValue, verdict } = pair;
  if (toValue >= 2 * fromValue && fromValue > 0) return `${factorText(toValue / fromValue)} as long`;
  return `${shareText(pair)} ${verdict === 'less' ? 'less' : 'more'}`;
}

/** What each pair shows, where no one sentence is true of all. */
function mixedText(
  { axis, from, to, per }: RuleOf<'change'>,
  { title, text }: Figure,
  pairs: readonly JudgedPair[],
): string {
  const partOf = (verdict: Verdict, word: string): readonly string[] => {
    const among = pairs
      .filter((pair) => pair.verdict === verdict)
      .toSorted((a, b) => effectOf(b) - effectOf(a));
    const [first] = among;
    if (first === undefined) return [];
    const places = somePlaces(among.map(({ place }) => place));
    if (verdict === 'same') return [`${word} for ${places}`];
    return [
      `${word} for ${places} (${text(first.toValue)} instead of ${text(first.fromValue)} there at most)`,
    ];
  };
  const parts = [...partOf('less', 'less'), ...partOf('same', 'the same'), ...partOf('more', 'more')];
  return `${capital(title)}${withinText(per)}, ${valueText(axis, to)} instead of ${valueText(axis, from)}: ${parts.join('; ')}.`;
}

/** What a sentence of a group is about; the values are filled in with those of the groups that share it. */
function withinText(per: readonly string[]): string {
  const place = per.map((each) => valueText(each, `{${each}}`)).join(', ');
  return place === '' ? '' : `, ${place}`;
}

function somePlaces(places: readonly string[]): string {
  const named = distinct(places.map((place) => (place === '' ? 'the cell' : place)));
  const shown = named.slice(0, PLACES_MAX);
  const rest = named.length - shown.length;
  return rest === 0 ? listed(shown) : `${shown.join('; ')} and ${String(rest)} more`;
}

interface Place {
  readonly name: string;
  /** One for each value, with the figure; in the order of the axis. */
  readonly cells: readonly { readonly row: StudyRow; readonly on: string; readonly value: number }[];
}

/** Rows by all but the axis; only places with several values. */
function placesOf(
  { axis, per }: { readonly axis: string; readonly per: readonly string[] },
  figure: Figure,
  { table, rows }: Scope,
): readonly Place[] {
  const shared = placeAxes(axis, table);
  const named = shared.filter((each) => !per.includes(each) && valuesOn(rows, each).length > 1);
  return [...groupedBy(rows, shared).values()].flatMap((group): Place[] => {
    const [first] = group;
    const cells = group.flatMap((row) => {
      const value = figureIn(row, figure);
      return value === null ? [] : [{ row, on: axisValue(row.cell, axis), value }];
    });
    if (first === undefined || cells.length < 2) return [];
    return [{ name: placeText(first, named), cells }];
  });
}

function bestText(rule: RuleOf<'best'>, scope: Scope): string | undefined {
  const figure = requiredFigure(rule.figure);
  const found = placesOf(rule, figure, scope).flatMap((place) => {
    const order = place.cells.toSorted((a, b) => a.value - b.value);
    const [least, most] = [order[0], order.at(-1)];
    if (least === undefined || most === undefined) return [];
    const best = place.cells.filter(({ row }) => {
      const verdict = compareRows(scope.table, { row, other: least.row, figure });
      return row === least.row || verdict === 'same' || verdict === 'unknown';
    });
    return [{ place, best, least, most }];
  });
  const [first] = found;
  if (first === undefined) return undefined;
  if (found.every(({ place, best }) => best.length === place.cells.length)) {
    return rule.tie === undefined ? undefined : filled(rule.tie, {});
  }
  const names = found.map(({ best }) => listed(best.map(({ on }) => on)));
  const greatest = found.toSorted((a, b) => ratioOf(b) - ratioOf(a))[0] ?? first;
  if (distinct(names).length === 1 && first.best.length === 1) {
    return filled(rule.one, {
      best: greatest.least.on,
      at: figure.text(greatest.least.value),
      worst: greatest.most.on,
      worstAt: figure.text(greatest.most.value),
      places: somePlaces(found.map(({ place }) => place.name)),
    });
  }
  const parts = [...Map.groupBy(found, ({ best }) => eitherOf(best.map(({ on }) => on)))].map(
    ([value, among]) => `${value} for ${somePlaces(among.map(({ place }) => place.name))}`,
  );
  return `Least ${figure.title}${withinText(rule.per)}, by ${rule.axis}: ${parts.join('; ')}.`;
}

function ratioOf({
  least,
  most,
}: {
  readonly least: { value: number };
  readonly most: { value: number };
}): number {
  return least.value === 0 ? most.value : most.value / least.value;
}

function valuesText(rule: RuleOf<'values'>, scope: Scope): string | undefined {
  const figure = requiredFigure(rule.figure);
  const places = placesOf(rule, figure, scope);
  if (places.length === 0) return undefined;
  const texts = places.slice(0, PLACES_MAX).map(({ name, cells }) => {
    const byText = Map.groupBy(cells, ({ value }) => figure.text(value));
    const parts = [...byText].map(([text, among]) => `${text} with ${listed(among.map(({ on }) => on))}`);
    return `${parts.join(', ')}${name === '' || places.length === 1 ? '' : ` (${name})`}`;
  });
  return filled(rule.text, { values: texts.join('; ') });
}

function enoughText(rule: RuleOf<'enough'>, scope: Scope): string | undefined {
  const figure = requiredFigure(rule.figure);
  const texts = placesOf(rule, figure, scope).flatMap(({ name, cells }): string[] => {
    const least = Math.min(...cells.map(({ value }) => value));
    const isEnough = (value: number): boolean =>
      value <= least * (1 + rule.within) || figure.text(value) === figure.text(least);
    // From there on: a value that is enough by chance, before one that is not, does not count.
    const at = cells.findLastIndex(({ value }) => !isEnough(value)) + 1;
    const [found, before, last] = [cells[at], cells[at - 1], cells.at(-1)];
    if (found === undefined) return [];
    const text = before === undefined ? rule.always : found === last ? (rule.last ?? rule.text) : rule.text;
    if (text === undefined) return [];
    const said = filled(text, {
      value: found.on,
      at: figure.text(found.value),
      before: before?.on ?? '–',
      beforeAt: before === undefined ? '–' : figure.text(before.value),
    });
    return [name === '' ? said : `${said.replace(/\.$/, '')} (${name}).`];
  });
  return texts.length === 0 ? undefined : distinct(texts).slice(0, PLACES_MAX).join(' ');
}

function zeroText(rule: RuleOf<'zero'>, { rows, table }: Scope): string | undefined {
  const figure = requiredFigure(rule.figure);
  const counted = rows.flatMap((row) => {
    const value = figureIn(row, figure);
    return value === null ? [] : [{ row, value }];
  });
  if (counted.length === 0) return undefined;
  const others = counted.filter(({ value }) => value !== 0);
  const total = rule.of === undefined ? undefined : requiredFigure(rule.of);
  const sum = (of: Figure): number => counted.reduce((all, { row }) => all + (figureIn(row, of) ?? 0), 0);
  const named = table.varying.filter((axis) => !rule.per.includes(axis) && valuesOn(rows, axis).length > 1);
  return filled(others.length === 0 ? rule.zero : rule.some, {
    count: figure.text(sum(figure)),
    total: total === undefined ? '–' : total.text(sum(total)),
    cells: String(counted.length),
    places: somePlaces(others.map(({ row }) => placeText(row, named))),
  });
}

function timesText(rule: RuleOf<'times'>, scope: Scope): string | undefined {
  const pairs = pairsOf(rule, scope);
  const [pair] = pairs;
  if (pair === undefined) return undefined;
  const shown: string[] = [];
  const notes: string[] = [];
  for (const device of scope.table.devices) {
    const model = modelName(device);
    const figure = requiredFigure(model === undefined ? 'time' : `time:${model}`);
    const [judgedPair] = judged([pair], figure, scope.table);
    const place = model ?? 'this machine';
    if (judgedPair === undefined) continue;
    const { fromValue, toValue, verdict } = judgedPair;
    if (verdict === 'unknown') notes.push(`on ${place} the difference is not known yet (too few samples)`);
    else if (verdict !== 'same') {
      const by = byText(judgedPair);
      shown.push(`on ${place} ${figure.text(toValue)} instead of ${figure.text(fromValue)} (${by})`);
    } else if (model === undefined) notes.push(`on ${place} no difference is shown`);
    else shown.push(`on ${place} ${figure.text(toValue)} with both`);
  }
  const place = pair.place === '' ? 'here' : pair.place;
  const values = `${valueText(rule.axis, rule.to)} instead of ${valueText(rule.axis, rule.from)}`;
  const sentences = [
    ...(shown.length === 0 ? [] : [filled(rule.text, { times: listed(shown), place })]),
    ...(notes.length === 0 ? [] : [`${capital(values)}${withinText(rule.per)}: ${listed(notes)}.`]),
  ];
  return sentences.length === 0 ? undefined : sentences.join(' ');
}

function filled(text: string, values: Readonly<Record<string, string>>): string {
  return text.replaceAll(/\{([^{}]*)\}/g, (whole, key: string) => values[key] ?? whole);
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** `a`, `a and b`, `a, b and c`. */
function listed(texts: readonly string[]): string {
  const last = texts.at(-1) ?? '';
  return texts.length < 2 ? last : `${texts.slice(0, -1).join(', ')} and ${last}`;
}

function eitherOf(texts: readonly string[]): string {
  const last = texts.at(-1) ?? '';
  return texts.length < 2 ? last : `${texts.slice(0, -1).join(', ')} or ${last}`;
}

function distinct(texts: readonly string[]): readonly string[] {
  return [...new Set(texts)];
}
