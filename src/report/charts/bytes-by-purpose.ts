/**
 * Chart: bytes written per guest write on top of the guest's own, stacked by purpose. The fill
 * around guest data (`cow`) is part of it, in grey: QED writes real zeroes where qcow2 asks for a
 * zero-range, and a chart of tables alone would hide that.
 */

import { bytesPerWriteByPurpose } from '../../result/derive.ts';
import { METADATA_PURPOSES, type Purpose } from '../../result/vocabulary.ts';
import { bytesText } from '../numbers.ts';
import { PURPOSE_COLOURS } from '../palette.ts';
import type { ReportCell, ReportCells } from '../report-cells.ts';
import type { Chart, Selected } from './chart.ts';
import { stackedBarsChart, type StackedBars } from './stacked-bars.ts';

/** Tables that change with an allocation first, then what grows now and then, then the fill. */
const SHOWN: readonly Purpose[] = [
  'l2-table',
  'refcount-block',
  ...METADATA_PURPOSES.filter((purpose) => purpose !== 'l2-table' && purpose !== 'refcount-block'),
  'cow',
];

const BARS: StackedBars = {
  id: 'bytes',
  title: 'Metadata and fill bytes per guest write, by purpose',
  subtitle: 'Bytes written in addition to guest data, divided by guest writes. Zero-ranges are not included.',
  description: 'Stacked bars: bytes written per guest write by purpose, for each format, in each cache mode',
  part: 'purpose',
  legend: SHOWN.map((purpose) => ({
    name: purpose,
    colour: PURPOSE_COLOURS[purpose],
  })),
  axisTitle: 'bytes per guest write',
  axisFormat: ',d',
  text: bytesText,
  exact: bytesText,
  partsOf,
};

export function bytesByPurposeChart(report: ReportCells, selected: Selected): Chart {
  return stackedBarsChart(report, selected, BARS);
}

function partsOf({ record: { counts } }: ReportCell): ReadonlyMap<string, number> | undefined {
  if (counts === null || counts.guest.writes === 0) return undefined;
  return new Map([...bytesPerWriteByPurpose(counts)].filter(([purpose]) => SHOWN.includes(purpose)));
}
