/**
 * A history in memory: its lines, checked, with what their digests mean.
 *
 * Invariants:
 * - Every whole line is a line of a history, or the file is refused with the number of the first
 *   that is not. Only what follows the last line feed may be torn: a killed process leaves that.
 * - Entries are in the order of their dates; lines of one date in the order of the file.
 * - Lines that two processes added for one commit and environment are one if they agree.
 */

import { Qcow2BenchError } from '../core/error.ts';
import type { CellCounts } from '../compare/cell-counts.ts';
import type { Cell } from '../result/schema.ts';
import { environmentKey, type EnvironmentFacts } from './environment-facts.ts';
import {
  digestOf,
  haveSameCounts,
  HISTORY_SCHEMA,
  historyLineSchema,
  isCounted,
  lineKey,
  type HistoryCell,
  type HistoryLine,
} from './history-line.ts';

export interface HistoryEntry {
  /** Of the file, from 1. */
  readonly line: number;
  readonly commit: string;
  /** ISO 8601. */
  readonly date: string;
  readonly harness: string;
  readonly environment: EnvironmentFacts;
  readonly environmentKey: string;
  readonly counted: readonly CellCounts[];
  readonly timed: readonly TimedEntry[];
}

export interface TimedEntry {
  readonly cell: Cell;
  /** Per request. */
  readonly medianNs: number;
  readonly samples: number;
}

/** What follows the last line feed of a file, if that is no line. */
export interface TornLine {
  /** From 1. */
  readonly line: number;
  /** Bytes from the start of the file. */
  readonly offset: number;
  readonly bytes: number;
  /** Whether it is the beginning of a line of a history. */
  readonly isOurs: boolean;
}

export interface ParsedHistory {
  /** As in the file. */
  readonly lines: readonly HistoryLine[];
  readonly torn: TornLine | undefined;
  /** Whether the last line lacks its line feed, and is whole. */
  readonly isUnended: boolean;
  readonly isKnown: (digest: string) => boolean;
  /** The line, from 1, of a commit in an environment. */
  readonly lineOf: (line: HistoryLine) => number | undefined;
}

const LINE_FEED = 0x0a;
const START = `{"schema":"${HISTORY_SCHEMA.replace(/@.*$/, '@')}`;

/** @throws Qcow2BenchError `history-invalid` or `history-schema-version`, with the line. */
export function parseHistory(bytes: Buffer, path: string): ParsedHistory {
  const lines: HistoryLine[] = [];
  const known = new Set<string>();
  const numbers = new Map<string, number>();
  const add = (line: HistoryLine, number: number): void => {
    lines.push(line);
    for (const name of Object.keys(line.cells)) known.add(name);
    const key = lineKey(line);
    if (!numbers.has(key)) numbers.set(key, number);
  };
  const parsed = {
    lines,
    isKnown: (name: string) => known.has(name),
    lineOf: (line: HistoryLine) => numbers.get(lineKey(line)),
  };
  let number = 0;
  for (let start = 0; start < bytes.length;) {
    number++;
    const end = bytes.indexOf(LINE_FEED, start);
    const text = bytes.toString('utf8', start, end < 0 ? bytes.length : end);
    if (end < 0) {
      if (isJson(text)) {
        add(checkedLine(text, path, number), number);
        return { ...parsed, torn: undefined, isUnended: true };
      }
      const isOurs = text.startsWith(START) || START.startsWith(text);
      const torn = { line: number, offset: start, bytes: bytes.length - start, isOurs };
      return { ...parsed, torn, isUnended: false };
    }
    add(checkedLine(text, path, number), number);
    start = end + 1;
  }
  return { ...parsed, torn: undefined, isUnended: false };
}

/**
 * The entries of the lines.
 *
 * @throws Qcow2BenchError `history-invalid` if a line names a cell that no line has, or
 *   `history-doubled` if two lines of one commit and environment disagree.
 */
export function historyEntries({ lines }: ParsedHistory, path: string): readonly HistoryEntry[] {
  const cells = new Map<string, HistoryCell>();
  for (const line of lines) {
    for (const [name, cell] of Object.entries(line.cells)) cells.set(name, cell);
  }
  const entries = new Map<string, HistoryEntry>();
  for (const [index, line] of lines.entries()) {
    const entry = entryOf(line, { number: index + 1, cells, path });
    const key = lineKey(line);
    const other = entries.get(key);
    const first = lines[(other?.line ?? 0) - 1];
    if (other === undefined || first === undefined) entries.set(key, entry);
    else if (!haveSameCounts(first, line)) {
      const message = `has commit ${line.commit} of the environment of line ${String(other.line)} again, with other counts: remove one of them`;
      throw new Qcow2BenchError('history-doubled', message, { path, line: index + 1 });
    }
  }
  return [...entries.values()].toSorted((a, b) => Date.parse(a.date) - Date.parse(b.date));
}

function entryOf(
  line: HistoryLine,
  {
    number,
    cells,
    path,
  }: { readonly number: number; readonly cells: ReadonlyMap<string, HistoryCell>; readonly path: string },
): HistoryEntry {
  const find = (name: string): HistoryCell => {
    const cell = cells.get(name);
    if (cell !== undefined) return cell;
    const message = `names the cell ${name}, which no line has: a line was removed; restore it`;
    throw new Qcow2BenchError('history-invalid', message, { path, line: number });
  };
  return {
    line: number,
    commit: line.commit,
    date: line.date,
    harness: line.harness,
    environment: line.environment,
    environmentKey: environmentKey(line.environment),
    counted: line.counts.map(find).filter(isCounted) as readonly CellCounts[],
    timed: line.times.map(([name, medianNs, samples]) => ({
      cell: find(name).cell as Cell,
      medianNs,
      samples,
    })),
  };
}

function checkedLine(text: string, path: string, line: number): HistoryLine {
  const place = { path, line };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    const isConflict = /^(?:<<<<<<<|=======|>>>>>>>)/.test(text);
    const advice = isConflict
      ? 'is a mark of a merge conflict: keep the lines of both sides'
      : line === 1
        ? 'is not JSON: name a history, which has one JSON object per line, or a new file'
        : 'is not JSON: a history has one JSON object per line; restore the line, or remove it';
    throw new Qcow2BenchError('history-invalid', advice, place);
  }
  const found = typeof value === 'object' && value !== null && 'schema' in value ? value.schema : undefined;
  if (found !== HISTORY_SCHEMA) {
    const what = typeof found === 'string' ? `has schema '${found}'` : `has no field 'schema'`;
    const message = `${what}, but a line of a history of this version has '${HISTORY_SCHEMA}'`;
    throw new Qcow2BenchError('history-schema-version', message, place);
  }
  const checked = historyLineSchema.safeParse(value);
  if (!checked.success) {
    const [issue] = checked.error.issues;
    const field = issue?.path.map(String).join('.') ?? '';
    const message = `field ${field}: ${issue?.message ?? 'does not fit the schema'}`;
    throw new Qcow2BenchError('history-invalid', message, place);
  }
  for (const [name, cell] of Object.entries(checked.data.cells)) {
    if (digestOf(cell) === name) continue;
    const message = `the cell ${name} has another digest: the line was changed; restore it`;
    throw new Qcow2BenchError('history-invalid', message, place);
  }
  return checked.data;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
