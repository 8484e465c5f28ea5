/** Chart: syncs per guest write, stacked by what forced them. */

import { syncsPerWriteByCause } from '../../result/derive.ts';
import { SYNC_CAUSES } from '../../result/vocabulary.ts';
import { rateText } from '../numbers.ts';
import { CAUSE_COLOURS, CAUSE_MEANINGS } from '../palette.ts';
import type { ReportCells } from '../report-cells.ts';
import { exactText, VARIANT_GUTTER, type Chart, type Selected } from './chart.ts';
import { BAR_SELECTIONS, barRows, stackedBarsSpec } from './stacked-bars.ts';

const TITLE = 'Syncs per guest write, by cause';
const SUBTITLE = 'fdatasync calls from the first request to the end of close, divided by guest writes.';

/** @param options.standalone gives the picture its own title and legend, for use outside the page. */
export function syncsByCauseChart(
  report: ReportCells,
  selected: Selected,
  options: { readonly standalone?: boolean } = {},
): Chart {
  const counted = report.cells.flatMap((cell) => {
    const { counts } = cell.record;
    return counts === null || counts.guest.writes === 0
      ? []
      : [{ cell, parts: syncsPerWriteByCause(counts) }];
  });
  const seen = new Set(counted.flatMap(({ parts }) => [...parts.keys()]));
  const legend = SYNC_CAUSES.filter((cause) => seen.has(cause)).map((cause) => ({
    name: cause,
    colour: CAUSE_COLOURS[cause],
    meaning: CAUSE_MEANINGS[cause],
  }));
  const rowOptions = { part: 'cause', legend, text: rateText, exact: exactText };
  const standalone =
    options.standalone === true ? { title: TITLE, subtitle: `Workload ${selected.workload}` } : undefined;
  return {
    id: 'syncs',
    title: TITLE,
    subtitle: SUBTITLE,
    spec: stackedBarsSpec({
      report,
      selected,
      dataset: 'syncs',
      part: 'cause',
      legend,
      axisTitle: 'syncs per guest write',
      axisFormat: '~g',
      description: 'Stacked bars: syncs per guest write by cause, for each format, in each cache mode',
      standalone,
    }),
    rows: counted.flatMap(({ cell, parts }) => barRows(cell, parts, rowOptions)),
    selections: BAR_SELECTIONS,
    columns: [
      { field: 'cache', title: 'Cache mode' },
      { field: 'variant', title: 'Format' },
      { field: 'cause', title: 'Cause' },
      { field: 'exact', title: 'Syncs per write' },
    ],
    legend,
    gutter: VARIANT_GUTTER,
  };
}
