/** Two host logs compared, for a terminal: the first difference with its neighbours, side by side. */

import { subjectTitle, beforeAfterText, differenceText } from '../../compare/change-text.ts';
import type { SubjectChange } from '../../compare/subject-change.ts';
import type {
  GuestRequest,
  HostLogRecord,
  LogComparison,
  LogDifference,
  ShownOperation,
} from '../../compare/host-logs.ts';
import { hex } from '../../core/error.ts';
import { aligned } from '../../core/text-lines.ts';
import { withVisibleText } from '../../core/visible-text.ts';
import { groupedText } from '../../core/number-text.ts';

export interface LogTextOptions {
  readonly names: readonly [before: string, after: string];
  readonly paint?: Readonly<Record<'bold' | 'dim' | 'red', (text: string) => string>>;
}

/** Lines joined by line feeds, without one at the end. */
export function logComparisonText(given: LogComparison, { names, paint = PLAIN }: LogTextOptions): string {
  const { operationsBefore, operationsAfter, first, totals } = withVisibleText(given);
  const sides = aligned([
    ['A', names[0], `${groupedText(operationsBefore)} host operations`],
    ['B', names[1], `${groupedText(operationsAfter)} host operations`],
  ]);
  if (first === undefined) {
    return [
      ...sides.map(paint.dim),
      '',
      paint.bold('All host operations are the same, in the same order.'),
    ].join('\n');
  }
  return [
    ...sides.map(paint.dim),
    '',
    paint.bold(differenceSentence(first)),
    '',
    ...neighbourhood('A', first.before, paint),
    '',
    ...neighbourhood('B', first.after, paint),
    ...(totals.length === 0
      ? ['', 'In sum, purposes and causes are the same: only order or places differ.']
      : ['', 'In sum:', ...totalLines(totals)]),
  ].join('\n');
}

/** `Operation 1,204 differs, in request 17 (write of 4096 bytes at 0x14000): B has 1 more`. */
export function differenceSentence(difference: LogDifference): string {
  const { index, kind, request, guest, before, after } = difference;
  const where =
    request === undefined
      ? `in the phase ${phaseOf(difference)}`
      : `in request ${groupedText(request)}${guest === undefined ? '' : ` (${guestText(guest)})`}`;
  const [removed, added] = [before, after].map((shown) => shown.filter(({ isDifferent }) => isDifferent));
  const what = {
    added: `B adds ${operationsText(added)}`,
    removed: `B lacks ${operationsText(removed)}`,
    changed: `A has ${operationsText(removed)}, B has ${operationsText(added)}`,
  }[kind];
  return `Host operation ${groupedText(index)} (from 0) differs, ${where}: ${what}.`;
}

/** `write of 4096 bytes at guest offset 0x14000, FUA`. */
export function guestText({ op, offset, length, fua }: GuestRequest): string {
  if (offset === undefined || length === undefined) return op;
  return `${op} of ${String(length)} bytes at guest offset ${hex(offset)}${fua === true ? ', FUA' : ''}`;
}

/** `sync l2-after-cow`, `write l2-table 0x40000 +65536`. */
export function operationText(record: HostLogRecord): string {
  const file = record.file === 'image' ? '' : ` (${record.file})`;
  if (record.op === 'sync') return `sync ${record.cause}${file}`;
  const { op, offset, length, purpose, parts } = record;
  const shares = parts?.map(([part, bytes]) => `${part} ${String(bytes)}`).join(', ') ?? purpose;
  return `${op} ${shares} ${hex(offset)} +${String(length)}${file}`;
}

function phaseOf({ before, after }: LogDifference): string {
  return [...after, ...before].find(({ isDifferent }) => isDifferent)?.record.phase ?? 'close';
}

function operationsText(operations: readonly ShownOperation[] | undefined): string {
  const [first, ...others] = operations ?? [];
  if (first === undefined) return 'nothing more';
  const text = operationText(first.record);
  return others.length === 0 ? text : `${text} and ${String(others.length)} more`;
}

function neighbourhood(
  title: string,
  operations: readonly ShownOperation[],
  paint: NonNullable<LogTextOptions['paint']>,
): readonly string[] {
  const rows = operations.map(({ line, record, isDifferent }) => [
    isDifferent ? '>' : ' ',
    String(line),
    record.phase,
    record.request === undefined ? '' : `request ${String(record.request)}`,
    operationText(record),
  ]);
  return aligned([['', 'line', 'phase', '', `operation (${title})`], ...rows], { numeric: [1] }).map(
    (line, index) => {
      if (index === 0) return paint.dim(line);
      return operations[index - 1]?.isDifferent === true ? paint.red(line) : line;
    },
  );
}

function totalLines(totals: readonly SubjectChange[]): readonly string[] {
  const rows = totals.map(({ subject, ops, bytes }) => {
    const amounts = ops.before === ops.after ? bytes : ops;
    const unit = ops.before === ops.after ? ' B' : '';
    return [subjectTitle(subject), `${beforeAfterText(amounts)}${unit}`, differenceText(amounts)];
  });
  return aligned(rows, { indent: 2, numeric: [1] });
}

function same(text: string): string {
  return text;
}

const PLAIN = { bold: same, dim: same, red: same };
