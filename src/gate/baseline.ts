/**
 * The committed baseline: what the gate compares with, and nothing else.
 *
 * Invariants:
 * - Only what is exact: counts of memory, of QEMU and of an image of the user, and the virtual time
 *   of modelled devices. No samples; of the environment only the versions of the engines.
 * - Sorted by cell, one leaf a line, zeroes left out: a change of behaviour is a small diff that
 *   names purpose and cause. What each request cost is one more line a cell.
 */

import { z } from 'zod';

import { cellCounts, COUNT_LEAVES, type CellCounts } from '../compare/cell-counts.ts';
import { Qcow2BenchError } from '../core/error.ts';
import { LIMITS } from '../core/limits.ts';
import { replaceFile } from '../result/atomic-file.ts';
import { cellName, countingKey } from '../result/cell.ts';
import { modelName } from '../result/vocabulary.ts';
import { readCheckedJson } from '../result/checked-json.ts';
import { requestCostsSchema } from '../result/request-costs.ts';
import {
  countedCellSchema,
  guestCountsSchema,
  type CellRecord,
  type CountedCell,
  type ResultRecord,
} from '../result/schema.ts';

export const BASELINE_SCHEMA = 'qcow2-bench/baseline@1';

/** The device on which the builtin engine's counts are taken. */
export const GATED_DEVICE = 'memory';

/** A cell of the baseline. */
export interface BaselineCell extends CellCounts {
  /**
   * Times on modelled devices, which are deterministic: `model:NAME.elapsedNs`,
   * `model:NAME.write.p99Ns`. Absent of a cell that was timed on none.
   */
  readonly modelled?: Readonly<Record<string, number>>;
}

export interface Baseline {
  readonly schema: typeof BASELINE_SCHEMA;
  /** Versions of what counted, by engine; absent of older baselines. */
  readonly engines?: Readonly<Record<string, string>>;
  readonly cells: readonly BaselineCell[];
}

export const baselineCellSchema = z.strictObject({
  cell: countedCellSchema,
  guest: guestCountsSchema,
  counts: z.partialRecord(z.enum(COUNT_LEAVES), z.int().positive()),
  modelled: z.record(z.string().max(256), z.number().nonnegative()).optional(),
  requests: requestCostsSchema.optional(),
});

const baselineSchema = z.strictObject({
  schema: z.literal(BASELINE_SCHEMA),
  engines: z.record(z.string().max(256), z.string().max(256)).optional(),
  cells: z.array(baselineCellSchema),
});

/**
 * The baseline that accepts a result: all its cells whose counts repeat.
 *
 * @throws Qcow2BenchError `gate-ambiguous-cell` if one cell was counted twice with different
 *   counts, and `gate-nothing-counted` if there is no cell to accept.
 */
export function acceptBaseline(result: ResultRecord): Baseline {
  const cells = gatedCells(result);
  if (cells.size === 0) {
    const message = `no cell has counts that repeat (counted on the ${GATED_DEVICE} device, by QEMU, or on an image): nothing to accept`;
    throw new Qcow2BenchError('gate-nothing-counted', message);
  }
  const sorted = [...cells].toSorted(([a], [b]) => (a < b ? -1 : 1));
  return {
    schema: BASELINE_SCHEMA,
    engines: engineVersions(result),
    cells: sorted.map(([, cell]) => cell),
  };
}

/** The result's cells that the gate compares, by counting key. */
export function gatedCells(result: ResultRecord): ReadonlyMap<string, BaselineCell> {
  const cells = new Map<string, BaselineCell>();
  for (const record of result.cells) {
    const cell = gatedCell(record);
    if (cell === undefined) continue;
    const key = countingKey(cell.cell);
    const standing = cells.get(key);
    if (standing !== undefined && differInCounts(standing, cell)) {
      const message = `the result has different counts for ${cellName(cell.cell)}: gate one run at a time`;
      throw new Qcow2BenchError('gate-ambiguous-cell', message);
    }
    // A cell that was timed on several devices is one.
    const modelled = { ...standing?.modelled, ...cell.modelled };
    cells.set(key, Object.keys(modelled).length === 0 ? cell : { ...cell, modelled });
  }
  return cells;
}

/** What counted the cells of a result that are gated, by engine. */
export function engineVersions({ environment, cells }: ResultRecord): Readonly<Record<string, string>> {
  const gated = cells.filter((record) => gatedCell(record) !== undefined);
  const versions = new Map<string, string>();
  for (const { cell, parity } of gated) {
    const version = parity?.qemu ?? { builtin: environment.harness, qemu: environment.qemu }[cell.engine];
    if (version !== undefined) versions.set(engineOf(cell), version);
  }
  return Object.fromEntries([...versions].toSorted());
}

/** What counted a cell; of several builds of QEMU, which. */
export function engineOf({ engine, qemuBuild }: CountedCell): string {
  return qemuBuild === undefined ? engine : `${engine} ${qemuBuild}`;
}

/**
 * The baseline in `path`.
 *
 * @throws Qcow2BenchError `baseline-unreadable`, `baseline-too-large`, `baseline-not-json`,
 * `baseline-schema-version` or `baseline-invalid`.
 */
export function readBaseline(path: string): Baseline {
  const sizeMax = LIMITS.resultFileBytes;
  // The schema refuses undefined values; its type only cannot say so.
  return readCheckedJson(path, {
    schema: baselineSchema,
    schemaName: BASELINE_SCHEMA,
    kind: 'baseline',
    sizeMax,
  }) as Baseline;
}

/** Replaces `path` by the baseline, at once and durably. */
export function writeBaseline(path: string, baseline: Baseline): void {
  replaceFile(path, baselineText(baseline), { durable: true });
}

/** The baseline as it is committed: coordinates on one line, then one leaf a line. */
export function baselineText(baseline: Baseline): string {
  return `${baselineLayout(baseline)
    .map(({ text }) => text)
    .join('\n')}\n`;
}

/**
 * Where the committed text has each leaf, by counting key of the cell: lines from 1; `''` is the
 * cell itself.
 */
export function baselineLines(baseline: Baseline): ReadonlyMap<string, ReadonlyMap<string, number>> {
  const lines = new Map<string, Map<string, number>>();
  for (const [index, { cell, leaf }] of baselineLayout(baseline).entries()) {
    if (cell === undefined) continue;
    const key = countingKey(cell);
    const own = lines.get(key) ?? new Map<string, number>();
    own.set(leaf ?? '', index + 1);
    lines.set(key, own);
  }
  return lines;
}

interface LayoutLine {
  readonly text: string;
  readonly cell?: CountedCell;
  readonly leaf?: string;
}

function baselineLayout({ schema, engines, cells }: Baseline): readonly LayoutLine[] {
  const head = [
    { text: '{' },
    { text: `  "schema": ${JSON.stringify(schema)},` },
    ...(engines === undefined ? [] : [{ text: `  "engines": ${JSON.stringify(engines)},` }]),
  ];
  if (cells.length === 0) return [...head, { text: '  "cells": []' }, { text: '}' }];
  const list = cells.flatMap((cell, index) => cellLayout(cell, { isLast: index === cells.length - 1 }));
  return [...head, { text: '  "cells": [' }, ...list, { text: '  ]' }, { text: '}' }];
}

function cellLayout(
  { cell, guest, counts, modelled, requests }: BaselineCell,
  { isLast }: { readonly isLast: boolean },
): readonly LayoutLine[] {
  const entries = Object.entries(counts);
  const leaves = entries.map(([leaf, value], index) => ({
    text: `        ${JSON.stringify(leaf)}: ${String(value)}${index === entries.length - 1 ? '' : ','}`,
    cell,
    leaf,
  }));
  const further = Object.entries({ modelled, requests }).filter(([, value]) => value !== undefined);
  const comma = further.length > 0 ? ',' : '';
  return [
    { text: '    {' },
    { text: `      "cell": ${JSON.stringify(cell)},`, cell },
    { text: `      "guest": ${JSON.stringify(guest)},` },
    ...(leaves.length === 0
      ? [{ text: `      "counts": {}${comma}` }]
      : [{ text: '      "counts": {' }, ...leaves, { text: `      }${comma}` }]),
    ...further.map(([name, value], index) => ({
      text: `      ${JSON.stringify(name)}: ${JSON.stringify(value)}${index === further.length - 1 ? '' : ','}`,
    })),
    { text: `    }${isLast ? '' : ','}` },
  ];
}

function gatedCell(record: CellRecord): BaselineCell | undefined {
  const counts = isGated(record) ? cellCounts(record) : undefined;
  if (counts === undefined) return undefined;
  const modelled = modelledTimes(record);
  return modelled === undefined ? counts : { ...counts, modelled };
}

/**
 * Counts that repeat: those of memory, of QEMU and other engines at one request after another, and
 * of an image of the user, as long as nothing overlaps.
 */
function isGated({ countsDevice, cell }: CellRecord): boolean {
  if (countsDevice === GATED_DEVICE) return true;
  if (cell.overlap !== undefined) return false;
  return cell.engine !== 'builtin' || cell.image !== undefined;
}

function modelledTimes({
  cell,
  timings,
  latency = {},
}: CellRecord): Readonly<Record<string, number>> | undefined {
  const [timing] = timings;
  if (timing === undefined || modelName(cell.device) === undefined) return undefined;
  const { requests, elapsedNs } = timing;
  const times: Record<string, number> = {
    [`${cell.device}.requests`]: requests,
    [`${cell.device}.elapsedNs`]: elapsedNs,
  };
  for (const [op, { p50Ns, p99Ns, maxNs }] of Object.entries(latency)) {
    for (const [name, value] of Object.entries({ p50Ns, p99Ns, maxNs })) {
      times[`${cell.device}.${op}.${name}`] = value;
    }
  }
  return times;
}

function differInCounts(one: BaselineCell, other: BaselineCell): boolean {
  const counts = ({ cell, guest, counts: leaves }: BaselineCell): string =>
    JSON.stringify([cell, guest, leaves]);
  return counts(one) !== counts(other);
}
