/**
 * Predicted and measured times side by side: modelled devices and cells that were also timed on
 * real files.
 *
 * Invariant: a pair is two cells that agree in everything but the device, so the error is the
 * model's and that of the sample.
 */

import { median } from 'simple-statistics';

import { cellName, countingKey } from '../result/cell.ts';
import type { CellRecord, ResultRecord } from '../result/schema.ts';
import { requestTimeNs, spreadOf } from '../result/statistics.ts';
import { modelName } from '../result/vocabulary.ts';
import { percentText, signedPercentText } from './numbers.ts';

export interface Prediction {
  readonly cell: string;
  /** Nanoseconds per guest request; the median of the samples. */
  readonly measuredNs: number;
  readonly predictedNs: number;
  /** Predicted ÷ measured − 1. */
  readonly error: number;
}

export interface ModelPredictions {
  readonly model: string;
  readonly predictions: readonly Prediction[];
  /** Median of the absolute errors. */
  readonly medianError: number;
}

/** The predictions of each model in the result that has any. */
export function predictionsOf(result: ResultRecord): readonly ModelPredictions[] {
  const measured = new Map(
    result.cells
      .filter(({ cell }) => cell.device === 'file' && cell.timing === undefined)
      .map((record) => [countingKey(record.cell), record]),
  );
  // A replay by the trace's times takes as long as the trace on both: there is nothing to predict.
  const modelled = result.cells.filter(
    ({ cell }) => modelName(cell.device) !== undefined && cell.timing === undefined,
  );
  return [...Map.groupBy(modelled, ({ cell }) => modelName(cell.device) ?? '')].flatMap(
    ([model, records]) => {
      const predictions = records.flatMap((record) =>
        predictionOf(record, measured.get(countingKey(record.cell))),
      );
      if (predictions.length === 0) return [];
      return [{ model, predictions, medianError: median(predictions.map(({ error }) => Math.abs(error))) }];
    },
  );
}

/** What the predictions are worth, in a sentence. */
export function predictionText({ model, predictions, medianError }: ModelPredictions): string {
  const worst = predictions.toSorted((a, b) => Math.abs(b.error) - Math.abs(a.error))[0];
  const most =
    worst === undefined ? '' : `; the largest is ${signedPercentText(worst.error)} (${worst.cell})`;
  const count = predictions.length === 1 ? 'one cell' : `${String(predictions.length)} cells`;
  return `Model ${model} compared with measured times: median error ${percentText(medianError)} over ${count}${most}.`;
}

function predictionOf(modelled: CellRecord, measured: CellRecord | undefined): readonly Prediction[] {
  const predictedNs = requestNs(modelled);
  const measuredNs = measured === undefined ? undefined : requestNs(measured);
  if (predictedNs === undefined || measuredNs === undefined) return [];
  return [{ cell: cellName(modelled.cell), measuredNs, predictedNs, error: predictedNs / measuredNs - 1 }];
}

function requestNs({ timings }: CellRecord): number | undefined {
  return spreadOf(timings.map(requestTimeNs))?.median;
}
