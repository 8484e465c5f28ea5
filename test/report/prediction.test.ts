import { describe, expect, it } from 'vitest';

import { predictionsOf, predictionText } from '../../src/report/prediction.ts';
import type { CellRecord, ResultRecord } from '../../src/result/schema.ts';
import { syntheticResult } from './synthetic-result.ts';

/** The result's first cells on a file with the given times, and on a model with others. */
function result(pairs: readonly (readonly [measuredUs: number, predictedUs: number])[]): ResultRecord {
  const base = syntheticResult();
  const timed = (record: CellRecord, device: string, us: number): CellRecord => ({
    ...record,
    cell: { ...record.cell, device },
    timings: [0, 1, 2].map((round) => ({
      round,
      requests: 10,
      elapsedNs: 10_000 * us * (1 + round),
      openNs: 0,
      closeNs: 0,
    })),
  });
  const cells = pairs.flatMap(([measuredUs, predictedUs], index) => {
    const record = base.cells[index];
    if (record === undefined) throw new Error('too many pairs');
    return [timed(record, 'file', measuredUs), timed(record, 'model:mine', predictedUs)];
  });
  return { ...base, cells };
}

describe('predictions of a model', () => {
  it('are listed with the medians that were measured, with their error', () => {
    const [model] = predictionsOf(
      result([
        [100, 110],
        [50, 40],
        [10, 10],
      ]),
    );
    expect(model).toMatchObject({ model: 'mine', medianError: expect.closeTo(0.1) as number });
    expect(model?.predictions.map(({ measuredNs, predictedNs }) => [measuredNs, predictedNs])).toEqual([
      [200_000, 220_000],
      [100_000, 80_000],
      [20_000, 20_000],
    ]);
    if (model === undefined) throw new Error('no predictions');
    expect(predictionText(model)).toMatch(
      /^Model mine compared with measured times: median error 10 % over 3 cells; .* −20 % \(/,
    );
  });

  it('are only there where both were timed', () => {
    const both = result([[100, 110]]);
    expect(predictionsOf({ ...both, cells: both.cells.slice(0, 1) })).toEqual([]);
    expect(predictionsOf({ ...both, cells: both.cells.slice(1) })).toEqual([]);
  });
});
