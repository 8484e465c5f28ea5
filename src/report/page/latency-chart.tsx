/** Latency curves: how many of the requests took at most how long, spaced by nines. */

import type { JSX } from 'preact';
import { useState } from 'preact/hooks';

import { durationText } from '../numbers.ts';
import type { PageDetails } from '../page-format.ts';
import { ChartFrame } from './chart-frame.tsx';
import { logScale } from './scale.ts';

interface LatencyChartProps {
  readonly details: PageDetails;
  readonly names: readonly string[];
  readonly cells: readonly number[];
  readonly colourOf: (cell: number) => string;
}

/** More curves cannot be distinguished. */
const CURVES_MAX = 12;
const HEIGHT = 300;
const LEFT = 62;
const BOTTOM = 44;
const SHARES: readonly (readonly [number, string])[] = [
  [0, '0'],
  [0.5, '50 %'],
  [0.9, '90 %'],
  [0.99, '99 %'],
  [0.999, '99.9 %'],
  [0.9999, '99.99 %'],
  [0.99999, '99.999 %'],
];
const DASHES: readonly string[] = ['', '6 3', '2 3', '8 3 2 3'];

/** Nines: 0.9 is 1, 0.99 is 2. */
function nines(share: number): number {
  return -Math.log10(1 - share);
}

export function LatencyChart({ details, names, cells, colourOf }: LatencyChartProps): JSX.Element | null {
  const [chosen, setChosen] = useState<string | undefined>(undefined);
  const withCurves = cells.filter((cell) => details.latency[cell]);
  const kinds = [...new Set(withCurves.flatMap((cell) => Object.keys(details.latency[cell] ?? {})))];
  const kind = kinds.includes(chosen ?? '') ? chosen : (kinds.find((each) => each === 'write') ?? kinds[0]);
  if (kind === undefined) return null;
  const all = withCurves.flatMap((cell) => {
    const curve = details.latency[cell]?.[kind];
    return curve === undefined || curve.length < 2 ? [] : [{ cell, curve }];
  });
  const curves = all.slice(0, CURVES_MAX);
  const most = Math.max(
    0.9,
    ...curves.flatMap(({ curve }) => curve.map(([share]) => (share < 1 ? share : 0))),
  );
  const end = nines(most) + 0.35;
  const values = curves.flatMap(({ curve }) => curve.map(([, ns]) => Math.max(1, ns)));
  const used = new Map<string, number>();
  const dashes = curves.map(({ cell }) => {
    const colour = colourOf(cell);
    const index = used.get(colour) ?? 0;
    used.set(colour, index + 1);
    return DASHES[index % DASHES.length] ?? '';
  });
  const left = all.length - curves.length;
  return (
    <ChartFrame
      help="latency"
      id="latency"
      title={`Latency of guest ${kind}s`}
      subtitle={`From the stored histograms. Each step to the right is another nine; the last point is the slowest request.${left > 0 ? ` The first ${String(CURVES_MAX)} of ${String(all.length)} cells: filter to see others.` : ''}`}
      legend={curves.map(({ cell }) => ({ name: names[cell] ?? '', colour: colourOf(cell), meaning: '' }))}
      table={{
        columns: [
          'Cell',
          ...SHARES.slice(1)
            .filter(([share]) => share <= most)
            .map(([, text]) => text),
          'Slowest',
        ],
        rows: curves.map(({ cell, curve }) => [
          names[cell] ?? '',
          ...SHARES.slice(1)
            .filter(([share]) => share <= most)
            .map(([share]) => durationText(curve.findLast(([each]) => each <= share)?.[1])),
          durationText(curve.at(-1)?.[1]),
        ]),
      }}
      controls={
        kinds.length > 1 && (
          <div class="chart-controls">
            <label>
              Requests
              <select value={kind} onChange={(event) => setChosen(event.currentTarget.value)}>
                {kinds.map((each) => (
                  <option key={each}>{each}</option>
                ))}
              </select>
            </label>
          </div>
        )
      }
    >
      {(width) => {
        const plot = Math.max(80, width - LEFT - 16);
        const y = logScale(Math.min(...values) / 1.2, Math.max(...values) * 1.2, HEIGHT - BOTTOM - 10, 6);
        const x = (share: number): number => LEFT + (Math.min(nines(share), end) / end) * plot;
        const down = (ns: number): number => HEIGHT - BOTTOM - y.at(Math.max(1, ns));
        return (
          <svg
            width={width}
            height={HEIGHT}
            viewBox={`0 0 ${String(width)} ${String(HEIGHT)}`}
            role="img"
            aria-label={`Latency curves of ${String(curves.length)} cells`}
          >
            {y.ticks.map((tick) => (
              <g key={tick}>
                <line class="grid" x1={LEFT} x2={LEFT + plot} y1={down(tick)} y2={down(tick)} />
                <text class="tick" x={LEFT - 8} y={down(tick) + 4} text-anchor="end">
                  {durationText(tick)}
                </text>
              </g>
            ))}
            {SHARES.filter(([share]) => nines(share) <= end).map(([share, text]) => (
              <g key={share}>
                <line class="grid" x1={x(share)} x2={x(share)} y1={10} y2={HEIGHT - BOTTOM} />
                <text class="tick" x={x(share)} y={HEIGHT - BOTTOM + 16} text-anchor="middle">
                  {text}
                </text>
              </g>
            ))}
            <text class="unit" x={LEFT} y={HEIGHT - 6}>
              share of the requests that took at most this long
            </text>
            {curves.map(({ cell, curve }, index) => (
              <g key={cell} fill="none" stroke={colourOf(cell)}>
                <path
                  class="curve"
                  stroke-width={2.2}
                  stroke-dasharray={dashes[index]}
                  d={curve
                    .map(
                      ([share, ns], point) =>
                        `${point === 0 ? 'M' : 'L'}${x(share).toFixed(1)} ${down(ns).toFixed(1)}`,
                    )
                    .join('')}
                >
                  <title>{names[cell]}</title>
                </path>
              </g>
            ))}
          </svg>
        );
      }}
    </ChartFrame>
  );
}
