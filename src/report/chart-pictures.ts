/** Every chart of a result as a picture of its own, of the workload that the answer speaks of. */

import { wrapped } from '../core/text-lines.ts';
import { withVisibleText } from '../core/visible-text.ts';
import type { ResultRecord } from '../result/schema.ts';
import { answerOf } from './answer.ts';
import { reportCharts, selectedAtFirst } from './charts/catalog.ts';
import { CHART_CONFIG, type Chart } from './charts/chart.ts';
import { reportCells } from './report-cells.ts';
import { renderChartSvg } from './svg.ts';

/** Pixels. */
const WIDTH = 560;
/** Characters of a line: Vega breaks none. */
const LINE_LENGTH = 88;

/** SVG text by the identifier of the chart; charts without rows are left out. */
export async function chartPictures(record: ResultRecord): Promise<ReadonlyMap<string, string>> {
  const report = reportCells(withVisibleText(record));
  const selected = selectedAtFirst(report, answerOf(report));
  const pictures = new Map<string, string>();
  for (const chart of reportCharts(report, selected)) {
    if (chart.rows.length === 0) continue;
    pictures.set(chart.id, await renderChartSvg(titled(chart, selected), { [chart.id]: chart.rows }));
  }
  return pictures;
}

/** With its title, what is chosen and what it shows, on white. */
function titled(
  { spec, title, subtitle, selections }: Chart,
  selected: ReturnType<typeof selectedAtFirst>,
): Chart['spec'] {
  const shown = selections.map((name) => selected[name]).filter((value) => value !== '');
  // There is no page that gives it a width.
  const size = 'width' in spec && spec.width === 'container' ? { width: WIDTH } : {};
  return {
    ...spec,
    ...size,
    title: {
      text: title,
      subtitle: [shown.join(' · '), ...wrapped(subtitle, LINE_LENGTH)],
      anchor: 'start',
      frame: 'group',
      offset: 16,
    },
    config: { ...CHART_CONFIG, background: '#ffffff', padding: 20 },
  };
}
