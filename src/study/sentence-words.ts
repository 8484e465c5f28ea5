/** Words that the sentences of an answer are made of. */

import { valueText } from './table.ts';

/** Places that a sentence lists at most. */
export const PLACES_MAX = 4;

/** What a sentence of a group is about; the values are filled in with those of the groups that share it. */
export function withinText(per: readonly string[]): string {
  const place = per.map((each) => valueText(each, `{${each}}`)).join(', ');
  return place === '' ? '' : `, ${place}`;
}

export function somePlaces(places: readonly string[]): string {
  const named = distinct(places.map((place) => (place === '' ? 'the cell' : place)));
  const shown = named.slice(0, PLACES_MAX);
  const rest = named.length - shown.length;
  return rest === 0 ? listed(shown) : `${shown.join('; ')} and ${String(rest)} more`;
}

export function filled(text: string, values: Readonly<Record<string, string>>): string {
  return text.replaceAll(/\{([^{}]*)\}/g, (whole, key: string) => values[key] ?? whole);
}

export function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** `a`, `a and b`, `a, b and c`. */
export function listed(texts: readonly string[]): string {
  const last = texts.at(-1) ?? '';
  return texts.length < 2 ? last : `${texts.slice(0, -1).join(', ')} and ${last}`;
}

export function eitherOf(texts: readonly string[]): string {
  const last = texts.at(-1) ?? '';
  return texts.length < 2 ? last : `${texts.slice(0, -1).join(', ')} or ${last}`;
}

export function distinct(texts: readonly string[]): readonly string[] {
  return [...new Set(texts)];
}
