/** The chart of a study, as a picture. */

import { withVisibleText } from '../core/visible-text.ts';
import { plainChartSvg, type PlainRow } from '../report/charts/plain-chart.ts';
import { axisValue } from './axes.ts';
import type { Study } from './schema.ts';
import {
  figureIn,
  placeText,
  requiredFigure,
  rowsWhere,
  valuesOn,
  type StudyRow,
  type StudyTable,
} from './table.ts';

/** SVG text; `undefined` if no cell has the figure. */
export async function studyChartSvg(study: Study, table: StudyTable): Promise<string | undefined> {
  const { title, mark, axis, where = {}, scale } = study.chart;
  const rows = rowsWhere(table.rows, where);
  const drawn = mark === 'growth' ? growthRows(rows, study) : figureRows(rows, study, table);
  if (drawn.length === 0) return undefined;
  const figure = study.chart.figure === undefined ? undefined : requiredFigure(study.chart.figure);
  const isTime = study.chart.figure?.startsWith('time') === true;
  return plainChartSvg({
    title,
    subtitle: study.question,
    mark: mark === 'growth' ? 'line' : mark,
    nameTitle: mark === 'growth' ? 'guest requests' : axis,
    valueTitle: mark === 'growth' ? 'MiB allocated' : isTime ? 'µs per request' : (figure?.title ?? ''),
    colourTitle: study.chart.colour ?? axis,
    scale: drawn.every(({ value }) => value > 0) ? scale : 'linear',
    valueFormat: '~s',
    rows: withVisibleText(drawn),
  });
}

function figureRows(rows: readonly StudyRow[], { chart }: Study, table: StudyTable): readonly PlainRow[] {
  const figure = requiredFigure(chart.figure ?? '');
  const factor = chart.figure?.startsWith('time') === true ? 1e-3 : 1;
  const { axis, colour, panels } = chart;
  // What varies and has no place in the picture is named in its panel.
  const shown = [axis, colour, panels, 'variant', 'format', 'refcounts'];
  const rest = table.varying.filter((each) => !shown.includes(each) && valuesOn(rows, each).length > 1);
  return rows.flatMap((row): PlainRow[] => {
    const value = figureIn(row, figure);
    if (value === null) return [];
    return [
      {
        name: axisValue(row.cell, axis),
        value: value * factor,
        text: figure.text(value),
        ...(colour === undefined ? {} : { colour: axisValue(row.cell, colour) }),
        panel: placeText(row, [...(panels === undefined ? [] : [panels]), ...rest]),
      },
    ];
  });
}

const MIB = 1024 * 1024;

function growthRows(rows: readonly StudyRow[], { chart }: Study): readonly PlainRow[] {
  const { axis, colour, panels } = chart;
  return rows.flatMap((row) => {
    const growth = row.records.find((record) => record.growth !== undefined)?.growth ?? [];
    return growth.map(({ requests, allocatedBytes }): PlainRow => ({
      name: requests,
      value: allocatedBytes / MIB,
      text: '',
      colour: axisValue(row.cell, colour ?? axis),
      dash: colour === undefined ? '' : placeText(row, [axis]),
      panel: panels === undefined ? '' : placeText(row, [panels]),
    }));
  });
}
