/** What is said when a run is over, and the exit code it has. */

import { compareSides, resultSide } from '../../compare/compare-results.ts';
import { splitBy } from '../../compare/matching.ts';
import { wrapped } from '../../core/text-lines.ts';
import { visibleText, withVisibleText } from '../../core/visible-text.ts';
import { countOf } from '../../core/number-text.ts';
import { isFollowedQemu } from '../../format/qemu-profile.ts';
import { comparisonText } from '../../report/comparison/comparison-text.ts';
import { reportCells } from '../../report/report-cells.ts';
import { spokenHeadline, terminalSummary } from '../../report/terminal.ts';
import type { Parity, ResultRecord } from '../../result/schema.ts';
import type { MatrixOutcome } from '../../bench/run.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { isStandardOutput } from '../options/file-uses.ts';
import type { MatrixArgs } from '../options/matrix-options.ts';
import type { Sampling, SessionOutcome } from './matrix-session.ts';
import type { Terminal } from '../terminal/terminal.ts';

/** Lines of a usual terminal, less those that come after the table. */
const SCREEN_LINES = 30;

/** A file that was written: what it is, and where. */
export interface WrittenFile {
  readonly what: string;
  readonly path: string;
}

/** Prints the answer of a run that came to its end; answers the exit code of any. */
export function endMatrix(
  ended: SessionOutcome,
  { args, files }: { readonly args: MatrixArgs; readonly files: readonly WrittenFile[] },
  terminal: Terminal,
): number {
  if (ended.kind === 'interrupted') return EXIT.interrupted;
  const { result, outcome } = ended;
  const answer = args.json ? JSON.stringify(result) : summary(ended, files, terminal);
  const isTaken = files.some(({ path }) => isStandardOutput(path));
  const say = (text: string): void => {
    if (isTaken) terminal.warn(text);
    else terminal.print(text);
  };
  say(answer);
  const builds = args.json ? undefined : buildComparison(result, terminal);
  if (builds !== undefined) say(builds);
  const misfits = result.cells.filter(({ parity }) => parity !== undefined && failsParity(parity)).length;
  if (misfits > 0) {
    terminal.warn(`qcow2-bench: error: the builtin engine differs from QEMU in ${countOf(misfits, 'cell')}`);
    return EXIT.verdict;
  }
  if (!args.strict || outcome.skipped === 0) return EXIT.good;
  terminal.warn(`qcow2-bench: error: skipped: ${countOf(outcome.skipped, 'cell')}, and --strict is set`);
  return EXIT.error;
}

/** Builds of QEMU, each compared with the first; `undefined` if there are not several. */
function buildComparison(
  { environment, cells }: ResultRecord,
  { paint, width }: Terminal,
): string | undefined {
  const parts = splitBy(
    cells.filter(({ cell }) => cell.qemuBuild !== undefined),
    'qemuBuild',
  );
  if (parts.length < 2) return undefined;
  const sides = parts.map(({ value, items }) => resultSide(value, { environment, cells: items }));
  return `\n${comparisonText(compareSides(sides), { paint, width })}`;
}

/**
 * A QEMU without a measured profile may differ from the nearest profile: reported, but not a
 * failure.
 */
export function failsParity({ verdict, qemu, exceptions = [] }: Parity): boolean {
  // All that differs is a defect of QEMU that is known and not copied.
  if (exceptions.includes('qed-zero-over-backing')) return false;
  return verdict === 'different' && isFollowedQemu(qemu);
}

function summary(
  { result, outcome, sampling, elapsedMs }: Extract<SessionOutcome, { readonly kind: 'done' }>,
  files: readonly WrittenFile[],
  { paint, width }: Terminal,
): string {
  const column = Math.max(...files.map(({ what }) => what.length), 0);
  const seconds = (elapsedMs / 1000).toFixed(1);
  const text = terminalSummary(result, { paint, width }).trim();
  // A long table pushes the answer off the screen: it is said once more where the reader looks.
  const isLong = text.split('\n').length > SCREEN_LINES;
  const headline = isLong ? spokenHeadline(reportCells(withVisibleText(result))) : undefined;
  return [
    text,
    '',
    ...(headline === undefined ? [] : [...wrapped(headline, width).map(paint.bold), '']),
    ...samplingText(result, outcome, sampling).flatMap((line) => wrapped(line, width)),
    ...files.map(({ what, path }) => `${paint.dim(what.padEnd(column))}  ${visibleText(path)}`),
    paint.dim(`${countOf(result.cells.length, 'cell')} in ${seconds} s`),
  ].join('\n');
}

/**
 * How many samples were taken, and whether they are enough, where that was not fixed beforehand or
 * not reached.
 */
function samplingText(
  { cells }: ResultRecord,
  { timed }: MatrixOutcome,
  { samples, precision }: Sampling,
): readonly string[] {
  const taken = cells.map(({ timings }) => timings.length).filter((count) => count > 0);
  const [least, most] = [Math.min(...taken), Math.max(...taken)];
  if (taken.length === 0 || most <= 1) return [];
  if (precision === undefined) {
    if (most >= samples) return [];
    return [`The time limit allowed ${String(most)} of ${countOf(samples, 'timing round')}.`];
  }
  const range = least === most ? String(most) : `${String(least)} to ${String(most)}`;
  const reached = `${String(timed)} of ${countOf(taken.length, 'cell')} ${timed === 1 ? 'has' : 'have'} a median within ±${String(precision * 100)} %`;
  const more = timed < taken.length ? '; use a longer --time-limit or a quieter machine for more' : '';
  return [`Times: ${range} samples per cell; ${reached}${more}.`];
}
