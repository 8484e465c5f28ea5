/**
 * A history as a page, in the style of the report: one file without network. It needs no script.
 *
 * Invariant: every text from a history is escaped; the pictures are drawn from its figures.
 */

import { countOf } from '../../core/number-text.ts';
import { withVisibleText } from '../../core/visible-text.ts';
import type { ChangeRecord, EventRecord, HistoryRecord } from '../../history/record.ts';
import { KIND_MARKS } from '../comparison/comparison-page.ts';
import { escapeHtml, htmlTable } from '../markup.ts';
import { pageShell } from '../page-shell.ts';
import { historyCharts } from './history-charts.ts';
import {
  changeTitle,
  commitText,
  dayOf,
  eventNotes,
  historySummary,
  listed,
  timeChangeText,
  timeName,
} from './history-text.ts';

/** The text of the page. */
export async function historyPage(history: HistoryRecord): Promise<string> {
  const record = withVisibleText(history);
  const charts = [...(await historyCharts(history)).values()];
  return pageShell({
    body: [
      '<header class="top">',
      '<p class="kicker">qcow2-bench history</p>',
      `<h1>${escapeHtml(headline(record))}</h1>`,
      `<p class="sub">${escapeHtml(historySummary(record))}</p>`,
      '</header>',
      '<main>',
      record.events.length === 0
        ? ''
        : `<section><h2>What changed, newest first</h2>${record.events.toReversed().map(eventPart).join('\n')}</section>`,
      timesSection(record),
      charts.length === 0 ? '' : `<section><h2>Trends</h2>${charts.map(chartCard).join('\n')}</section>`,
      record.gone.length === 0
        ? ''
        : `<section><h2>Not counted by the newest commit</h2><p class="card">${escapeHtml(listed(record.gone))}</p></section>`,
      '</main>',
    ],
    data: {},
  });
}

/** `2 commits changed counts, and 1 of 8 series of times changed.` */
function headline({ events, times }: HistoryRecord): string {
  const counting = events.filter(({ changes }) => changes.length > 0).length;
  const changed = times.filter(({ changes }) => changes.length > 0).length;
  const counts =
    counting === 0 ? 'No commit changed a count' : `${countOf(counting, 'commit')} changed counts`;
  if (times.length === 0) return `${counts}.`;
  const series = countOf(times.length, 'series of times', 'series of times');
  return `${counts}; ${changed === 0 ? 'none' : String(changed)} of ${series} changed.`;
}

function eventPart(event: EventRecord): string {
  const notes = eventNotes(event).map((note) => `<li>${escapeHtml(note)}</li>`);
  return [
    `<h3>${escapeHtml(commitText(event.commit))} <span class="sub">${escapeHtml(dayOf(event.date))}</span></h3>`,
    notes.length === 0 ? '' : `<ul class="notes card">${notes.join('')}</ul>`,
    ...event.changes.map(changeCard),
  ].join('\n');
}

function changeCard(change: ChangeRecord): string {
  const { kind, isOfEnvironment, sentence, details, cells, firstRequest } = change;
  const mark = isOfEnvironment ? KIND_MARKS.neutral : KIND_MARKS[kind];
  const lines = [
    ...details.map((detail) => `<li>with ${escapeHtml(detail)}</li>`),
    ...(firstRequest === undefined ? [] : [`<li>${escapeHtml(firstRequest)}</li>`]),
  ];
  const table = htmlTable({
    caption: 'Cells',
    columns: [{ title: 'Cell' }, { title: 'Change' }],
    rows: cells.map(({ name, text }) => [name, text]),
  });
  return [
    `<div class="card change" style="--mark:${mark}">`,
    `<h3><span class="kind">${escapeHtml(changeTitle(change))}</span>${escapeHtml(sentence)}</h3>`,
    lines.length === 0 ? '' : `<ul>${lines.join('')}</ul>`,
    `<details class="more"><summary>${countOf(cells.length, 'cell')}</summary><div class="scroll" tabindex="0">${table}</div></details>`,
    '</div>',
  ].join('\n');
}

function timesSection(record: HistoryRecord): string {
  const rows = record.times.flatMap((series) =>
    series.changes.map((change) => [
      timeName(series, record),
      timeChangeText(change),
      dayOf(change.date),
      commitText(change.commit),
    ]),
  );
  if (rows.length === 0) return '';
  const columns = ['Time per request', 'Change', 'Date', 'Commit'].map((title) => ({ title }));
  const table = htmlTable({ caption: 'Times that changed, by change points', columns, rows });
  return `<section><h2>Times</h2><div class="card scroll" tabindex="0">${table}</div></section>`;
}

/** On white, as it was drawn. */
function chartCard(svg: string): string {
  return `<figure class="card scroll" tabindex="0" style="background:#fff">${svg}</figure>`;
}
