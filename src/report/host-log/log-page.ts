/**
 * Host logs as a page, or as Markdown: host operations by purpose and cause, on a time line by guest
 * request, and where they are in the image.
 *
 * Invariant: every text from a log is escaped, or packed as data that scripts set as text.
 */

import { escapeMarkdown, markdownRows } from '../../core/markdown.ts';
import { countOf } from '../../core/number-text.ts';
import { withVisibleText } from '../../core/visible-text.ts';
import { CAUSE_MEANINGS, PHASES, PURPOSE_MEANINGS } from '../../result/vocabulary.ts';
import { escapeHtml, htmlTable } from '../markup.ts';
import { bytesText } from '../numbers.ts';
import type { PageLogs } from '../page-format.ts';
import { pageModels } from '../page-requests.ts';
import { pageShell } from '../page-shell.ts';
import { CAUSE_COLOURS, OTHER_COLOUR, PURPOSE_COLOURS } from '../palette.ts';
import { countedLogs, operationsOf, type CountedLog, type LogCount, type NamedLog } from './log-data.ts';

/** The text of the page of one log, or of two below each other. */
export function hostLogPage(given: readonly NamedLog[]): string {
  const { costs, logs } = withVisibleText(countedLogs(given));
  const data: PageLogs = {
    costs,
    models: pageModels(),
    logs: logs.map(({ name, requests, operations }) => ({ name, requests, operations })),
  };
  const body = [
    '<header class="top">',
    '<p class="kicker">qcow2-bench report · host log</p>',
    `<h1>${escapeHtml(logs.map(sentenceOf).join(' '))}</h1>`,
    '</header>',
    '<main>',
    '<p id="page-error" role="alert" hidden></p>',
    `<section><h2>By purpose and cause</h2>${logs.map(barsOf).join('\n')}</section>`,
    '<div id="log-app"></div>',
    `<section><h2>All operations</h2>${logs.map(countsTable).join('\n')}</section>`,
    '</main>',
  ];
  return pageShell({ body, data: { 'log-data': data } });
}

/** Ends with a line feed. */
export function hostLogMarkdown(given: readonly NamedLog[]): readonly string[] {
  return withVisibleText(countedLogs(given)).logs.map((log) => {
    const table = markdownRows(COLUMNS, log.counts.map(rowOf));
    return `${[escapeMarkdown(sentenceOf(log)), '', ...table].join('\n')}\n`;
  });
}

function sentenceOf({ name, counts, guestRequests }: CountedLog): string {
  const sum = (of: readonly LogCount[]): number => of.reduce((all, each) => all + operationsOf(each), 0);
  const syncs = sum(counts.filter(({ op }) => op === 'sync'));
  const bytes = counts.filter(({ op }) => op === 'write').reduce((all, each) => all + each.bytes, 0);
  const from = guestRequests === 0 ? '' : ` for ${countOf(guestRequests, 'guest request')}`;
  return `${name}: ${countOf(sum(counts), 'host operation')}${from}, ${countOf(syncs, 'sync')}, ${bytesText(bytes)} bytes written.`;
}

const COLUMNS = ['Operation', ...PHASES, 'Bytes'] as const;

function rowOf({ op, purpose, operations, bytes }: LogCount): readonly string[] {
  return [
    `${op} ${purpose}`,
    ...PHASES.map((phase) => bytesText(operations[phase])),
    op === 'sync' || op === 'truncate' ? '' : bytesText(bytes),
  ];
}

function barsOf(log: CountedLog): string {
  const bars = [
    sharesOf(`${log.name}: syncs by cause`, log, ({ op }) => op === 'sync', operationsOf),
    sharesOf(
      `${log.name}: bytes written by purpose`,
      log,
      ({ op }) => op === 'write',
      ({ bytes }) => bytes,
    ),
  ];
  return `<div class="pair">${bars.join('\n')}</div>`;
}

function countsTable(log: CountedLog): string {
  const table = htmlTable({
    caption: `${log.name}: at open, for requests, and at close`,
    columns: COLUMNS.map((title, column) => ({ title, numeric: column > 0 })),
    rows: log.counts.map(rowOf),
  });
  return `<div class="card scroll" tabindex="0" role="region" aria-label="${escapeHtml(`Host operations of ${log.name}`)}">${table}</div>`;
}

const COLOURS: Readonly<Record<string, string>> = { ...PURPOSE_COLOURS, ...CAUSE_COLOURS };
const MEANINGS: Readonly<Record<string, string>> = { ...PURPOSE_MEANINGS, ...CAUSE_MEANINGS };

/** One bar a kind, which needs no script. */
function sharesOf(
  title: string,
  { counts }: CountedLog,
  has: (count: LogCount) => boolean,
  amountOf: (count: LogCount) => number,
): string {
  const shown = counts.filter((count) => has(count) && amountOf(count) > 0);
  if (shown.length === 0) return '';
  const most = Math.max(...shown.map(amountOf));
  const rows = shown
    .toSorted((a, b) => amountOf(b) - amountOf(a))
    .map((count) => {
      const width = String((100 * amountOf(count)) / most);
      const colour = COLOURS[count.purpose] ?? OTHER_COLOUR;
      return (
        `<tr><th scope="row" title="${escapeHtml(MEANINGS[count.purpose] ?? '')}">${escapeHtml(count.purpose)}</th>` +
        `<td class="stack"><span><i style="width:${width}%;background:${colour}"></i></span></td>` +
        `<td class="num">${escapeHtml(bytesText(amountOf(count)))}</td></tr>`
      );
    });
  return `<figure class="answer-chart card"><table><caption>${escapeHtml(title)}</caption><tbody>${rows.join('\n')}</tbody></table></figure>`;
}
