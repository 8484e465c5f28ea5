/** Text for terminals. */

import { groupedText } from '../../core/number-text.ts';

/** `comment lines 3, marks 1,200`. */
export function talliedText(entries: readonly { readonly what: string; readonly count: number }[]): string {
  return entries.map(({ what, count }) => `${what} ${groupedText(count)}`).join(', ');
}

const DURATIONS: readonly (readonly [unit: string, ns: number])[] = [
  ['days', 86_400e9],
  ['h', 3600e9],
  ['min', 60e9],
  ['s', 1e9],
  ['ms', 1e6],
  ['µs', 1e3],
];

/** `1.5 h`, `20 ms`: with three digits, in the largest unit of which there are two or more. */
export function shortDuration(ns: number): string {
  const [unit, unitNs] = DURATIONS.find(([, size]) => ns >= 2 * size) ?? ['ns', 1];
  return `${String(Number((ns / unitNs).toPrecision(3)))} ${unit}`;
}
