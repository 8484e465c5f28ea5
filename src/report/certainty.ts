/**
 * How far the times of a result can be trusted: what the controls show, what differences could be
 * shown at all, and what about the machine spoils a figure.
 *
 * Invariant: a warning names what was seen and what to do about it. Nothing is corrected or left
 * out because of one.
 */

import { relativeHalfWidth } from '../result/bootstrap.ts';
import { cellName, variantName } from '../result/cell.ts';
import { CONFIDENCE_TEXT, type Comparison } from '../result/comparison.ts';
import type { CellRecord, Environment, ResultRecord } from '../result/schema.ts';
import { outliersOf, requestTimeNs } from '../result/statistics.ts';
import { modelName } from '../result/vocabulary.ts';
import { factorText, percentText } from './numbers.ts';
import type { ReportCells } from './report-cells.ts';

/** Runnable tasks a processor, over a minute, from which on a run shares its processors. */
const BUSY_LOAD = 0.5;
/** An interval wider than this (± share of the median) is no basis for a comparison. */
const WIDE = 0.1;
/** File systems in memory: a sync there costs nothing. */
const MEMORY_FILE_SYSTEMS: readonly string[] = ['tmpfs', 'ramfs'];
/** Mount options with which a sync does not reach the device. */
const NO_BARRIER: readonly string[] = ['nobarrier', 'barrier=0'];

/** What the controls show, in a sentence; `undefined` of a result that compares no times. */
export function controlText(report: ReportCells): string | undefined {
  const comparisons = comparisonsIn(report);
  const controlled = comparisons.filter(({ control }) => control !== undefined);
  const references = [...new Set(comparisons.map(({ reference }) => variantName(reference.cell)))];
  if (comparisons.length === 0) return undefined;
  const against = `Time ratios are to ${references.join(' or ')}, paired by round`;
  if (controlled.length === 0) return `${against}; without a control.`;
  const perReference = [...new Map(controlled.map((one) => [one.reference, one])).values()];
  const extremes = perReference.flatMap(({ control }) => (control === undefined ? [] : [control]));
  const low = Math.min(...extremes.map((interval) => interval.low));
  const high = Math.max(...extremes.map((interval) => interval.high));
  const detectable = perReference.flatMap(({ detectable }) => (detectable === undefined ? [] : [detectable]));
  const [least, most] = [Math.min(...detectable), Math.max(...detectable)];
  const shown =
    least === most || percentText(least) === percentText(most)
      ? percentText(most)
      : `${percentText(least)} to ${percentText(most)}`;
  return (
    `${against}. The same cell timed twice (A/A) gives ${factorText(low)} to ${factorText(high)} ` +
    `(${CONFIDENCE_TEXT} interval${perReference.length === 1 ? '' : 's'}); the smallest difference that these samples can show is ${shown}.`
  );
}

/** What spoils the times of this result; empty if nothing does, or if nothing was timed. */
export function warningsOf(result: ResultRecord, report: ReportCells): readonly string[] {
  const timed = result.cells.filter(
    ({ cell, timings }) => timings.length > 0 && modelName(cell.device) === undefined,
  );
  if (timed.length === 0) return [];
  const onFiles = timed.some(({ cell }) => cell.device === 'file');
  return [
    ...machineWarnings(result.environment),
    ...(onFiles ? fileSystemWarnings(result.environment) : []),
    ...sampleWarnings(timed, report),
  ];
}

function machineWarnings({ loadAverage, cores, governor }: Environment): readonly string[] {
  const warnings: string[] = [];
  if (loadAverage !== undefined && loadAverage / cores > BUSY_LOAD) {
    warnings.push(
      `the machine was busy before the run (load ${loadAverage.toFixed(1)} on ${String(cores)} cores): use an idle machine for times`,
    );
  }
  if (governor !== undefined && governor !== 'performance') {
    warnings.push(
      `the CPU frequency follows the load (governor ${governor}): set it to performance for stable times`,
    );
  }
  return warnings;
}

function fileSystemWarnings({ fileSystem }: Environment): readonly string[] {
  if (fileSystem === null) return [];
  if (MEMORY_FILE_SYSTEMS.includes(fileSystem.type)) {
    return [
      `${fileSystem.type} keeps files in memory, where a sync costs nothing: use --dir with a directory on a disk`,
    ];
  }
  const options = fileSystem.mountOptions.filter((option) => NO_BARRIER.includes(option));
  if (options.length === 0) return [];
  return [
    `${fileSystem.directory} is mounted with ${options.join(',')}: syncs do not reach the device and cost too little`,
  ];
}

function sampleWarnings(timed: readonly CellRecord[], report: ReportCells): readonly string[] {
  const warnings: string[] = [];
  const wide = report.cells.filter(
    ({ interval }) => interval !== undefined && relativeHalfWidth(interval) > WIDE,
  );
  if (wide.length > 0) {
    warnings.push(
      `${cellsText(wide.length, 'has', 'have')} a median interval wider than ±${percentText(WIDE)}: use more samples or a quieter machine`,
    );
  }
  const few = report.cells.filter(
    ({ requestTime, interval }) => requestTime !== undefined && interval === undefined,
  );
  const fewTimed = few.filter(({ record }) => timed.includes(record));
  if (fewTimed.length > 0) {
    warnings.push(
      `${cellsText(fewTimed.length, 'has', 'have')} too few samples for an interval: use a longer --time-limit`,
    );
  }
  const outliers = timed
    .map((record) => ({ record, count: outliersOf(record.timings.map(requestTimeNs)).length }))
    .filter(({ count }) => count > 0);
  if (outliers.length > 0) {
    const total = outliers.reduce((sum, { count }) => sum + count, 0);
    const most = outliers.toSorted((a, b) => b.count - a.count)[0];
    const where = most === undefined ? '' : `, most in ${cellName(most.record.cell)}`;
    warnings.push(
      `${total === 1 ? '1 sample is an outlier' : `${String(total)} samples are outliers`}${where}: shown and used like the others`,
    );
  }
  const shifted = comparisonsIn(report).filter(
    ({ control }) => control !== undefined && (control.low > 1 || control.high < 1),
  );
  const references = new Set(shifted.map(({ reference }) => cellName(reference.cell)));
  if (references.size > 0) {
    warnings.push(
      `the control of ${[...references].slice(0, 3).join(', ')} differs from itself: conditions changed during the run; smaller differences are not reported`,
    );
  }
  return warnings;
}

function comparisonsIn(report: ReportCells): readonly Comparison[] {
  return report.cells.flatMap(({ comparison }) => (comparison === undefined ? [] : [comparison]));
}

function cellsText(count: number, one: string, many: string): string {
  return count === 1 ? `1 cell ${one}` : `${String(count)} cells ${many}`;
}
