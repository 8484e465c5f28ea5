/**
 * A picture of a trace for a terminal: addresses upwards, time to the right, flushes below.
 *
 * Invariants: no line is wider than `width`. Without colour writes are blocks and reads are dots;
 * with it both are blocks, the denser the more requests, in the colour of what there is more of.
 */

import { humanSize } from '../../core/size.ts';
import type { GridPicture, RequestGrid } from '../../workload/trace/request-grid.ts';
import type { Paint } from './terminal.ts';

const ROWS = 14;
const LABEL_WIDTH = 9;
const COLUMNS_MAX = 88;
const SHADES = ['░', '▒', '▓', '█'] as const;
const DOTS = ['·', ':'] as const;
const BARS = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'] as const;

export interface PictureOptions {
  readonly grid: RequestGrid;
  /** Bytes of the device, from the bottom to the top. */
  readonly height: number;
  /** From the left to the right, in the grid's unit, and as the axis says it. */
  readonly width: number;
  readonly widthText: string;
  /** What is counted from the left: `time`, `requests`. */
  readonly axis: string;
  readonly columns: number;
  /** Whether `paint` makes colours. */
  readonly colour: boolean;
  readonly paint: Paint;
}

export function tracePicture(options: PictureOptions): string {
  const { paint } = options;
  const columns = Math.min(COLUMNS_MAX, options.columns - LABEL_WIDTH - 2);
  const picture = options.grid.picture(
    { width: options.width, height: options.height },
    { columns, rows: ROWS },
  );
  const most = Math.max(1, ...picture.writes, ...picture.reads);
  const lines = Array.from({ length: ROWS }, (_, index) => {
    const row = ROWS - 1 - index;
    const label = index === 0 ? humanSize(options.height) : row === 0 ? '0' : '';
    const cells = Array.from({ length: columns }, (__, column) =>
      cellText(picture, row * columns + column, { most, colour: options.colour }),
    );
    return `${paint.dim(`${label.padStart(LABEL_WIDTH)} │`)}${joinedCells(cells, paint)}`;
  });
  const { axis, widthText } = options;
  const left = axis === 'time' ? '0' : 'request 0';
  const scale = `${left}${widthText.padStart(columns - left.length)}`;
  const indent = ' '.repeat(LABEL_WIDTH + 2);
  return [
    ...lines.map((line) => line.trimEnd()),
    paint.dim(`${' '.repeat(LABEL_WIDTH)} └${'─'.repeat(columns)}`),
    ...flushLine(picture, paint),
    `${indent}${paint.dim(scale)}`,
    `${indent}${legend(paint, options.colour)}`,
  ].join('\n');
}

type Kind = 'write' | 'read' | 'none';

interface Cell {
  readonly text: string;
  readonly kind: Kind;
}

function cellText(
  { writes, reads }: GridPicture,
  at: number,
  { most, colour }: { readonly most: number; readonly colour: boolean },
): Cell {
  const written = writes[at] ?? 0;
  const read = reads[at] ?? 0;
  if (written + read === 0) return { text: ' ', kind: 'none' };
  if (colour) {
    return { text: level(SHADES, written + read, 2 * most), kind: written >= read ? 'write' : 'read' };
  }
  return written > 0
    ? { text: level(SHADES, written, most), kind: 'write' }
    : { text: level(DOTS, read, most), kind: 'read' };
}

/** Levels are logarithmic: a place hit once is seen beside one hit a thousand times. */
function level(levels: readonly string[], count: number, most: number): string {
  const share = most <= 1 ? 1 : Math.log(count + 1) / Math.log(most + 1);
  return levels[Math.min(levels.length - 1, Math.floor(share * levels.length))] ?? ' ';
}

/** Runs of a colour are painted at once. */
function joinedCells(cells: readonly Cell[], paint: Paint): string {
  let line = '';
  for (let start = 0; start < cells.length;) {
    const kind = cells[start]?.kind ?? 'none';
    let end = start;
    while (end < cells.length && cells[end]?.kind === kind) end++;
    const text = cells
      .slice(start, end)
      .map((cell) => cell.text)
      .join('');
    line += kind === 'write' ? paint.yellow(text) : kind === 'read' ? paint.cyan(text) : text;
    start = end;
  }
  return line;
}

function flushLine({ flushes }: GridPicture, paint: Paint): string[] {
  const most = Math.max(0, ...flushes);
  if (most === 0) return [];
  const bars = flushes.map((count) => (count === 0 ? ' ' : level(BARS, count, most))).join('');
  return [`${paint.dim('flushes'.padStart(LABEL_WIDTH))}  ${paint.magenta(bars)}`.trimEnd()];
}

function legend(paint: Paint, colour: boolean): string {
  const shades = SHADES.join('');
  return colour
    ? `${paint.yellow(shades)} more writes   ${paint.cyan(shades)} more reads`
    : `${shades} writes   ${DOTS.join('')} only reads`;
}
