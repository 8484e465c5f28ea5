/**
 * The file of a history: read whole, and appended to a line at a time.
 *
 * Invariant: no line is changed or removed. Only what a killed process left behind the last line
 * feed can be taken away, on request, and only if it is the beginning of a line of a history.
 */

import { Qcow2BenchError } from '../../core/error.ts';
import { LIMITS } from '../../core/limits.ts';
import { countOf } from '../../core/number-text.ts';
import { readBoundedBytes } from '../../result/checked-json.ts';
import { appendShared } from '../../device/shared-append.ts';
import { haveSameCounts, lineText, type HistoryLine } from '../../history/history-line.ts';
import { parseHistory, type ParsedHistory, type TornLine } from '../../history/history.ts';

export const DEFAULT_HISTORY = 'history.jsonl';

export interface AppendedLines {
  /** Lines that were appended, and the number of the first. */
  readonly added: readonly HistoryLine[];
  readonly firstLine: number;
  /** Lines that the file has already, with their numbers. */
  readonly known: readonly (readonly [line: HistoryLine, number: number])[];
  /** What was taken away. */
  readonly repaired: TornLine | undefined;
}

/** @throws Qcow2BenchError `history-unreadable`, `history-too-large`, those of `parseHistory`. */
export function readHistory(path: string): ParsedHistory {
  return parseHistory(readBoundedBytes(path, { kind: 'history', sizeMax: LIMITS.historyFileBytes }), path);
}

/**
 * Appends lines that the file does not have.
 *
 * @throws Qcow2BenchError `history-torn`; `history-doubled` if the file has a commit of this
 *   environment with other counts; those of `parseHistory` and `appendShared`. Nothing is appended
 *   then.
 */
export function appendHistory(
  path: string,
  lines: readonly HistoryLine[],
  { repair }: { readonly repair: boolean },
): AppendedLines {
  let appended: AppendedLines | undefined;
  appendShared(path, {
    sizeMax: LIMITS.historyFileBytes,
    append: (content) => {
      const history = parseHistory(content, path);
      const { torn } = history;
      if (torn !== undefined && !(repair && torn.isOurs)) throw tornError(path, torn);
      const known = knownLines(history, lines, path);
      const added = lines.filter((line) => !known.some(([other]) => other === line));
      appended = { added, firstLine: history.lines.length + 1, known, repaired: torn };
      if (added.length === 0 && torn === undefined) return undefined;
      const defined = new Set<string>();
      const texts = added.map((line) => {
        const text = lineText(line, (name) => history.isKnown(name) || defined.has(name));
        for (const name of Object.keys(line.cells)) defined.add(name);
        return text;
      });
      const bytes = Buffer.from((history.isUnended ? '\n' : '') + texts.join(''));
      return torn === undefined ? { bytes } : { bytes, keep: torn.offset };
    },
  });
  if (appended === undefined) throw new Error('internal error: nothing was appended');
  return appended;
}

/** A sentence about a line that is not whole. */
export function tornText({ line, bytes }: TornLine): string {
  return `line ${String(line)}: the file ends within this line (${countOf(bytes, 'byte')}): a process that added to it was killed`;
}

function tornError(path: string, torn: TornLine): Qcow2BenchError {
  const advice = torn.isOurs
    ? 'history add with --repair takes it away, and add its result again'
    : 'it is no line of a history: name a history, or a new file';
  const what = torn.isOurs ? tornText(torn).replace(/^line \d+: /, '') : 'the file ends within this line';
  return new Qcow2BenchError('history-torn', `${what}; ${advice}`, { path, line: torn.line });
}

function knownLines(
  history: ParsedHistory,
  lines: readonly HistoryLine[],
  path: string,
): readonly (readonly [HistoryLine, number])[] {
  return lines.flatMap((line) => {
    const number = history.lineOf(line);
    if (number === undefined) return [];
    const other = history.lines[number - 1];
    if (other !== undefined && haveSameCounts(other, line)) return [[line, number] as const];
    const message = `has commit ${line.commit} in this environment already, with other counts: exact counts of one commit do not differ; check which result is of it. Nothing was added`;
    throw new Qcow2BenchError('history-doubled', message, { path, line: number });
  });
}
