/**
 * Chart: bytes written per guest write on top of the guest's own, stacked by purpose. The fill around guest
 * data (`cow`) is part of it, in grey: QED writes real zeroes where qcow2 asks for a zero-range, and a chart of
 * tables alone would hide that.
 */

import { bytesPerWriteByPurpose } from '../../result/derive.ts';
import { METADATA_PURPOSES, type Purpose } from '../../result/vocabulary.ts';
import { bytesText } from '../numbers.ts';
import { PURPOSE_COLOURS, PURPOSE_MEANINGS } from '../palette.ts';
import type { ReportCells } from '../report-cells.ts';
import { VARIANT_GUTTER, type Chart, type Selected } from './chart.ts';
import { BAR_SELECTIONS, barRows, stackedBarsSpec } from './stacked-bars.ts';

const TITLE = 'Metadata and fill bytes per guest write, by purpose';
const SUBTITLE =
  'Bytes written beside the guest’s own, divided by guest writes. Zero-ranges are no writes and are not in it.';
/** Tables that change with an allocation first, then what grows now and then, then the fill. */
const SHOWN: readonly Purpose[] = [
  'l2-table',
  'refcount-block',
  ...METADATA_PURPOSES.filter((purpose) => purpose !== 'l2-table' && purpose !== 'refcount-block'),
  'cow',
];

export function bytesByPurposeChart(
  report: ReportCells,
  selected: Selected,
  options: { readonly standalone?: boolean } = {},
): Chart {
  const counted = report.cells.flatMap((cell) => {
    const { counts } = cell.record;
    if (counts === null || counts.guest.writes === 0) return [];
    const parts = [...bytesPerWriteByPurpose(counts)].filter(([purpose]) => SHOWN.includes(purpose));
    return [{ cell, parts: new Map<Purpose, number>(parts) }];
  });
  const seen = new Set(counted.flatMap(({ parts }) => [...parts.keys()]));
  const legend = SHOWN.filter((purpose) => seen.has(purpose)).map((purpose) => ({
    name: purpose,
    colour: PURPOSE_COLOURS[purpose],
    meaning: PURPOSE_MEANINGS[purpose],
  }));
  const rowOptions = { part: 'purpose', legend, text: bytesText, exact: bytesText };
  const standalone =
    options.standalone === true ? { title: TITLE, subtitle: `Workload ${selected.workload}` } : undefined;
  return {
    id: 'bytes',
    title: TITLE,
    subtitle: SUBTITLE,
    spec: stackedBarsSpec({
      report,
      selected,
      dataset: 'bytes',
      part: 'purpose',
      legend,
      axisTitle: 'bytes per guest write',
      axisFormat: ',d',
      description:
        'Stacked bars: bytes written per guest write by purpose, for each format, in each cache mode',
      standalone,
    }),
    rows: counted.flatMap(({ cell, parts }) => barRows(cell, parts, rowOptions)),
    selections: BAR_SELECTIONS,
    columns: [
      { field: 'cache', title: 'Cache mode' },
      { field: 'variant', title: 'Format' },
      { field: 'purpose', title: 'Purpose' },
      { field: 'exact', title: 'Bytes per write' },
    ],
    legend,
    gutter: VARIANT_GUTTER,
  };
}
