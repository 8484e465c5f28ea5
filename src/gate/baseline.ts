/**
 * The committed baseline: what the gate compares with, and nothing else.
 *
 * Invariants:
 * - Only counts of the memory device: they are exact and the same on every machine. No times, no
 *   environment.
 * - Sorted by cell, one leaf a line, zeroes left out: a change of behaviour is a small diff that
 *   names purpose and cause.
 */

import { z } from 'zod';

import { cellCounts, COUNT_LEAVES, type CellCounts } from '../compare/cell-counts.ts';
import { Qcow2BenchError } from '../core/error.ts';
import { LIMITS } from '../core/limits.ts';
import { replaceFile } from '../result/atomic-file.ts';
import { cellName, countingKey } from '../result/cell.ts';
import { readCheckedJson } from '../result/checked-json.ts';
import {
  countedCellSchema,
  guestCountsSchema,
  type CellRecord,
  type ResultRecord,
} from '../result/schema.ts';

export const BASELINE_SCHEMA = 'qcow2-bench/baseline@1';

/** The device whose counts the gate compares. */
export const GATED_DEVICE = 'memory';

export interface Baseline {
  readonly schema: typeof BASELINE_SCHEMA;
  readonly cells: readonly CellCounts[];
}

const baselineSchema = z.strictObject({
  schema: z.literal(BASELINE_SCHEMA),
  cells: z.array(
    z.strictObject({
      cell: countedCellSchema,
      guest: guestCountsSchema,
      counts: z.partialRecord(z.enum(COUNT_LEAVES), z.int().positive()),
    }),
  ),
});

/**
 * The baseline that accepts a result: all its cells counted on the memory device, or on an image of
 * the user.
 *
 * @throws Qcow2BenchError `gate-ambiguous-cell` if one cell was counted twice with different
 *   counts, and `gate-nothing-counted` if there is no cell to accept.
 */
export function acceptBaseline(result: ResultRecord): Baseline {
  const cells = gatedCells(result);
  if (cells.size === 0) {
    const message = `no cell was counted on the ${GATED_DEVICE} device: nothing to accept`;
    throw new Qcow2BenchError('gate-nothing-counted', message);
  }
  const sorted = [...cells].toSorted(([a], [b]) => (a < b ? -1 : 1));
  return { schema: BASELINE_SCHEMA, cells: sorted.map(([, cell]) => cell) };
}

/** The result's cells that the gate compares, by counting key. */
export function gatedCells(result: ResultRecord): ReadonlyMap<string, CellCounts> {
  const cells = new Map<string, CellCounts>();
  for (const record of result.cells) {
    const cell = gatedCell(record);
    if (cell === undefined) continue;
    const key = countingKey(cell.cell);
    const standing = cells.get(key);
    if (standing !== undefined && JSON.stringify(standing) !== JSON.stringify(cell)) {
      const message = `the result has different counts for ${cellName(cell.cell)}: gate one run at a time`;
      throw new Qcow2BenchError('gate-ambiguous-cell', message);
    }
    cells.set(key, cell);
  }
  return cells;
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
  const cells = baseline.cells.map(({ cell, guest, counts }) => {
    const leaves = Object.entries(counts).map(([leaf, value]) => `        "${leaf}": ${String(value)}`);
    const body = leaves.length === 0 ? '{}' : `{\n${leaves.join(',\n')}\n      }`;
    const head = `      "cell": ${JSON.stringify(cell)},\n      "guest": ${JSON.stringify(guest)}`;
    return `    {\n${head},\n      "counts": ${body}\n    }`;
  });
  const list = cells.length === 0 ? '[]' : `[\n${cells.join(',\n')}\n  ]`;
  return `{\n  "schema": ${JSON.stringify(baseline.schema)},\n  "cells": ${list}\n}\n`;
}

function gatedCell(record: CellRecord): CellCounts | undefined {
  return isGated(record) ? cellCounts(record) : undefined;
}

/** An image of the user is on files, and its counts repeat there as long as nothing overlaps. */
function isGated({ countsDevice, cell }: CellRecord): boolean {
  if (countsDevice === GATED_DEVICE) return true;
  return cell.image !== undefined && cell.engine === 'builtin' && cell.overlap === undefined;
}
