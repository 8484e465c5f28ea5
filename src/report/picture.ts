/** The picture of the README: the answer in one chart, of the modes that the question is about. */

import { withVisibleText } from '../core/visible-text.ts';
import type { ResultRecord } from '../result/schema.ts';
import type { CacheMode } from '../result/vocabulary.ts';
import { answerOf } from './answer.ts';
import { selectedAtFirst } from './charts/catalog.ts';
import { syncsByCauseChart } from './charts/syncs-by-cause.ts';
import { reportCells } from './report-cells.ts';
import { renderChartSvg } from './svg.ts';

export interface PictureOptions {
  /** Panels to draw; `writethrough` and `writeback` by default. */
  readonly caches?: readonly CacheMode[];
  /** The workload of which the headline speaks by default. */
  readonly workload?: string;
}

/** SVG text of the chart of syncs per guest write by cause, with title and legend, on white. */
export async function syncsPictureSvg(record: ResultRecord, options: PictureOptions = {}): Promise<string> {
  const result = withVisibleText(record);
  const caches = options.caches ?? ['writethrough', 'writeback'];
  const wanted = result.cells.filter(({ cell }) => caches.includes(cell.cache));
  const first = reportCells({ ...result, cells: wanted });
  const selected = selectedAtFirst(first, answerOf(first));
  const workload = options.workload ?? selected.workload;
  // Only the shown workload, so that the legend holds no cause which the picture does not.
  const report = reportCells({ ...result, cells: wanted.filter(({ cell }) => cell.workload === workload) });
  const setup = report.setups[0] ?? '';
  const chart = syncsByCauseChart(report, { ...selected, workload, setup });
  return renderChartSvg(chart.spec, { [chart.id]: chart.rows });
}
