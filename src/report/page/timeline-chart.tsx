/** Host operations of guest requests by purpose and cause, of one cell or of two below each other. */

import type { ComponentChildren, JSX } from 'preact';
import { useState } from 'preact/hooks';

import { CAUSE_MEANINGS, PURPOSE_MEANINGS } from '../../result/vocabulary.ts';
import { durationText } from '../numbers.ts';
import type { PageDetails, PageRequests } from '../page-format.ts';
import { CAUSE_COLOURS, PURPOSE_COLOURS } from '../palette.ts';
import type { Lane } from '../request-operations.ts';
import { ChartFrame, type LegendItem } from './chart-frame.tsx';
import { fitted, Tooltip } from './facets.tsx';
import { linearScale, type Scale } from './scale.ts';
import {
  firstDifference,
  timelineOf,
  type TimedOperation,
  type TimedRequest,
  type TimelineClock,
} from './timeline.ts';
import type { View } from './view.ts';

/** A cell whose operations are drawn. */
export interface TimelineSide {
  readonly name: string;
  readonly requests: PageRequests;
}

interface TimelineProps {
  readonly details: Pick<PageDetails, 'costs' | 'models'>;
  readonly sides: readonly TimelineSide[];
  readonly view: View;
  readonly onView: (change: Partial<View>) => void;
  readonly children?: ComponentChildren;
}

/** Requests shown at first. */
const FIRST_WINDOW = 12;
const LANES: readonly Lane[] = ['data', 'metadata', 'syncs'];
const LANE = 22;
const GUEST = 20;
const TITLE = 24;
const GUTTER = 74;
const COLOURS: Readonly<Record<string, string>> = { ...CAUSE_COLOURS, ...PURPOSE_COLOURS };
const SYNC_COLOURS: Readonly<Record<string, string>> = CAUSE_COLOURS;
const MEANINGS: Readonly<Record<string, string>> = { ...CAUSE_MEANINGS, ...PURPOSE_MEANINGS };
const SYNC_MEANINGS: Readonly<Record<string, string>> = CAUSE_MEANINGS;

function colourOf({ lane, name }: TimedOperation): string {
  return (lane === 'syncs' ? SYNC_COLOURS : COLOURS)[name] ?? '#7d8794';
}

export function TimelineChart({ details, sides, view, onView, children }: TimelineProps): JSX.Element {
  const length = Math.max(0, ...sides.map(({ requests }) => requests.sequence.length));
  const window = windowOf(view, length);
  const model = details.models.find(({ name }) => name === view.clock);
  const clock: TimelineClock = model ?? 'counted';
  const timed = sides.map(({ name, requests }) => ({
    name,
    requests: timelineOf(details, requests, clock, window),
  }));
  const [a, b] = sides;
  const first = a !== undefined && b !== undefined ? firstDifference(a.requests, b.requests) : undefined;
  const shown = timed.flatMap(({ requests }) => requests.flatMap(({ operations }) => operations));
  const ends = timed.map(({ requests }) => requests.at(-1)?.end ?? 0);
  const textOf = (value: number): string =>
    clock === 'counted' ? String(Math.round(value)) : durationText(value);
  return (
    <ChartFrame
      help="timeline"
      id="timeline"
      title="Host operations of each guest request"
      subtitle={
        clock === 'counted'
          ? 'Each operation has the same width: counts, in the order of issue.'
          : `Widths are times on the modelled device ${clock.name}, estimated from the counts: seeks, and blocks that plain writes allocate, are not in them.`
      }
      legend={legendOf(shown)}
      table={{
        columns: ['Request', ...timed.map(({ name }) => name)],
        rows: Array.from({ length: window.to - window.from }, (_, index) => [
          `#${String(window.from + index)}`,
          ...timed.map(
            ({ requests }) => requests[index]?.operations.map(({ text }) => text).join(', ') ?? '',
          ),
        ]),
      }}
      controls={
        <div class="chart-controls">
          {children}
          <label>
            Clock
            <select
              value={clock === 'counted' ? 'counted' : clock.name}
              onChange={(event) => onView({ clock: event.currentTarget.value })}
            >
              <option value="counted">counted operations</option>
              {details.models.map(({ name }) => (
                <option key={name} value={name}>
                  modelled: {name}
                </option>
              ))}
            </select>
          </label>
          <Zoom window={window} length={length} onView={onView} first={first} />
        </div>
      }
    >
      {(width) => (
        <>
          <p class="sub timeline-sum">
            {timed.map(({ name, requests }, index) => (
              <span key={index}>
                {sides.length > 1 && <b>{String.fromCharCode(65 + index)} </b>}
                {name}: {requests.reduce((sum, each) => sum + each.operations.length, 0)} operations
                {clock !== 'counted' && `, ${textOf(ends[index] ?? 0)}`}.{' '}
              </span>
            ))}
            {b !== undefined &&
              (first === undefined
                ? 'All kept requests cost the same.'
                : `The first that differs is #${String(first)}.`)}
          </p>
          <Lanes
            width={width}
            sides={timed}
            most={Math.max(1, ...ends)}
            first={first}
            textOf={textOf}
            onKey={(key) => moved(key, window, length, onView)}
          />
        </>
      )}
    </ChartFrame>
  );
}

interface Window {
  readonly from: number;
  readonly to: number;
}

function windowOf({ from, to }: View, length: number): Window {
  const start = Math.max(0, Math.min(from ?? 0, length - 1));
  const end = Math.max(start + 1, Math.min(to ?? start + FIRST_WINDOW, length));
  return { from: start, to: end };
}

/** The window after a key or a button; `undefined` of a key that means nothing here. */
function moved(
  key: string,
  { from, to }: Window,
  length: number,
  onView: (change: Partial<View>) => void,
): boolean {
  const span = to - from;
  const place = (start: number, size: number): void => {
    const kept = Math.max(1, Math.min(size, length));
    const first = Math.max(0, Math.min(Math.round(start), length - kept));
    onView({ from: first, to: first + kept });
  };
  const step = Math.max(1, Math.round(span / 4));
  switch (key) {
    case 'ArrowLeft':
      place(from - step, span);
      return true;
    case 'ArrowRight':
      place(from + step, span);
      return true;
    case '+':
    case '=':
      place(from + span / 4, Math.ceil(span / 2));
      return true;
    case '-':
      place(from - span / 2, span * 2);
      return true;
    case 'Home':
      place(0, span);
      return true;
    case 'End':
      place(length, span);
      return true;
    default:
      return false;
  }
}

function Zoom({
  window,
  length,
  onView,
  first,
}: {
  readonly window: Window;
  readonly length: number;
  readonly onView: (change: Partial<View>) => void;
  readonly first: number | undefined;
}): JSX.Element {
  const press = (key: string) => () => void moved(key, window, length, onView);
  return (
    <div class="zoom" role="group" aria-label="Requests shown">
      <button type="button" aria-label="Earlier requests" onClick={press('ArrowLeft')}>
        ←
      </button>
      <button type="button" aria-label="Fewer requests" onClick={press('+')}>
        +
      </button>
      <output>
        #{window.from}–#{window.to - 1} of {length}
      </output>
      <button type="button" aria-label="More requests" onClick={press('-')}>
        −
      </button>
      <button type="button" aria-label="Later requests" onClick={press('ArrowRight')}>
        →
      </button>
      {first !== undefined && (
        <button
          type="button"
          onClick={() => onView({ from: Math.max(0, first - 2), to: Math.max(0, first - 2) + FIRST_WINDOW })}
        >
          First difference
        </button>
      )}
    </div>
  );
}

interface LanesProps {
  readonly width: number;
  readonly sides: readonly { readonly name: string; readonly requests: readonly TimedRequest[] }[];
  readonly most: number;
  readonly first: number | undefined;
  readonly textOf: (value: number) => string;
  readonly onKey: (key: string) => boolean;
}

function Lanes({ width, sides, most, first, textOf, onKey }: LanesProps): JSX.Element {
  const [tip, setTip] = useState<{ x: number; y: number; lines: readonly string[] } | undefined>(undefined);
  const plot = Math.max(60, width - GUTTER - 8);
  const scale = linearScale(most, plot, Math.max(2, Math.floor(plot / 90)));
  const side = TITLE + GUEST + LANES.length * LANE + 14;
  const height = sides.length * side;
  return (
    <div class="drawing">
      <svg
        width={width}
        height={height + 24}
        viewBox={`0 0 ${String(width)} ${String(height + 24)}`}
        role="application"
        aria-label="Time line: arrow keys move, plus and minus zoom"
        tabindex={0}
        class="timeline"
        onKeyDown={(event) => {
          if (onKey(event.key)) event.preventDefault();
        }}
        onPointerLeave={() => setTip(undefined)}
      >
        {scale.ticks.map((tick) => (
          <g key={tick} transform={`translate(${String(GUTTER + scale.at(tick))} 0)`}>
            <line class="grid" y1={0} y2={height - 6} />
            <text class="tick" y={height + 10} text-anchor="middle">
              {textOf(tick)}
            </text>
          </g>
        ))}
        {sides.map(({ name, requests }, index) => (
          <g key={index} transform={`translate(0 ${String(index * side)})`}>
            <text class="panel-name" x={0} y={14}>
              {fitted(`${sides.length > 1 ? `${String.fromCharCode(65 + index)}  ` : ''}${name}`, width)}
            </text>
            {['guest', ...LANES].map((lane, row) => (
              <text
                key={lane}
                class="row-name"
                x={GUTTER - 10}
                y={TITLE + (row === 0 ? 14 : GUEST + (row - 1) * LANE + 15)}
                text-anchor="end"
              >
                {lane}
              </text>
            ))}
            {requests.map((request) => (
              <Request
                key={request.number}
                request={request}
                scale={scale}
                isFirst={request.number === first}
                onTip={(x, y, lines) => setTip({ x: GUTTER + x, y: index * side + y, lines })}
              />
            ))}
          </g>
        ))}
      </svg>
      {tip && <Tooltip tip={tip} width={width} />}
    </div>
  );
}

function Request({
  request,
  scale,
  isFirst,
  onTip,
}: {
  readonly request: TimedRequest;
  readonly scale: Scale;
  readonly isFirst: boolean;
  readonly onTip: (x: number, y: number, lines: readonly string[]) => void;
}): JSX.Element {
  const { number, start, end, operations } = request;
  const [left, right] = [GUTTER + scale.at(start), GUTTER + scale.at(end)];
  const width = Math.max(1, right - left - 1.5);
  const bottom = TITLE + GUEST + LANES.length * LANE;
  const text = `#${String(number)}`;
  return (
    <g data-request={number}>
      {isFirst && (
        <rect
          class="difference"
          x={left - 1}
          y={TITLE - 3}
          width={width + 2}
          height={bottom - TITLE + 8}
          rx={3}
        />
      )}
      <rect
        class="request"
        x={left}
        y={TITLE}
        width={width}
        height={GUEST - 4}
        rx={2}
        onPointerEnter={() =>
          onTip(scale.at(start), TITLE, [`Guest request ${text}`, ...operations.map((each) => each.text)])
        }
      />
      {width > 24 && (
        <text class="request-name" x={left + width / 2} y={TITLE + 12} text-anchor="middle">
          {text}
        </text>
      )}
      {operations.map((operation, index) => {
        const row = LANES.indexOf(operation.lane);
        const x = GUTTER + scale.at(operation.start);
        const wide = scale.at(operation.end) - scale.at(operation.start);
        const y = TITLE + GUEST + row * LANE;
        return (
          <rect
            key={index}
            class="operation"
            data-name={operation.name}
            x={x}
            y={y + 2}
            width={Math.max(0.7, wide > 4 ? wide - 1.5 : wide)}
            height={LANE - 4}
            rx={wide > 6 ? 2 : 0}
            fill={colourOf(operation)}
            onPointerEnter={() =>
              onTip(scale.at(operation.start), y, [operation.text, `of guest request ${text}`])
            }
          />
        );
      })}
    </g>
  );
}

function legendOf(operations: readonly TimedOperation[]): readonly LegendItem[] {
  const items = operations.map((operation) => {
    const isSync = operation.lane === 'syncs';
    return {
      name: isSync ? `sync: ${operation.name}` : operation.name,
      colour: colourOf(operation),
      meaning: (isSync ? SYNC_MEANINGS : MEANINGS)[operation.name] ?? '',
    };
  });
  const order = [
    ...Object.keys(PURPOSE_COLOURS),
    ...Object.keys(CAUSE_COLOURS).map((name) => `sync: ${name}`),
  ];
  return [...new Map(items.map((item) => [item.name, item])).values()].toSorted(
    (x, y) => order.indexOf(x.name) - order.indexOf(y.name),
  );
}
