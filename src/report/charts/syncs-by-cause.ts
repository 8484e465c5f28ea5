/** Chart: syncs per guest write, stacked by what forced them. */

import { syncsPerWriteByCause } from '../../result/derive.ts';
import { SYNC_CAUSES } from '../../result/vocabulary.ts';
import { rateText } from '../numbers.ts';
import { CAUSE_COLOURS } from '../palette.ts';
import type { ReportCells } from '../report-cells.ts';
import { exactText, type Chart, type Selected } from './chart.ts';
import { stackedBarsChart, type StackedBars } from './stacked-bars.ts';

const BARS: StackedBars = {
  id: 'syncs',
  title: 'Syncs per guest write, by cause',
  subtitle: 'fdatasync calls from the first request to the end of close, divided by guest writes.',
  description: 'Stacked bars: syncs per guest write by cause, for each format, in each cache mode',
  part: 'cause',
  legend: SYNC_CAUSES.map((cause) => ({
    name: cause,
    colour: CAUSE_COLOURS[cause],
  })),
  axisTitle: 'syncs per guest write',
  axisFormat: '~g',
  text: rateText,
  exact: exactText,
  partsOf: ({ record: { counts } }) =>
    counts === null || counts.guest.writes === 0 ? undefined : syncsPerWriteByCause(counts),
};

export function syncsByCauseChart(report: ReportCells, selected: Selected): Chart {
  return stackedBarsChart(report, selected, BARS);
}
