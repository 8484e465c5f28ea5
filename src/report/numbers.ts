/**
 * How the report writes numbers: one way for page, terminal and Markdown. A figure that does not
 * exist is `–`.
 */

import { groupedText } from '../core/number-text.ts';
import { relativeHalfWidth, type Interval } from '../result/bootstrap.ts';

const NONE = '–';
/** Below this a rate has one digit that counts, lest 0.005 be shown as 0.01. */
const SMALL_RATE = 0.095;
const SMALLEST_RATE = 0.0005;

/** Operations per write: `2.00`, `0.005`, `0`. */
export function rateText(value: number | null | undefined): string {
  if (value === null || value === undefined) return NONE;
  if (value === 0) return '0';
  if (value < SMALLEST_RATE) return '<0.001';
  return value < SMALL_RATE ? String(Number(value.toPrecision(1))) : value.toFixed(2);
}

/** Whole bytes, groupedText: `135,168`. */
export function bytesText(value: number | null | undefined): string {
  return value === null || value === undefined ? NONE : groupedText(Math.round(value));
}

/** A ratio: `33.0×`, `1.00×`. */
export function factorText(value: number | null | undefined): string {
  if (value === null || value === undefined) return NONE;
  return `${value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0)}×`;
}

/** A duration given in nanoseconds, in microseconds: `412 µs`, `8.3 µs`. */
export function microsecondsText(nanoseconds: number | undefined): string {
  if (nanoseconds === undefined) return NONE;
  const value = nanoseconds / 1000;
  return `${value < 100 ? value.toFixed(1) : groupedText(Math.round(value))} µs`;
}

/** A duration given in nanoseconds, of any length: `8.3 µs`, `412 ms`, `1.52 s`. */
export function durationText(nanoseconds: number | undefined): string {
  if (nanoseconds === undefined) return NONE;
  if (nanoseconds === 0) return '0 µs';
  const unit = nanoseconds < 1e6 ? 'µs' : nanoseconds < 1e9 ? 'ms' : 's';
  const unitNs = { µs: 1e3, ms: 1e6, s: 1e9 }[unit];
  const value = nanoseconds / unitNs;
  return `${value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0)} ${unit}`;
}

/** A share from 0 to 1: `50 %`. */
export function percentText(share: number): string {
  return `${String(Math.round(share * 100))} %`;
}

/** A relative difference: `+8 %`, `−12 %`. */
export function signedPercentText(difference: number): string {
  const percent = Math.round(difference * 100);
  return percent < 0 ? `−${String(-percent)} %` : `+${String(percent)} %`;
}

/** The half-width of an interval as a share of its estimate: `±3 %`, `±0.4 %`. */
export function plusMinusText(interval: Interval): string {
  const percent = relativeHalfWidth(interval) * 100;
  return `±${percent < 0.95 ? percent.toFixed(1) : String(Math.round(percent))} %`;
}

/**
 * A sampled figure: its median, and the interval where a reader can distinguish its ends:
 * `2.01 (2.00–2.05)`.
 */
export function rangeText(
  median: number | null,
  interval: Interval | undefined,
  text: (value: number | null) => string,
): string {
  if (interval === undefined) return text(median);
  const [low, high] = [text(interval.low), text(interval.high)];
  return low === high ? text(median) : `${text(median)} (${low}–${high})`;
}
