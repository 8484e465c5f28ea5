/**
 * Several results as one, to be drawn together.
 *
 * Invariant: only results of one program version on one machine are joined, and no cell occurs
 * twice: a page that mixed them would compare what cannot be compared.
 */

import { Qcow2BenchError } from '../../core/error.ts';
import { cellKey, cellName } from '../../result/cell.ts';
import type { CellRecord, ResultRecord } from '../../result/schema.ts';

export interface ReadResult {
  readonly path: string;
  readonly result: ResultRecord;
}

/** @throws Qcow2BenchError `results-differ` or `result-duplicate-cell`. */
export function mergeResults(results: readonly ReadResult[]): ResultRecord {
  const [first, ...others] = results;
  if (first === undefined) throw new Error('internal error: no results to merge');
  if (others.length === 0) return first.result;
  const cells = new Map<string, { readonly path: string; readonly record: CellRecord }>();
  for (const { path, result } of results) {
    refuseOtherOrigin(first, { path, result });
    for (const record of result.cells) {
      const key = cellKey(record.cell);
      const other = cells.get(key);
      if (other !== undefined) {
        throw new Qcow2BenchError(
          'result-duplicate-cell',
          `contains ${cellName(record.cell)}, and so does ${other.path}: report them separately`,
          { path },
        );
      }
      cells.set(key, { path, record });
    }
  }
  return { ...first.result, cells: [...cells.values()].map(({ record }) => record) };
}

function refuseOtherOrigin(first: ReadResult, other: ReadResult): void {
  for (const field of ['harness', 'node', 'platform', 'kernel', 'cpu'] as const) {
    const [here, there] = [other.result.environment[field], first.result.environment[field]];
    if (here === there) continue;
    throw new Qcow2BenchError(
      'results-differ',
      `was run with ${field} '${here}', but ${first.path} with '${there}': report them separately`,
      { path: other.path },
    );
  }
}
