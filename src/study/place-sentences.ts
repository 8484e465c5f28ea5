/** Sentences about the values of an axis at each place: the least, all, enough, none. */

import type { Figure } from './figures.ts';
import { placesOf, type Scope } from './places.ts';
import type { RuleOf } from './schema.ts';
import { distinct, eitherOf, filled, listed, PLACES_MAX, somePlaces, withinText } from './sentence-words.ts';
import { compareRows, figureIn, placeText, requiredFigure, valuesOn } from './table.ts';

export function bestText(rule: RuleOf<'best'>, scope: Scope): string | undefined {
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

export function valuesText(rule: RuleOf<'values'>, scope: Scope): string | undefined {
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

export function enoughText(rule: RuleOf<'enough'>, scope: Scope): string | undefined {
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

export function zeroText(rule: RuleOf<'zero'>, { rows, table }: Scope): string | undefined {
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
