/**
 * Changes in words: one sentence for a group, the same in the gate, in comparisons and in CI.
 *
 *     +1.00 sync per allocating write, l2-after-cow (copied data before its L2 entry)
 */

import { groupedText } from '../core/number-text.ts';
import { CAUSE_MEANINGS, PURPOSE_MEANINGS } from '../result/vocabulary.ts';
import type { GroupChange } from './change-groups.ts';
import type { Change, Subject } from './subject-change.ts';
import type { ChangeRate } from './change-rate.ts';

/** What changed and by how much, without the cells. */
export function changeText(change: GroupChange): string {
  const { subject, rate } = change;
  if (isMoved(change)) return `${nounOf(subject, 2)} in another phase, ${subjectText(subject)}`;
  const amount = `${amountText(rate, subject)} per ${rate.per}`;
  const where = phaseText(change);
  if (subject.kind === 'elided') return `${amount} (nothing was written since the last sync)${where}`;
  return `${amount}, ${subjectText(subject)}${bytesTextOf(change)}${where}`;
}

/** `l2-after-cow (copied data before its L2 entry)`. */
export function subjectText(subject: Subject): string {
  if (subject.kind === 'elided') return 'elided flushes';
  if (subject.kind === 'syncs') return `${subject.cause} (${CAUSE_MEANINGS[subject.cause]})`;
  return `${subject.purpose} (${PURPOSE_MEANINGS[subject.purpose]})`;
}

/** `syncs · l2-after-cow`: for tables and titles. */
export function subjectTitle(subject: Subject): string {
  if (subject.kind === 'elided') return 'elided flushes';
  return `${nounOf(subject, 2)} · ${subject.kind === 'syncs' ? subject.cause : subject.purpose}`;
}

/** `1,000 → 2,000`. */
export function beforeAfterText({ before, after }: Change): string {
  return `${groupedText(before)} → ${groupedText(after)}`;
}

/** `+1,000 (+100 %)`. */
export function differenceText({ before, after }: Change): string {
  const percent = before === 0 ? '' : ` (${signed((100 * (after - before)) / before, percentDigits)} %)`;
  return `${signed(after - before, groupedText)}${percent}`;
}

/** In how many cells of how many. */
export function cellsText(cells: number, all: number): string {
  if (all === 1) return 'in the only cell';
  if (cells === all) return `in all ${groupedText(all)} cells`;
  return `in ${groupedText(cells)} of ${groupedText(all)} cells`;
}

/** A number with its sign, a minus as the page prints it. */
export function signed(value: number, text: (magnitude: number) => string): string {
  return `${value < 0 ? '−' : '+'}${text(Math.abs(value))}`;
}

const NOUNS = {
  syncs: ['sync', 'syncs'],
  elided: ['elided flush', 'elided flushes'],
  writes: ['write', 'writes'],
  zeroRanges: ['zero-range', 'zero-ranges'],
  punchHoles: ['punch-hole', 'punch-holes'],
  truncates: ['truncate', 'truncates'],
  reads: ['read', 'reads'],
} as const satisfies Record<Subject['kind'], readonly [string, string]>;

/** The operation, in the number that fits. */
export function nounOf({ kind }: Subject, count: number): string {
  return NOUNS[kind][Math.abs(count) === 1 ? 0 : 1];
}

/** As many as before, of the same bytes: only the phase differs. */
function isMoved({ ops, bytes }: GroupChange): boolean {
  return ops.before === ops.after && bytes.before === bytes.after;
}

function amountText(rate: ChangeRate, subject: Subject): string {
  const noun = nounOf(subject, Number(rate.mean.toFixed(2)));
  if (rate.of === 'ops') return `${rangeText(rate)} ${noun}`;
  return `${rangeText(rate)} bytes in ${nounOf(subject, 2)}`;
}

/** The mean, and the range over the cells where they differ visibly. */
function rangeText({ mean, min, max, of }: ChangeRate): string {
  const text = (value: number): string => signed(value, of === 'bytes' ? bytesText : rateText);
  const [low, high] = [text(min), text(max)];
  return low === high ? text(mean) : `${text(mean)} (${low} to ${high})`;
}

function rateText(value: number): string {
  if (value >= 0.005 || value === 0) return value.toFixed(2);
  return value.toPrecision(1);
}

function bytesText(value: number): string {
  return groupedText(value < 10 ? Number(value.toPrecision(2)) : Math.round(value));
}

function percentDigits(value: number): string {
  return String(Number(value.toPrecision(3)));
}

/** What operations and bytes both changed by: the rate is of the operations. */
function bytesTextOf({ bytes, rate }: GroupChange): string {
  if (rate.of === 'bytes' || bytes.before === bytes.after) return '';
  return `, bytes ${beforeAfterText(bytes)}`;
}

/** Named unless it is in the unit of the rate. */
function phaseText({ phases, rate }: GroupChange): string {
  const [only, another] = phases;
  if (another !== undefined) return `, in the phases ${phases.join(', ')}`;
  if (only === undefined || only === 'run' || rate.per === only) return '';
  return `, in the phase ${only}`;
}
