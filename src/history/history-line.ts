/**
 * A line of a history (`qcow2-bench/history@1`): what one commit counted and how long it took, in
 * one environment.
 *
 * Invariants:
 * - A line is one JSON object and its line feed; lines are only ever appended.
 * - Counts are the same for most commits. So each line names its counts by digest, and holds those
 *   that no line before it has: 300 cells are 10 KB per commit and not 500. A digest is that of the
 *   content, so it does not matter in which line a definition is, or that two lines have it.
 * - Of times there is the median of a run and how many samples it is of.
 */

import { createHash } from 'node:crypto';

import { z } from 'zod';

import { Qcow2BenchError } from '../core/error.ts';
import { baselineCellSchema, gatedCells, type BaselineCell } from '../gate/baseline.ts';
import { cellKey, cellName } from '../result/cell.ts';
import { cellSchema, type Cell, type ResultRecord } from '../result/schema.ts';
import { requestTimeNs, spreadOf } from '../result/statistics.ts';
import { modelName } from '../result/vocabulary.ts';
import { environmentFacts, environmentKey } from './environment-facts.ts';

export const HISTORY_SCHEMA = 'qcow2-bench/history@1';

/** Characters of the name of a commit. */
const COMMIT_MAX = 128;
export const COMMIT_PATTERN = new RegExp(`^[^\\s\\p{C}]{1,${String(COMMIT_MAX)}}$`, 'u');

const digest = z.string().regex(/^[0-9a-f]{32}$/);
const text = z.string().max(1024);

export const historyLineSchema = z
  .strictObject({
    schema: z.literal(HISTORY_SCHEMA),
    commit: z.string().regex(COMMIT_PATTERN, 'must be a name without spaces'),
    date: z.iso.datetime({ offset: true }).describe('Lines are shown in its order'),
    harness: text.describe('Version of qcow2-bench'),
    environment: z.record(text, text).describe('What times depend on'),
    counts: z.array(digest).describe('What was counted, by digest'),
    times: z
      .array(z.tuple([digest, z.number().positive(), z.int().positive()]))
      .describe('Cell by digest, median in nanoseconds per request, samples'),
    cells: z
      .record(digest, z.union([baselineCellSchema, z.strictObject({ cell: cellSchema })]))
      .describe('By digest: what no line before this one has'),
  })
  .meta({ title: 'Line of a qcow2-bench history' });

export type HistoryLine = z.infer<typeof historyLineSchema>;
/** What a digest means. */
export type HistoryCell = HistoryLine['cells'][string];

export interface LineParts {
  readonly commit: string;
  /** ISO 8601; default: when the run began. */
  readonly date: string | undefined;
}

/** Results of one commit in one environment, with all that they define. */
export function historyLine(results: readonly ResultRecord[], { commit, date }: LineParts): HistoryLine {
  const [first] = results;
  if (first === undefined) throw new Error('internal error: a line of no results');
  const cells: Record<string, HistoryCell> = {};
  const define = (cell: HistoryCell): string => {
    const name = digestOf(cell);
    cells[name] = cell;
    return name;
  };
  const joined = { ...first, cells: results.flatMap((result) => result.cells) };
  const counts = [...gatedCells(joined).values()].map((cell) => define(withoutTimes(cell)));
  const times = timedCells(joined).map(({ cell, medianNs, samples }): HistoryLine['times'][number] => [
    define({ cell }),
    medianNs,
    samples,
  ]);
  if (counts.length + times.length === 0) {
    const message = 'no cell has counts that repeat or times: nothing to add';
    throw new Qcow2BenchError('history-nothing', message);
  }
  return {
    schema: HISTORY_SCHEMA,
    commit,
    date: date ?? first.environment.date,
    harness: first.environment.harness,
    environment: { ...environmentFacts(first.environment) },
    counts,
    times,
    cells,
  };
}

/** The results by environment, in their order: a line for each. */
export function byEnvironment(results: readonly ResultRecord[]): readonly (readonly ResultRecord[])[] {
  const groups = Map.groupBy(
    results,
    ({ environment }) => `${environmentKey(environmentFacts(environment))} ${environment.harness}`,
  );
  return [...groups.values()];
}

/** Commit and environment: a history has each once. */
export function lineKey({ commit, environment }: Pick<HistoryLine, 'commit' | 'environment'>): string {
  return `${commit} ${environmentKey(environment)}`;
}

/** Whether two lines counted the same in the same cells. */
export function haveSameCounts(one: HistoryLine, other: HistoryLine): boolean {
  return one.counts.toSorted().join() === other.counts.toSorted().join();
}

/** The line as it is appended, without definitions that the file has. */
export function lineText(line: HistoryLine, isKnown: (name: string) => boolean): string {
  const cells = Object.fromEntries(Object.entries(line.cells).filter(([name]) => !isKnown(name)));
  return `${JSON.stringify({ ...line, cells })}\n`;
}

/** Whether a definition is of counts. */
export function isCounted(cell: HistoryCell): cell is Extract<HistoryCell, { counts: object }> {
  return 'counts' in cell;
}

export function digestOf(cell: HistoryCell): string {
  return createHash('sha256')
    .update(JSON.stringify(ordered(cell)))
    .digest('hex')
    .slice(0, 32);
}

/** Modelled times follow from the counts and the model. */
function withoutTimes({ modelled: _, ...cell }: BaselineCell): HistoryCell {
  return cell as HistoryCell;
}

interface TimedCell {
  readonly cell: Cell;
  readonly medianNs: number;
  readonly samples: number;
}

/** Measured as fast as possible: a replay in the trace's own time takes as long as the trace. */
function timedCells({ cells }: ResultRecord): readonly TimedCell[] {
  const timed = new Map<string, TimedCell>();
  for (const { cell, timings } of cells) {
    const medianNs = spreadOf(timings.map(requestTimeNs))?.median ?? 0;
    if (medianNs <= 0 || cell.timing !== undefined || modelName(cell.device) !== undefined) continue;
    const key = cellKey(cell);
    if (timed.has(key)) {
      const message = `the results have two times for ${cellName(cell)}: add one of them`;
      throw new Qcow2BenchError('history-doubled', message);
    }
    timed.set(key, { cell, medianNs, samples: timings.length });
  }
  return [...timed.values()];
}

/** Properties in an order of their own, at every level. */
function ordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(ordered);
  if (typeof value !== 'object' || value === null) return value;
  const entries: readonly (readonly [string, unknown])[] = Object.entries(value);
  return Object.fromEntries(
    entries
      .filter(([, each]) => each !== undefined)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, each]) => [name, ordered(each)]),
  );
}
