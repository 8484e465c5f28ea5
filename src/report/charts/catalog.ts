/**
 * The charts of the report, in the order in which it shows them, and what is chosen when it opens.
 */

import type { Answer } from '../answer.ts';
import type { ReportCells } from '../report-cells.ts';
import { bytesByPurposeChart } from './bytes-by-purpose.ts';
import type { Chart, Selected } from './chart.ts';
import { amplificationMatrixChart, syncsMatrixChart } from './heat-map.ts';
import { requestTimesChart } from './request-times.ts';
import { syncsByCauseChart } from './syncs-by-cause.ts';
import { timeRatiosChart } from './time-ratios.ts';
import { timeSplitChart } from './time-split.ts';

/** Their identifiers, in the same order. */
export const CHART_IDS = [
  'syncs',
  'bytes',
  'matrix-syncs',
  'matrix-amplification',
  'times',
  'ratios',
  'split',
] as const;

export function reportCharts(report: ReportCells, selected: Selected): readonly Chart[] {
  return [
    syncsByCauseChart(report, selected),
    bytesByPurposeChart(report, selected),
    syncsMatrixChart(report, selected),
    amplificationMatrixChart(report, selected),
    requestTimesChart(report, selected),
    timeRatiosChart(report, selected),
    timeSplitChart(report, selected),
  ];
}

/** The workload, cache mode and setup of which the headline speaks, else the first of each. */
export function selectedAtFirst(report: ReportCells, answer: Answer): Selected {
  const reference = answer.reference[0]?.cell;
  return {
    workload: reference?.workload ?? report.workloads[0] ?? '',
    cache: reference?.cache ?? report.caches[0] ?? '',
    setup: reference?.setup ?? report.setups[0] ?? '',
  };
}
