/**
 * A crash: the time that saved syncs add up to while the guest writes, against the time of the repair
 * after it. Where the lines cross, the crash is paid back.
 */

import type { JSX } from 'preact';
import { useState } from 'preact/hooks';

import { humanSize } from '../../core/size.ts';
import { bytesText, durationText, rateText } from '../numbers.ts';
import type { PageDetails, PageRepair } from '../page-format.ts';
import { CAUSE_COLOURS } from '../palette.ts';
import {
  breakEvenText,
  furtherData,
  REPAIR_HELP,
  repairReadBytes,
  repairTimeNs,
  writesToBreakEven,
  type RepairOnDevice,
} from '../repair-price.ts';
import { ChartFrame } from './chart-frame.tsx';
import { logScale } from './scale.ts';

interface RepairChartProps {
  readonly details: PageDetails;
  readonly names: readonly string[];
  readonly colourOf: (cell: number) => string;
}

const HEIGHT = 320;
const LEFT = 62;
const RIGHT = 128;
const BOTTOM = 46;
const TOP = 12;
/** Lines closer than this get one label. */
const LABEL = 15;
/** Decades of writes behind the last crossing. */
const MARGIN = 5;
const REPAIR_COLOUR = CAUSE_COLOURS.repair;

export function RepairChart({ details, names, colourOf }: RepairChartProps): JSX.Element | null {
  const [chosen, setChosen] = useState<number | undefined>(undefined);
  const [device, setDevice] = useState<string | undefined>(undefined);
  const repair = details.repairs.find(({ cell }) => cell === chosen) ?? details.repairs[0];
  if (repair === undefined) return null;
  const price =
    repair.onDevices.find((each) => each.device === device) ??
    repair.onDevices.find((each) => each.device === 'nvme-consumer') ??
    repair.onDevices[0];
  if (price === undefined) return null;
  const nameOf = (cell: number): string => names[cell] ?? '';
  return (
    <ChartFrame
      help="repair"
      id="repair"
      title="A crash: what is saved until then, and what the repair costs"
      subtitle={`${REPAIR_HELP} Here, on ${price.device}: ${sentenceOf(repair, price)}`}
      legend={[
        {
          name: 'saved',
          colour: colourOf(repair.cell),
          meaning: `${rateText(Math.max(0, repair.savedSyncs))} syncs per guest write, compared with ${nameOf(repair.eager)}`,
        },
        {
          name: 'repair',
          colour: REPAIR_COLOUR,
          meaning: 'opening after the crash, above an eager opening, with nothing in the page cache',
        },
      ]}
      table={tableOf(details.repairs, nameOf)}
      controls={
        <div class="chart-controls">
          <label class="wide">
            Cell
            <select
              value={String(repair.cell)}
              onChange={(event) => setChosen(Number(event.currentTarget.value))}
            >
              {details.repairs.map(({ cell }) => (
                <option key={cell} value={String(cell)}>
                  {nameOf(cell)}
                </option>
              ))}
            </select>
          </label>
          <label>
            Device
            <select value={price.device} onChange={(event) => setDevice(event.currentTarget.value)}>
              {repair.onDevices.map((each) => (
                <option key={each.device}>{each.device}</option>
              ))}
            </select>
          </label>
        </div>
      }
    >
      {(width) => (
        <Lines
          width={width}
          name={nameOf(repair.cell)}
          price={price}
          sizes={furtherData(repair)}
          colour={colourOf(repair.cell)}
        />
      )}
    </ChartFrame>
  );
}

function sizeText(data: number): string {
  return data === 0 ? 'this image' : `+ ${humanSize(data)} data`;
}

function sentenceOf(repair: PageRepair, price: RepairOnDevice): string {
  const sizes = furtherData(repair);
  const last = sizes.at(-1) ?? 0;
  if (price.savedNs <= 0) {
    return `nothing is saved per write, and the repair takes ${durationText(repairTimeNs(price, 0))}.`;
  }
  const of = (data: number): string =>
    `after ${breakEvenText(price, data)} writes (a repair of ${durationText(repairTimeNs(price, data))})`;
  const more =
    last === 0
      ? ''
      : `; with ${humanSize(last)} more data, ${of(last)}, as it reads every table, however little was written`;
  return `${of(0)}${more}.`;
}

function tableOf(
  repairs: readonly PageRepair[],
  nameOf: (cell: number) => string,
): { readonly columns: readonly string[]; readonly rows: readonly (readonly string[])[] } {
  return {
    columns: [
      'Cell',
      'Image',
      'Device',
      'Saved per write',
      'Repair reads, B',
      'Repair takes',
      'Paid back after, writes',
    ],
    rows: repairs.flatMap((repair) =>
      furtherData(repair).flatMap((data) =>
        repair.onDevices.map((price) => [
          nameOf(repair.cell),
          sizeText(data),
          price.device,
          price.savedNs > 0 ? durationText(price.savedNs) : 'nothing',
          bytesText(repairReadBytes(repair, data)),
          durationText(repairTimeNs(price, data)),
          breakEvenText(price, data),
        ]),
      ),
    ),
  };
}

interface LinesProps {
  readonly width: number;
  readonly name: string;
  readonly price: RepairOnDevice;
  readonly sizes: readonly number[];
  readonly colour: string;
}

function Lines({ width, name, price, sizes, colour }: LinesProps): JSX.Element {
  const { savedNs } = price;
  const lines = sizes.map((data) => ({
    data,
    ns: Math.max(1, repairTimeNs(price, data)),
    writes: writesToBreakEven(price, data),
  }));
  const plot = Math.max(80, width - LEFT - RIGHT);
  const tall = HEIGHT - BOTTOM - TOP;
  const most = Math.max(100, ...lines.map(({ writes }) => writes ?? 0)) * MARGIN;
  const least = Math.min(savedNs > 0 ? savedNs : Infinity, ...lines.map(({ ns }) => ns));
  const largest = Math.max(savedNs > 0 ? savedNs * most : 0, ...lines.map(({ ns }) => ns));
  const across = logScale(1, most, plot, Math.max(2, Math.floor(plot / 70)));
  const up = logScale(least / 1.5, largest * 1.5, tall, 6);
  const x = (writes: number): number => LEFT + across.at(writes);
  const y = (ns: number): number => TOP + tall - up.at(ns);
  return (
    <svg
      width={width}
      height={HEIGHT}
      viewBox={`0 0 ${String(width)} ${String(HEIGHT)}`}
      role="img"
      aria-label={`Time saved by ${name} with each guest write on ${price.device}, and time of the repair of images of ${String(sizes.length)} sizes`}
    >
      {up.ticks.map((tick) => (
        <g key={tick}>
          <line class="grid" x1={LEFT} x2={LEFT + plot} y1={y(tick)} y2={y(tick)} />
          <text class="tick" x={LEFT - 8} y={y(tick) + 4} text-anchor="end">
            {tickText(tick)}
          </text>
        </g>
      ))}
      {across.ticks.map((tick) => (
        <g key={tick}>
          <line class="grid" x1={x(tick)} x2={x(tick)} y1={TOP} y2={TOP + tall} />
          <text class="tick" x={x(tick)} y={TOP + tall + 16} text-anchor="middle">
            {tick.toLocaleString('en-US')}
          </text>
        </g>
      ))}
      <text class="unit" x={LEFT} y={HEIGHT - 8}>
        guest writes until the crash
      </text>
      {lines.map(({ data, ns }, index) => (
        <g key={data}>
          <line
            class="repair"
            data-size={data}
            x1={LEFT}
            x2={LEFT + plot}
            y1={y(ns)}
            y2={y(ns)}
            stroke={REPAIR_COLOUR}
            stroke-width={2}
            stroke-dasharray={index === 0 ? '' : '6 4'}
          />
          {isLabelled(lines, index, (each) => y(each.ns)) && (
            <text class="row-name" x={LEFT + plot + 8} y={y(ns) + 4}>
              {sizeText(data)}
            </text>
          )}
        </g>
      ))}
      {savedNs > 0 && (
        <line
          class="saved"
          x1={x(1)}
          x2={x(most)}
          y1={y(savedNs)}
          y2={y(savedNs * most)}
          stroke={colour}
          stroke-width={2.5}
        />
      )}
      {savedNs > 0 &&
        lines.map(({ data, ns }, index) => {
          const writes = Math.max(1, ns / savedNs);
          return (
            <g key={data}>
              <circle class="crossing" cx={x(writes)} cy={y(ns)} r={4.5} fill={colour} />
              {isLabelled(lines, index, (each) => y(each.ns)) && (
                <text class="crossing-name" x={x(writes) - 8} y={y(ns) - 8} text-anchor="end">
                  {breakEvenText(price, data)}
                </text>
              )}
            </g>
          );
        })}
    </svg>
  );
}

/** Whether the line below is far enough. */
function isLabelled<T>(lines: readonly T[], index: number, y: (line: T) => number): boolean {
  const [own, below] = [lines[index], lines[index - 1]];
  return own !== undefined && (below === undefined || Math.abs(y(own) - y(below)) >= LABEL);
}

/** Round numbers, without their zeroes behind the point. */
function tickText(ns: number): string {
  return durationText(ns).replace(/\.0+(?= )/, '');
}
