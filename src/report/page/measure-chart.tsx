/** A measure of the cells of a pivot, as bars, samples, ratios, or a grid of numbers. */

import type { JSX } from 'preact';

import type { PageData } from '../page-format.ts';
import { HEAT_COLOUR } from '../palette.ts';
import { factorText, microsecondsText, percentText } from '../numbers.ts';
import { ChartFrame, type ChartTable, type LegendItem } from './chart-frame.tsx';
import { Facets, type Slot } from './facets.tsx';
import type { Measure } from './measures.ts';
import type { Pivot } from './pivot.ts';
import { linearScale, logScale, type Scale } from './scale.ts';

interface MeasureChartProps {
  readonly data: PageData;
  readonly measure: Measure;
  readonly pivot: Pivot;
  readonly as: 'bars' | 'grid';
  readonly colourOf: (cell: number) => string;
  readonly onSelect: (cell: number) => void;
}

/** Pixels for the number after a bar. */
const NUMBER_ROOM = 66;
/** Pixels between marks of an axis. */
const TICK_SPACE = 64;
const BAR = 15;
/** How far beyond the largest value a logarithmic scale goes. */
const REACH = 1.15;

export function MeasureChart(props: MeasureChartProps): JSX.Element {
  const { measure, pivot } = props;
  const shown = pivot.cells.filter((cell) => measure.value(cell) !== undefined);
  const legend: readonly LegendItem[] = measure.parts.filter(({ values }) =>
    shown.some((cell) => (values[cell] ?? 0) > 0),
  );
  return (
    <ChartFrame
      help={measure.id}
      id={measure.id}
      title={measure.title}
      subtitle={measure.subtitle}
      legend={props.as === 'bars' ? legend : []}
      isPicture={props.as === 'bars'}
      table={tableOf(props)}
    >
      {(width) =>
        shown.length === 0 ? (
          <p class="empty">Nothing was measured for this choice.</p>
        ) : props.as === 'grid' ? (
          <HeatGrid {...props} />
        ) : (
          <Drawing {...props} width={width} shown={shown} />
        )
      }
    </ChartFrame>
  );
}

function Drawing(
  props: MeasureChartProps & { readonly width: number; readonly shown: readonly number[] },
): JSX.Element {
  const { data, measure, pivot, colourOf, shown, width, onSelect } = props;
  const scaleFor = (pixels: number): Scale => scaleOf(props, shown, pixels);
  const draw = {
    bars: (slot: Slot, scale: Scale) => (
      <Bar measure={measure} slot={slot} scale={scale} colour={colourOf(slot.cell)} />
    ),
    times: (slot: Slot, scale: Scale) => (
      <Times data={data} slot={slot} scale={scale} colour={colourOf(slot.cell)} />
    ),
    ratio: (slot: Slot, scale: Scale) => (
      <Ratio data={data} slot={slot} scale={scale} colour={colourOf(slot.cell)} />
    ),
  }[measure.mark];
  return (
    <Facets
      width={width}
      label={`${measure.title}: ${measure.unit}`}
      pivot={pivot}
      unit={measure.unit}
      room={NUMBER_ROOM}
      scaleFor={scaleFor}
      tickText={measure.text}
      draw={draw}
      backdrop={
        measure.mark === 'ratio'
          ? (cells, scale, height) => <Band data={data} cells={cells} scale={scale} height={height} />
          : undefined
      }
      describe={(cell) => describe(props, cell)}
      onSelect={onSelect}
    />
  );
}

function scaleOf({ data, measure }: MeasureChartProps, shown: readonly number[], pixels: number): Scale {
  const ticks = Math.max(2, Math.floor(pixels / TICK_SPACE));
  const values = shown.map((cell) => measure.value(cell) ?? 0);
  if (measure.mark === 'bars') return linearScale(Math.max(...values), pixels, ticks);
  const all =
    measure.mark === 'times'
      ? shown.flatMap((cell) => data.samples[cell] ?? [])
      : shown.flatMap((cell) => {
          const ratio = data.ratios[cell];
          return ratio === null || ratio === undefined
            ? []
            : [ratio.low, ratio.high, ...(ratio.control ?? []), 1];
        });
  return logScale(Math.min(...all) / REACH, Math.max(...all) * REACH, pixels, ticks);
}

function Bar({ measure, slot, scale, colour }: MarkProps & { readonly measure: Measure }): JSX.Element {
  const value = measure.value(slot.cell);
  const top = (slot.height - BAR) / 2;
  const parts =
    measure.parts.length === 0 ? [{ name: '', colour, value: value ?? 0 }] : partsOf(measure, slot.cell);
  let at = 0;
  return (
    <>
      {parts.map((part) => {
        const from = at;
        at += part.value;
        return (
          <rect
            key={part.name}
            class="bar"
            data-part={part.name}
            x={scale.at(from)}
            y={top}
            width={Math.max(0, scale.at(at) - scale.at(from))}
            height={BAR}
            fill={part.colour}
          />
        );
      })}
      <text class="value" x={scale.at(value ?? 0) + 7} y={slot.height / 2 + 4}>
        {value === undefined ? '–' : measure.text(value)}
      </text>
    </>
  );
}

function partsOf(
  { parts }: Measure,
  cell: number,
): readonly { readonly name: string; readonly colour: string; readonly value: number }[] {
  return parts
    .map(({ name, colour, values }) => ({ name, colour, value: values[cell] ?? 0 }))
    .filter(({ value }) => value > 0);
}

interface MarkProps {
  readonly slot: Slot;
  readonly scale: Scale;
  readonly colour: string;
}

function Times({ data, slot, scale, colour }: MarkProps & { readonly data: PageData }): JSX.Element {
  const { cell, height } = slot;
  const { timeNs, timeLowNs, timeHighNs } = data.figures;
  const [median, low, high] = [timeNs[cell], timeLowNs[cell], timeHighNs[cell]];
  const samples = data.samples[cell] ?? [];
  if (median === null || median === undefined) return <text class="value">–</text>;
  const middle = height / 2;
  return (
    <>
      {low !== null && low !== undefined && high !== null && high !== undefined && (
        <rect
          x={scale.at(low)}
          y={middle - 7}
          width={Math.max(1, scale.at(high) - scale.at(low))}
          height={14}
          rx={3}
          fill={colour}
          opacity={0.25}
        />
      )}
      {samples.map((sample, index) => (
        <circle
          key={index}
          class="sample"
          cx={scale.at(sample)}
          cy={middle}
          r={2.4}
          fill={colour}
          opacity={0.6}
        />
      ))}
      <line
        x1={scale.at(median)}
        x2={scale.at(median)}
        y1={middle - 8}
        y2={middle + 8}
        stroke={colour}
        stroke-width={2.5}
      />
      <text class="value" x={scale.at(Math.max(median, ...samples)) + 8} y={middle + 4}>
        {microsecondsText(median)}
      </text>
    </>
  );
}

function Ratio({ data, slot, scale, colour }: MarkProps & { readonly data: PageData }): JSX.Element {
  const ratio = data.ratios[slot.cell];
  const middle = slot.height / 2;
  if (ratio === null || ratio === undefined) {
    return (
      <text class="value faint" x={scale.at(1) + 8} y={middle + 4}>
        {data.figures.timeNs[slot.cell] === null ? '–' : 'reference'}
      </text>
    );
  }
  return (
    <>
      <line
        x1={scale.at(ratio.low)}
        x2={scale.at(ratio.high)}
        y1={middle}
        y2={middle}
        stroke={colour}
        stroke-width={2.5}
      />
      <circle cx={scale.at(ratio.estimate)} cy={middle} r={4.5} fill={colour} />
      <text class="value" x={scale.at(ratio.high) + 8} y={middle + 4}>
        {factorText(ratio.estimate)}
      </text>
    </>
  );
}

function Band({
  data,
  cells,
  scale,
  height,
}: {
  readonly data: PageData;
  readonly cells: readonly number[];
  readonly scale: Scale;
  readonly height: number;
}): JSX.Element {
  const controls = cells.flatMap((cell) => data.ratios[cell]?.control ?? []);
  const [low, high] = [Math.min(...controls), Math.max(...controls)];
  return (
    <>
      {controls.length > 0 && (
        <rect
          class="band"
          x={scale.at(low)}
          y={0}
          width={Math.max(1, scale.at(high) - scale.at(low))}
          height={height}
        />
      )}
      <line class="one" x1={scale.at(1)} x2={scale.at(1)} y1={0} y2={height} />
    </>
  );
}

/** What is said of a cell: its name, its value, and the parts of it. */
function describe({ data, measure }: MeasureChartProps, cell: number): readonly string[] {
  const value = measure.value(cell);
  const lines = [
    data.names[cell] ?? '',
    value === undefined
      ? 'not measured'
      : `${measure.text(value)} ${measure.unit.replace(' (logarithmic)', '')}`,
  ];
  const parts = partsOf(measure, cell).map((part) => `${part.name} ${measure.text(part.value)}`);
  if (measure.mark === 'times') {
    const samples = data.samples[cell] ?? [];
    parts.push(
      `${String(samples.length)} samples, ${microsecondsText(Math.min(...samples))} to ${microsecondsText(Math.max(...samples))}`,
    );
  }
  const ratio = measure.mark === 'ratio' ? data.ratios[cell] : undefined;
  if (ratio !== null && ratio !== undefined) {
    parts.push(
      `95 % interval ${factorText(ratio.low)} to ${factorText(ratio.high)}, ${String(ratio.rounds)} rounds`,
      ...(ratio.control === null
        ? []
        : [`A/A control ${factorText(ratio.control[0])} to ${factorText(ratio.control[1])}`]),
      ...(ratio.detectable === null
        ? []
        : [`smallest detectable difference ${percentText(ratio.detectable)}`]),
      `Cliff’s delta ${ratio.cliffsDelta.toFixed(2)}: ${ratio.verdict}`,
    );
  }
  return [...lines, ...parts];
}

/** The figures of the chart, with every part. */
function tableOf({ data, measure, pivot }: MeasureChartProps): ChartTable {
  const parts = measure.parts.filter(({ values }) => pivot.cells.some((cell) => (values[cell] ?? 0) > 0));
  const extra = { bars: [], times: ['Low', 'High', 'Samples'], ratio: ['Low', 'High', 'Rounds', 'Verdict'] }[
    measure.mark
  ];
  return {
    columns: [
      'Cell',
      measure.mark === 'times' ? 'Median' : 'Value',
      ...extra,
      ...parts.map(({ name }) => name),
    ],
    rows: pivot.cells.map((cell) => {
      const value = measure.value(cell);
      return [
        data.names[cell] ?? '',
        value === undefined ? '–' : measure.text(value),
        ...extraTexts(data, measure, cell),
        ...parts.map(({ values }) => measure.text(values[cell] ?? 0)),
      ];
    }),
  };
}

function extraTexts(data: PageData, { mark }: Measure, cell: number): readonly string[] {
  if (mark === 'bars') return [];
  if (mark === 'times') {
    const { timeLowNs, timeHighNs } = data.figures;
    return [
      microsecondsText(timeLowNs[cell] ?? undefined),
      microsecondsText(timeHighNs[cell] ?? undefined),
      String(data.samples[cell]?.length ?? 0),
    ];
  }
  const ratio = data.ratios[cell];
  if (ratio === null || ratio === undefined) return ['–', '–', '–', 'reference'];
  return [factorText(ratio.low), factorText(ratio.high), String(ratio.rounds), ratio.verdict];
}

/** Thickest ink: text stays readable over it, on light and dark pages. */
const INK_MAX = 58;
const INK_MIN = 4;

/** A table a panel; shade follows the square root of the value, so that small figures still differ. */
function HeatGrid({ data, measure, pivot, onSelect }: MeasureChartProps): JSX.Element {
  const most = Math.max(...pivot.cells.map((cell) => measure.value(cell) ?? 0));
  const inkOf = (value: number): number =>
    most <= 0 ? INK_MIN : INK_MIN + (INK_MAX - INK_MIN) * Math.sqrt(Math.max(0, value) / most);
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={measure.title}>
      {pivot.panels.map((panel) => (
        <table key={panel.name} class="heat">
          {panel.name !== '' && <caption>{panel.name}</caption>}
          {pivot.columns.length > 1 && (
            <thead>
              <tr>
                <td />
                {pivot.columns.map((column) => (
                  <th key={column} scope="col">
                    {column}
                  </th>
                ))}
              </tr>
            </thead>
          )}
          <tbody>
            {panel.rows.map((row) => (
              <tr key={row.name}>
                <th scope="row">{row.name}</th>
                {row.cells.map((cell, column) => {
                  const value = cell === undefined ? undefined : measure.value(cell);
                  if (cell === undefined || value === undefined) {
                    return (
                      <td key={column} class="none">
                        –
                      </td>
                    );
                  }
                  return (
                    <td
                      key={column}
                      data-cell={cell}
                      style={{
                        background: `color-mix(in srgb, ${HEAT_COLOUR} ${inkOf(value).toFixed(0)}%, transparent)`,
                      }}
                    >
                      <button type="button" title={data.names[cell]} onClick={() => onSelect(cell)}>
                        {measure.text(value)}
                      </button>
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
      ))}
    </div>
  );
}
