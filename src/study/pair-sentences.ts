/**
 * Sentences about pairs of cells that differ on one axis: what changed, and what the change takes in
 * time.
 */

import { factorText, percentText } from '../report/numbers.ts';
import { modelName } from '../result/vocabulary.ts';
import type { Figure } from './figures.ts';
import { pairsOf, type Pair, type Scope } from './places.ts';
import type { RuleOf } from './schema.ts';
import { capital, distinct, filled, listed, somePlaces, withinText } from './sentence-words.ts';
import { compareRows, figureIn, requiredFigure, valueText, type StudyTable, type Verdict } from './table.ts';

interface JudgedPair extends Pair {
  readonly fromValue: number;
  readonly toValue: number;
  readonly verdict: Verdict;
}

export function changeText(rule: RuleOf<'change'>, scope: Scope): string | undefined {
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

export function timesText(rule: RuleOf<'times'>, scope: Scope): string | undefined {
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
