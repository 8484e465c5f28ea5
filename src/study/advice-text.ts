/** Advice for a terminal: what to take, how that compares, what surprises, and lines to paste. */

import { DEFAULT_FORMAT, PLAIN_FORMAT } from '../core/format-name.ts';
import { countOf } from '../core/number-text.ts';
import { aligned, wrapped } from '../core/text-lines.ts';
import { visibleText, withVisibleText } from '../core/visible-text.ts';
import { factorText, percentText } from '../report/numbers.ts';
import { modelName } from '../result/vocabulary.ts';
import { timeSaved, type Advice, type Setting } from './advice.ts';
import { axisValue } from './axes.ts';
import type { PasteLine } from './paste-lines.ts';
import type { Surprise } from './surprises.ts';
import { figureIn, requiredFigure, type StudyRow, type StudyTable } from './table.ts';

export interface AdviceText {
  readonly workload: string;
  readonly advice: readonly Advice[];
  readonly table: StudyTable;
  readonly surprises: readonly Surprise[];
  readonly lines: readonly PasteLine[];
  /** What the counts are of, and what they leave out. */
  readonly sure: readonly string[];
}

interface Style {
  readonly paint: Readonly<Record<'bold' | 'dim' | 'yellow', (text: string) => string>>;
  readonly width: number;
}

const HEADING_WIDTH = 20;
const WIDTH_MAX = 100;
/** A share of the time that is not worth a word. */
const NEARLY_NOTHING = 0.05;
/** Settings that the table shows; those that are named are always there. */
const SHOWN = 10;

/** Lines joined by line feeds. */
export function adviceText(given: AdviceText, { paint, width: columns }: Style): string {
  const width = Math.min(columns, WIDTH_MAX);
  const { advice, table } = given;
  // Names come from files.
  const workload = visibleText(given.workload);
  const { surprises, lines, sure } = withVisibleText({
    surprises: given.surprises,
    sure: given.sure,
    lines: given.lines.map(({ tool, text }) => ({ tool, texts: text.split('\n') })),
  });
  const [first, ...others] = advice;
  if (first === undefined) return `No cell of ${workload} was counted.`;
  const points = (list: readonly Surprise[]): readonly string[] =>
    list.flatMap(({ about, text }) => wrapped(text, width, about, HEADING_WIDTH));
  return [
    ...wrapped(headlineOf(workload, first), width).map(paint.bold),
    '',
    ...points([
      ...(first.taken === undefined
        ? []
        : first.taken.costs.map((text, index) => ({
            about: index === 0 ? 'Price' : '',
            text: `${capital(text)}.`,
          }))),
      ...rawPoint(first),
      ...others.map((each) => ({ about: `cache=${each.cache}`, text: headlineOf(workload, each) })),
      ...sure.map((text, index) => ({ about: index === 0 ? 'How sure' : '', text })),
    ]),
    '',
    ...(surprises.length === 0 ? [] : [...points(surprises).map(paint.yellow), '']),
    ...settingLines(first, table, paint.dim),
    '',
    ...(others.length === 0 || lines.length === 0
      ? []
      : [paint.dim(`Lines for cache=${first.cache}; for another mode use --cache.`)]),
    ...lines.flatMap(({ tool, texts }) => [paint.dim(tool), ...texts.map((line) => `  ${line}`)]),
  ].join('\n');
}

/** One sentence: the setting to take in this cache mode, and what it saves. */
export function headlineOf(workload: string, { cache, fastest, taken, usual }: Advice): string {
  const about = `Workload ${workload}, cache=${cache}`;
  if (taken === undefined) return `${about}: no setting of qcow2 was run.`;
  const figures = figuresText(taken.row);
  if (usual === undefined || usual.row === taken.row) {
    const rest =
      fastest === undefined || fastest.row === taken.row
        ? 'no setting takes less modelled time.'
        : `the fastest, ${fastest.name}, takes ${percentText(timeSaved(fastest, taken))} less modelled time.`;
    return `${about}: take the defaults of qcow2 (${figures}); ${rest}`;
  }
  return (
    `${about}: take ${taken.name} (${figures}); a request takes ${percentText(timeSaved(taken, usual))} less ` +
    `modelled time than with the defaults of qcow2 (${figuresText(usual.row)}).`
  );
}

function rawPoint({ taken, raw }: Advice): readonly Surprise[] {
  if (taken === undefined || raw === undefined) return [];
  const saved = timeSaved(raw, taken);
  if (saved >= NEARLY_NOTHING) {
    const text = `${capital(raw.name)} takes ${percentText(saved)} less modelled time; it has no snapshots and no backing file.`;
    return [{ about: 'Raw', text }];
  }
  const text =
    timeSaved(taken, raw) < NEARLY_NOTHING
      ? `Raw is neither faster nor slower by more than ${percentText(NEARLY_NOTHING)}.`
      : `Raw is slower: it takes ${factorText(raw.score / taken.score)} the modelled time.`;
  return [{ about: 'Raw', text }];
}

function figuresText(row: StudyRow): string {
  const [syncs, bytes] = [requiredFigure('syncs'), requiredFigure('bytes')];
  return `${syncs.text(figureIn(row, syncs))} syncs and ${bytes.text(figureIn(row, bytes))} bytes per write`;
}

function settingLines(
  { ranked, taken, usual, raw }: Advice,
  { devices }: StudyTable,
  faint: (text: string) => string,
): readonly string[] {
  const named = new Set([taken, usual, raw]);
  const shown = ranked.filter((setting, index) => index < SHOWN || named.has(setting));
  const figures = [
    'syncs',
    'bytes',
    'allocatedEnd',
    ...devices.map((device) => `time:${modelName(device) ?? device}`),
  ].map(requiredFigure);
  const rows = shown.map((setting) => [
    `${markOf(setting, { taken, usual })}${setting.shortName}`,
    ...figures.map((figure) => figure.text(figureIn(setting.row, figure))),
  ]);
  const head = ['  Setting', ...figures.map(({ short }) => short)];
  const [first = '', ...rest] = aligned([head, ...rows], { numeric: figures.map((_, index) => index + 1) });
  const hidden = ranked.length - shown.length;
  const formats = new Set(shown.map(({ row }) => axisValue(row.cell, 'format')));
  const compared = [...formats].filter((format) => format !== DEFAULT_FORMAT && format !== PLAIN_FORMAT);
  const notes = [
    '→ taken, = defaults of qcow2',
    ...compared.map((format) => `${format}: to compare with, never taken`),
    ...(hidden > 0 ? [`${countOf(hidden, 'slower setting')} not shown`] : []),
  ];
  return [faint(first), ...rest, faint(notes.join('; '))];
}

function markOf(setting: Setting, { taken, usual }: Pick<Advice, 'taken' | 'usual'>): string {
  if (setting === taken) return '→ ';
  return setting === usual ? '= ' : '  ';
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
