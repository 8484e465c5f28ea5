/**
 * Small multiples: panels one below another, columns side by side, a row for each value; all on one
 * scale. What is drawn in a slot is up to the chart.
 *
 * Columns that do not fit next to each other go on below, so a narrow page needs no sideways scrolling.
 */

import type { ComponentChildren, JSX } from 'preact';
import { useState } from 'preact/hooks';

import type { Pivot } from './pivot.ts';
import type { Scale } from './scale.ts';

const ROW = 26;
const PANEL_TITLE = 26;
const COLUMN_TITLE = 20;
const AXIS = 40;
const GAP = 22;
/** Narrower than this a column goes on below. */
const COLUMN_MIN = 190;
const CHARACTER = 7.2;

export interface Slot {
  readonly cell: number;
  readonly row: string;
  /** Pixels of the drawing. */
  readonly height: number;
}

interface FacetsProps {
  readonly width: number;
  readonly label: string;
  readonly pivot: Pivot;
  readonly unit: string;
  /** Pixels at the right of each column, for numbers. */
  readonly room: number;
  readonly scaleFor: (pixels: number) => Scale;
  readonly tickText: (value: number) => string;
  readonly draw: (slot: Slot, scale: Scale) => ComponentChildren;
  /** Behind the rows of a panel, the height in pixels given. */
  readonly backdrop?:
    ((cells: readonly number[], scale: Scale, height: number) => ComponentChildren) | undefined;
  readonly describe: (cell: number) => readonly string[];
  readonly onSelect: (cell: number) => void;
}

interface Tip {
  readonly x: number;
  readonly y: number;
  readonly lines: readonly string[];
}

export function Facets(props: FacetsProps): JSX.Element {
  const { width, pivot, room, unit, scaleFor, label } = props;
  const [tip, setTip] = useState<Tip | undefined>(undefined);
  const names = pivot.panels.flatMap(({ rows }) => rows.map(({ name }) => name));
  const longest = Math.max(0, ...names.map((name) => name.length));
  const gutter = Math.ceil(Math.min(longest * CHARACTER + 14, width * 0.38));
  const fitting = Math.max(1, Math.floor((width - gutter + GAP) / (COLUMN_MIN + GAP)));
  const perLine = Math.min(pivot.columns.length, fitting);
  const columnWidth = (width - gutter - (perLine - 1) * GAP) / perLine;
  const plotWidth = Math.max(40, columnWidth - room);
  const scale = scaleFor(plotWidth);
  const lines = chunks([...pivot.columns.keys()], perLine);
  const hasTitles = pivot.columns.length > 1;

  let y = 2;
  const drawn: JSX.Element[] = [];
  for (const [panelIndex, panel] of pivot.panels.entries()) {
    if (panel.name !== '') {
      drawn.push(
        <text key={`p${String(panelIndex)}`} class="panel-name" x={0} y={y + 15}>
          {panel.name}
        </text>,
      );
      y += PANEL_TITLE;
    }
    for (const line of lines) {
      const rows = panel.rows.filter(({ cells }) => line.some((column) => cells[column] !== undefined));
      if (rows.length === 0) continue;
      if (hasTitles) {
        for (const [place, column] of line.entries()) {
          drawn.push(
            <text
              key={`c${String(panelIndex)}-${String(column)}`}
              class="column-name"
              x={gutter + place * (columnWidth + GAP)}
              y={y + 12}
            >
              {fitted(pivot.columns[column] ?? '', columnWidth)}
            </text>,
          );
        }
        y += COLUMN_TITLE;
      }
      const height = rows.length * ROW;
      const top = y;
      drawn.push(
        <g key={`g${String(panelIndex)}-${String(line[0])}`} transform={`translate(0 ${String(top)})`}>
          {rows.map((row, index) => (
            <text
              key={row.name}
              class="row-name"
              x={gutter - 10}
              y={index * ROW + ROW / 2 + 4}
              text-anchor="end"
            >
              {fitted(row.name, gutter - 12)}
            </text>
          ))}
          {line.map((column, place) => (
            <g key={column} transform={`translate(${String(gutter + place * (columnWidth + GAP))} 0)`}>
              <Grid scale={scale} height={height} />
              {props.backdrop?.(
                rows.flatMap(({ cells }) => cells[column] ?? []),
                scale,
                height,
              )}
              {rows.map((row, index) => {
                const cell = row.cells[column];
                if (cell === undefined) return undefined;
                const lines = props.describe(cell);
                const show = (): void =>
                  setTip({ x: gutter + place * (columnWidth + GAP), y: top + index * ROW, lines });
                return (
                  <g
                    key={row.name}
                    class="slot"
                    data-cell={cell}
                    tabindex={0}
                    role="button"
                    aria-label={lines.join(', ')}
                    transform={`translate(0 ${String(index * ROW)})`}
                    onPointerEnter={show}
                    onPointerLeave={() => setTip(undefined)}
                    onFocus={show}
                    onBlur={() => setTip(undefined)}
                    onClick={() => props.onSelect(cell)}
                    onKeyDown={(event) => {
                      if (event.key !== 'Enter' && event.key !== ' ') return;
                      event.preventDefault();
                      props.onSelect(cell);
                    }}
                  >
                    <rect class="hit" x={-4} y={1} width={columnWidth + 4} height={ROW - 2} rx={4} />
                    {props.draw({ cell, row: row.name, height: ROW }, scale)}
                  </g>
                );
              })}
            </g>
          ))}
        </g>,
      );
      y += height + 10;
    }
    y += 6;
  }
  const bottom = y;
  return (
    <div class="drawing">
      <svg
        width={width}
        height={bottom + AXIS}
        viewBox={`0 0 ${String(width)} ${String(bottom + AXIS)}`}
        role="group"
        aria-label={label}
      >
        {drawn}
        {Array.from({ length: perLine }, (_, place) => (
          <g
            key={place}
            transform={`translate(${String(gutter + place * (columnWidth + GAP))} ${String(bottom)})`}
          >
            {scale.ticks.map((tick) => (
              <text key={tick} class="tick" x={scale.at(tick)} y={8} text-anchor="middle">
                {props.tickText(tick)}
              </text>
            ))}
            {place === 0 && (
              <text class="unit" x={0} y={30}>
                {fitted(unit, width - gutter)}
              </text>
            )}
          </g>
        ))}
      </svg>
      {tip && <Tooltip tip={tip} width={width} />}
    </div>
  );
}

function Grid({ scale, height }: { readonly scale: Scale; readonly height: number }): JSX.Element {
  return (
    <>
      {scale.ticks.map((tick) => (
        <line key={tick} class="grid" x1={scale.at(tick)} x2={scale.at(tick)} y1={0} y2={height} />
      ))}
    </>
  );
}

const TIP_WIDTH = 288;

export function Tooltip({ tip, width }: { readonly tip: Tip; readonly width: number }): JSX.Element {
  const left = Math.max(0, Math.min(tip.x, width - TIP_WIDTH));
  const [first, ...others] = tip.lines;
  return (
    <div
      class="tip"
      aria-hidden="true"
      style={{ left: `${String(left)}px`, top: `${String(tip.y + ROW + 4)}px` }}
    >
      <b>{first}</b>
      {others.map((line, index) => (
        <div key={index}>{line}</div>
      ))}
    </div>
  );
}

/** The text, or its beginning, in as many pixels. */
export function fitted(text: string, pixels: number): string {
  const most = Math.floor(pixels / CHARACTER);
  return text.length <= most ? text : `${text.slice(0, Math.max(1, most - 1))}…`;
}

function chunks<T>(items: readonly T[], size: number): readonly (readonly T[])[] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, index) =>
    items.slice(index * size, (index + 1) * size),
  );
}
