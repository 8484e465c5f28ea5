/**
 * A picture of what guest requests make the host do: the requests on top, below them lanes for data,
 * metadata and syncs, with the operations in the order of issue. One SVG for light and dark pages.
 *
 * Invariants: every operation that is given is drawn, once, in its order; colours are those of the
 * charts.
 */

import { METADATA_PURPOSES } from '../src/device/purpose.ts';
import { groupedText } from '../src/core/number-text.ts';
import { humanSize } from '../src/core/size.ts';
import { escapeHtml } from '../src/report/markup.ts';
import { CAUSE_COLOURS, PURPOSE_COLOURS, VARIANT_COLOURS } from '../src/report/palette.ts';
import type { Purpose, SyncCause } from '../src/result/vocabulary.ts';

export type DrawnOperation =
  | { readonly op: 'sync'; readonly cause: SyncCause }
  | { readonly op: 'write' | 'zero-range'; readonly purpose: Purpose; readonly length: number };

export interface DrawnRequest {
  /** `write 4 KiB`. */
  readonly name: string;
  readonly operations: readonly DrawnOperation[];
}

export interface Panel {
  readonly variant: string;
  readonly requests: readonly DrawnRequest[];
}

export interface RequestPicture {
  readonly title: string;
  readonly subtitle: string;
  readonly panels: readonly Panel[];
}

/** Pixels. */
const MARGIN = 22;
const GUTTER = 118;
const WIDTH_MAX = 1084;
const SLOT_MAX = 98;
const GAP = 4;
const LANE = 38;
const REQUEST = 24;
const PANEL_TITLE = 28;
const PANEL_GAP = 22;
const HEAD = 62;
const FOOT = 30;
/** Of a character of the small text, on average. */
const CHARACTER = 6;

const LANES = ['data', 'metadata', 'syncs'] as const;
type LaneName = (typeof LANES)[number];

const INK = { light: '#1b2230', dark: '#e8ecf2' };
const STYLE = `
text { font-family: system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif; font-size: 12px; fill: ${INK.light}; }
.title { font-size: 17px; font-weight: 650; } .name { font-size: 14px; font-weight: 650; }
.muted { fill: #566071; } .small { font-size: 11px; } .on-dark { fill: #fff; } .on-light { fill: ${INK.light}; }
.card { fill: #fff; } .lane { fill: #f2f4f7; } .request { fill: #e3e7ee; } .line { stroke: #dde2ea; }
@media (prefers-color-scheme: dark) {
  text { fill: ${INK.dark}; } .muted { fill: #9ba7b7; } .on-dark { fill: #fff; } .on-light { fill: ${INK.light}; }
  .card { fill: #181e26; } .lane { fill: #212934; } .request { fill: #323d4b; } .line { stroke: #2c3541; }
}`.trim();

/** SVG text. */
export function requestPictureSvg({ title, subtitle, panels }: RequestPicture): string {
  const most = Math.max(...panels.map((panel) => operationsOf(panel).length));
  const slot = Math.min(SLOT_MAX, Math.floor((WIDTH_MAX - GUTTER - 2 * MARGIN) / most));
  const width = 2 * MARGIN + GUTTER + most * slot;
  const panelHeight = PANEL_TITLE + REQUEST + GAP + LANES.length * LANE;
  const height = HEAD + panels.length * (panelHeight + PANEL_GAP) + FOOT;
  const drawn = panels.map((panel, index) => {
    const y = HEAD + index * (panelHeight + PANEL_GAP);
    return `<g transform="translate(${String(MARGIN)} ${String(y)})">${panelSvg(panel, { slot, columns: most })}</g>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${String(width)}" height="${String(height)}" viewBox="0 0 ${String(width)} ${String(height)}" role="img" aria-labelledby="t d">`,
    `<title id="t">${escapeHtml(title)}</title>`,
    `<desc id="d">${escapeHtml(panels.map(spoken).join('\n'))}</desc>`,
    `<style>${STYLE}</style>`,
    `<defs><pattern id="zero" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="3" height="6" fill="#fff" opacity="0.28"/></pattern></defs>`,
    `<rect class="card" width="${String(width)}" height="${String(height)}" rx="10"/>`,
    `<text class="title" x="${String(MARGIN)}" y="32">${escapeHtml(title)}</text>`,
    `<text class="muted" x="${String(MARGIN)}" y="51">${escapeHtml(subtitle)}</text>`,
    ...drawn,
    `<text class="muted small" x="${String(MARGIN)}" y="${String(height - 16)}">Dashed: a sync, complete before what follows is issued. Hatched: zeroed by fallocate. Reads are not drawn.</text>`,
    '</svg>',
    '',
  ].join('\n');
}

function panelSvg(
  panel: Panel,
  { slot, columns }: { readonly slot: number; readonly columns: number },
): string {
  const lanesTop = PANEL_TITLE + REQUEST + GAP;
  const parts = [
    `<rect fill="${VARIANT_COLOURS[panel.variant] ?? INK.light}" y="4" width="11" height="11" rx="2.5"/>`,
    `<text class="name" x="18" y="15">${escapeHtml(panel.variant)}</text>`,
    `<text class="muted" x="${String(GUTTER + columns * slot)}" y="15" text-anchor="end">${escapeHtml(sumText(panel))}</text>`,
    `<text class="muted small" x="18" y="${String(PANEL_TITLE + 14)}">guest</text>`,
    ...LANES.map((lane, index) => {
      const y = lanesTop + index * LANE;
      return (
        `<rect class="lane" x="${String(GUTTER)}" y="${String(y)}" width="${String(columns * slot)}" height="${String(LANE - GAP)}" rx="4"/>` +
        `<text class="muted small" x="18" y="${String(y + LANE / 2 + 2)}">${lane}</text>`
      );
    }),
  ];
  let column = 0;
  for (const { name, operations } of panel.requests) {
    const x = GUTTER + column * slot;
    const length = Math.max(1, operations.length) * slot;
    parts.push(
      `<rect class="request" x="${String(x + GAP / 2)}" y="${String(PANEL_TITLE)}" width="${String(length - GAP)}" height="${String(REQUEST - GAP)}" rx="4"/>`,
      `<text class="small" x="${String(x + 9)}" y="${String(PANEL_TITLE + 14)}">${escapeHtml(name)}</text>`,
      `<text class="small muted" x="${String(x + length - 9)}" y="${String(PANEL_TITLE + 14)}" text-anchor="end">${length > 1.5 * slot ? 'answered' : '✓'}</text>`,
    );
    for (const operation of operations) {
      parts.push(operationSvg(operation, { x: GUTTER + column * slot, slot, lanesTop }));
      column++;
    }
    column = Math.max(column, (x - GUTTER + length) / slot);
  }
  return parts.join('\n');
}

function operationSvg(
  operation: DrawnOperation,
  { x, slot, lanesTop }: { readonly x: number; readonly slot: number; readonly lanesTop: number },
): string {
  const lane = laneOf(operation);
  const y = lanesTop + LANES.indexOf(lane) * LANE;
  const colour =
    operation.op === 'sync' ? CAUSE_COLOURS[operation.cause] : PURPOSE_COLOURS[operation.purpose];
  const [left, width, height] = [x + GAP / 2, slot - GAP, LANE - GAP];
  const box = `x="${String(left)}" y="${String(y)}" width="${String(width)}" height="${String(height)}" rx="4"`;
  const middle = x + slot / 2;
  const lines = twoLines(wordsOf(operation), Math.floor((width - 2) / CHARACTER));
  const first = y + height / 2 + (lines.length === 1 ? 4 : -3);
  return [
    ...(operation.op === 'sync'
      ? [
          `<line x1="${String(middle)}" x2="${String(middle)}" y1="${String(lanesTop)}" y2="${String(y)}" stroke="${colour}" stroke-width="2" stroke-dasharray="4 3"/>`,
        ]
      : []),
    `<rect ${box} fill="${colour}"/>`,
    ...(operation.op === 'zero-range' ? [`<rect ${box} fill="url(#zero)"/>`] : []),
    ...lines.map(
      (line, index) =>
        `<text class="small ${textClass(colour)}" x="${String(middle)}" y="${String(first + index * 13)}" text-anchor="middle">${escapeHtml(line)}</text>`,
    ),
  ].join('');
}

function operationsOf({ requests }: Panel): readonly DrawnOperation[] {
  return requests.flatMap(({ operations }) => operations);
}

function laneOf(operation: DrawnOperation): LaneName {
  if (operation.op === 'sync') return 'syncs';
  return METADATA_PURPOSES.includes(operation.purpose) ? 'metadata' : 'data';
}

/** Parts between which a line may end. */
function wordsOf(operation: DrawnOperation): readonly string[] {
  if (operation.op === 'sync') return operation.cause.split(/(?<=-)/);
  return [...operation.purpose.split(/(?<=-)/), ` ${humanSize(operation.length)}`];
}

function twoLines(words: readonly string[], room: number): readonly string[] {
  const whole = words.join('');
  if (whole.length <= room || words.length < 2) return [whole];
  // The longest first line that has room, and the rest.
  const ends = words
    .map((_, index) => words.slice(0, index + 1).join(''))
    .filter((text) => text.length <= room);
  const first = ends.findLast((text) => text !== whole) ?? words[0] ?? '';
  return [first.trim(), whole.slice(first.length).trim()];
}

/** White or dark text, whichever has the greater contrast (WCAG). */
function textClass(colour: string): string {
  const contrast = (a: number, b: number): number => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const own = luminance(colour);
  return contrast(own, 1) >= contrast(own, luminance(INK.light)) ? 'on-dark' : 'on-light';
}

function luminance(colour: string): number {
  const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) => {
    const value = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
    return value <= 0.040_45 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function sumText(panel: Panel): string {
  const operations = operationsOf(panel);
  const syncs = operations.filter(({ op }) => op === 'sync').length;
  const bytes = operations.reduce((sum, each) => sum + (each.op === 'write' ? each.length : 0), 0);
  return `${String(syncs)} ${syncs === 1 ? 'sync' : 'syncs'} · ${groupedText(bytes)} bytes written`;
}

/** For a screen reader. */
function spoken(panel: Panel): string {
  const requests = panel.requests.map(({ name, operations }) => {
    const texts = operations.map((each) =>
      each.op === 'sync' ? `sync ${each.cause}` : `${each.op} ${each.purpose} ${humanSize(each.length)}`,
    );
    return `${name}: ${texts.join(', ')}`;
  });
  return `${panel.variant}: ${requests.join('; ')}.`;
}
