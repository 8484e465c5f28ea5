/** A chart as a picture, drawn without a browser: for the README and for documents. */

import { parse, View } from 'vega';
import { compile, type TopLevelSpec } from 'vega-lite';

import type { ChartRow } from './charts/chart.ts';

/** The SVG text of a specification with its data sets (name → rows). */
export async function renderChartSvg(
  spec: TopLevelSpec,
  datasets: Readonly<Record<string, readonly ChartRow[]>> = {},
): Promise<string> {
  const { spec: compiled } = compile({ ...spec, datasets: datasetsFor(datasets) });
  const view = new View(parse(compiled), { renderer: 'none' });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}

function datasetsFor(datasets: Readonly<Record<string, readonly ChartRow[]>>): Record<string, ChartRow[]> {
  return Object.fromEntries(Object.entries(datasets).map(([name, rows]) => [name, [...rows]]));
}
