/**
 * The report page: the answer, what to choose, the charts and the table of a result in one file.
 *
 * Invariants:
 * - The answer, the environment and a table of all cells need no script.
 * - Every text from a result is escaped, or packed as data that scripts set as text.
 */

import { humanSize } from '../core/size.ts';
import { withVisibleText } from '../core/visible-text.ts';
import { countOf } from '../core/number-text.ts';
import type { CellRecord, Environment, ResultRecord } from '../result/schema.ts';
import { cellKey } from '../result/cell.ts';
import { syncsPerWriteByCause } from '../result/derive.ts';
import { CAUSE_MEANINGS, SYNC_CAUSES, type SyncCause } from '../result/vocabulary.ts';
import { answerOf, type Answer, type NamedCell } from './answer.ts';
import { BELOW_NOTE, belowTable } from './below-text.ts';
import { CELL_COLUMNS, remarksOf } from './cell-table.ts';
import { controlText, warningsOf } from './certainty.ts';
import { choicesOf } from './choices.ts';
import type { CloserLook } from './closer-look.ts';
import { escapeHtml, htmlTable } from './markup.ts';
import { bytesText, microsecondsText, rateText, signedPercentText } from './numbers.ts';
import { pageData, pageDetails } from './page-data.ts';
import type { PageRepair } from './page-format.ts';
import { CACHE_HELP } from './page-help.ts';
import { pageShell } from './page-shell.ts';
import { CAUSE_COLOURS, OTHER_COLOUR, VARIANT_COLOURS } from './palette.ts';
import { discardNote } from './discard-note.ts';
import { OPENING_COLUMNS, openingsOf, openingTexts } from './opening.ts';
import { parityTexts } from './parity-text.ts';
import { predictionsOf, predictionText, type ModelPredictions } from './prediction.ts';
import { FIDELITY_COLUMNS, fidelityRows, fidelityText, verificationText } from './replay-text.ts';
import type { RepairPrice } from './repair-price.ts';
import { modelsOf, reportCells, type ReportCells } from './report-cells.ts';

export interface ReportOptions {
  /** At some cells, by `cellKey`: for the map of the image, and for times on device models. */
  readonly looks?: ReadonlyMap<string, CloserLook>;
  /** Of cells that are repaired after a crash, by `cellKey`. */
  readonly repairs?: ReadonlyMap<string, RepairPrice>;
  /** The page follows the server that it comes from. Default: it connects to nothing. */
  readonly isLive?: boolean;
}

/** The text of the page. */
export function reportHtml(
  record: ResultRecord,
  { looks = new Map(), repairs = new Map(), isLive = false }: ReportOptions = {},
): string {
  const result = withVisibleText(record);
  const report = reportCells(result);
  const answer = answerOf(report);
  const opening = openingSection(result);
  // It comes first where nothing else is answered.
  const isAboutOpening = answer.isAnswer && answer.reference.length === 0;
  const quoted = answer.reference.map(({ cell }) => cell.record);
  const lookedAt = new Map(
    result.cells.flatMap((shown, index): readonly (readonly [CellRecord, CloserLook])[] => {
      const own = record.cells[index];
      const found = own === undefined ? undefined : looks.get(cellKey(own.cell));
      return found === undefined ? [] : [[shown, found]];
    }),
  );
  const body = [
    topOf(result, report, answer, isLive),
    '<main>',
    '<p id="page-error" role="alert" hidden></p>',
    isAboutOpening ? opening : '',
    result.cells.length === 0 && !isLive ? '' : '<div id="app"></div>',
    '<div id="sections">',
    certaintySection(result, report),
    replaySection(result),
    paritySection(result),
    isAboutOpening ? '' : opening,
    belowSection(result),
    ...predictionsOf(result).map(predictionSection),
    environmentSection(result.environment),
    caveatSection(report),
    '</div>',
    plainTable(report),
    '</main>',
    footerOf(result.environment),
  ];
  return pageShell({
    body,
    connect: isLive ? "'self'" : undefined,
    data:
      result.cells.length === 0 && !isLive
        ? {}
        : {
            'report-data': pageData(result, { quoted }),
            'report-details': pageDetails(result, { looks: lookedAt, repairs: pageRepairs(record, repairs) }),
          },
  });
}

/** Those whose both cells are in the result. */
function pageRepairs(
  { cells }: ResultRecord,
  repairs: ReadonlyMap<string, RepairPrice>,
): readonly PageRepair[] {
  const indices = new Map(cells.map(({ cell }, index) => [cellKey(cell), index]));
  return [...repairs].flatMap(([key, price]) => {
    const [cell, eager] = [indices.get(key), indices.get(price.eager)];
    return cell === undefined || eager === undefined ? [] : [{ ...price, cell, eager }];
  });
}

function topOf(result: ResultRecord, report: ReportCells, answer: Answer, isLive: boolean): string {
  const { environment } = result;
  const kicker = `qcow2-bench ${environment.harness} · ${environment.date.slice(0, 10)} · ${countOf(result.cells.length, 'cell')}`;
  const points = answer.points.map(
    ({ about, text }) => `<dt>${escapeHtml(about)}</dt><dd>${escapeHtml(text)}</dd>`,
  );
  return [
    '<header class="top">',
    `<p class="kicker">${escapeHtml(kicker)}${isLive ? ' · <span id="live" role="status">live</span>' : ''}</p>`,
    `<h1>${escapeHtml(answer.headline)}</h1>`,
    '<div class="first">',
    answer.reference.length === 0 ? '' : answerChart(answer.reference),
    choiceOf(report),
    '</div>',
    points.length === 0
      ? ''
      : `<details class="findings"><summary>${countOf(points.length, 'more finding')}</summary><dl class="points">${points.join('\n')}</dl></details>`,
    cacheHelp(report),
    '</header>',
  ].join('\n');
}

/** Of the modes that the result has. */
function cacheHelp({ caches }: ReportCells): string {
  if (caches.length === 0) return '';
  const modes = caches.map((mode) => `<dt>${mode}</dt><dd>${escapeHtml(CACHE_HELP[mode])}</dd>`);
  return `<details class="findings"><summary>What each cache mode promises</summary><dl class="points">${modes.join('\n')}</dl></details>`;
}

/** What to choose, in each case that the cells decide. */
function choiceOf(report: ReportCells): string {
  const choices = choicesOf(report).map(
    ({ about, text }) => `<dt>${escapeHtml(about)}</dt><dd>${escapeHtml(text)}</dd>`,
  );
  if (choices.length === 0) return '';
  return `<section class="choose card" aria-labelledby="choose"><h2 id="choose">What to choose</h2><dl>${choices.join('\n')}</dl></section>`;
}

/** The chart of the answer, which needs no script: a bar for each of its cells, in parts by cause. */
function answerChart(reference: readonly NamedCell[]): string {
  const bars = reference.map(({ name, cell }) => {
    const { counts } = cell.record;
    const causes = counts === null ? new Map<SyncCause, number>() : syncsPerWriteByCause(counts);
    return { name, cell, causes, syncs: cell.figures?.syncsPerWrite ?? 0 };
  });
  const most = Math.max(...bars.map(({ syncs }) => syncs), 0);
  const shown = SYNC_CAUSES.filter((cause) => bars.some(({ causes }) => causes.has(cause)));
  const rows = bars.map(({ name, cell, causes }) => {
    const parts = [...causes].map(
      ([cause, value]) =>
        `<i title="${escapeHtml(`${cause}: ${rateText(value)}`)}" style="width:${String((100 * value) / most)}%;background:${CAUSE_COLOURS[cause]}"></i>`,
    );
    const mark = VARIANT_COLOURS[cell.variant] ?? OTHER_COLOUR;
    return (
      `<tr><th scope="row"><i class="mark" style="background:${mark}"></i>${escapeHtml(name)}</th>` +
      `<td class="stack"><span>${parts.join('')}</span></td>` +
      `<td class="num"><b>${escapeHtml(rateText(cell.figures?.syncsPerWrite))}</b></td>` +
      `<td class="num">${escapeHtml(bytesText(cell.figures?.bytesPerWrite))}</td></tr>`
    );
  });
  const legend = shown.map(
    (cause) =>
      `<li title="${escapeHtml(CAUSE_MEANINGS[cause])}"><i style="background:${CAUSE_COLOURS[cause]}"></i><span>${cause}</span></li>`,
  );
  return [
    '<section class="answer-chart card" aria-label="The answer as a chart"><table>',
    '<thead><tr><td></td><th scope="col">Syncs per guest write, by cause</th><th scope="col" class="num">syncs</th><th scope="col" class="num">bytes</th></tr></thead>',
    `<tbody>${rows.join('\n')}</tbody></table>`,
    legend.length === 0 ? '' : `<ul class="legend">${legend.join('')}</ul>`,
    '</section>',
  ].join('\n');
}

/** How far the times can be trusted; nothing of a result without any. */
function certaintySection(result: ResultRecord, report: ReportCells): string {
  const control = controlText(report);
  const warnings = warningsOf(result, report);
  const notes = [
    ...(control === undefined ? [] : [`<li>${escapeHtml(control)}</li>`]),
    ...warnings.map((text) => `<li class="warning"><b>Warning</b> ${escapeHtml(text)}.</li>`),
  ];
  if (notes.length === 0) return '';
  const models = modelsOf(report);
  const text =
    models.length === 0
      ? 'Samples from this machine; other machines differ.'
      : `Virtual time for modelled devices (${models.join(', ')}): deterministic, and as accurate as the model.`;
  return section({
    title: 'How sure the times are',
    text,
    body: `<ul class="notes card">${notes.join('\n')}</ul>`,
  });
}

function section(parts: { readonly title: string; readonly text: string; readonly body: string }): string {
  return [
    '<section>',
    `<h2>${escapeHtml(parts.title)}</h2><p class="sub">${escapeHtml(parts.text)}</p>`,
    parts.body,
    '</section>',
  ].join('\n');
}

/**
 * How well replays kept the times of their traces, and what was verified; nothing of a result
 * without.
 */
function replaySection(result: ResultRecord): string {
  const timed = fidelityText(result);
  const verified = verificationText(result);
  if (timed === undefined && verified === undefined) return '';
  const table = htmlTable({
    caption: 'How late requests were issued, and write latency from the due time',
    columns: FIDELITY_COLUMNS,
    rows: fidelityRows(result, FIDELITY_COLUMNS),
  });
  return section({
    title: 'Replay fidelity',
    text: [timed, verified].filter((text) => text !== undefined).join(' '),
    body: timed === undefined ? '' : `<div class="card scroll" tabindex="0">${table}</div>`,
  });
}

/** Whether the engines did what QEMU does; nothing of a result in which QEMU ran no cell. */
function paritySection(result: ResultRecord): string {
  const { summary, exceptions, differences } = parityTexts(result);
  if (summary === undefined) return '';
  const notes = exceptions.map((text) => `<li>${escapeHtml(text)}</li>`);
  const different = differences.map(({ verdict, details }) => {
    const lines = details.length === 0 ? '' : `<pre>${escapeHtml(details.join('\n'))}</pre>`;
    return `<li class="warning">${escapeHtml(verdict)}${lines}</li>`;
  });
  const items = [...different, ...notes];
  return section({
    title: 'Compared with QEMU',
    text: `${summary}: the same host operations in the same order, the same bytes in the images, the same data for the guest.`,
    body: items.length === 0 ? '' : `<ul class="notes card">${items.join('\n')}</ul>`,
  });
}

function openingSection(result: ResultRecord): string {
  const openings = openingsOf(result);
  if (openings.length === 0) return '';
  const table = htmlTable({
    caption: 'Host operations of opening only',
    columns: OPENING_COLUMNS.map((title, column) => ({ title, numeric: column >= 2 })),
    rows: openings.map(openingTexts),
  });
  return section({
    title: 'Opening after a crash',
    text: 'These images were not closed. Opening one for writing reads every table, no matter how little was written since the last clean close, and repairs the damage.',
    body: `<div class="card scroll" tabindex="0">${table}</div>`,
  });
}

function belowSection(result: ResultRecord): string {
  const { columns: titles, rows } = belowTable(result);
  if (rows.length === 0) return '';
  const columns = titles.map((title, column) => ({ title, numeric: column >= 3 }));
  const table = htmlTable({ caption: 'Per guest write, on each file system', columns, rows });
  return section({
    title: 'Below the file system',
    text: BELOW_NOTE,
    body: `<div class="card scroll" tabindex="0">${table}</div>`,
  });
}

function predictionSection(model: ModelPredictions): string {
  const table = htmlTable({
    caption: 'Time per guest request',
    columns: [
      { title: 'Cell' },
      { title: 'Measured', numeric: true },
      { title: 'Predicted', numeric: true },
      { title: 'Error', numeric: true },
    ],
    rows: model.predictions.map(({ cell, measuredNs, predictedNs, error }) => [
      cell,
      microsecondsText(measuredNs),
      microsecondsText(predictedNs),
      signedPercentText(error),
    ]),
  });
  return section({
    title: `Predicted by ${model.model} and measured`,
    text: predictionText(model),
    body: `<div class="card scroll" tabindex="0">${table}</div>`,
  });
}

function environmentSection(environment: Environment): string {
  const { fileSystem } = environment;
  const options =
    fileSystem === null || fileSystem.mountOptions.length === 0
      ? ''
      : ` (${fileSystem.mountOptions.join(', ')})`;
  const facts: readonly (readonly [string, string])[] = [
    ['Harness', `qcow2-bench ${environment.harness}`],
    ['Command', `qcow2-bench ${environment.commandLine.join(' ')}`],
    ['Begun', environment.date],
    ['Seed', String(environment.seed)],
    ['Processor', `${environment.cpu}, ${String(environment.cores)} cores`],
    ['Memory', humanSize(environment.memoryBytes)],
    ['Machine', machineText(environment)],
    ['System', `${environment.platform} ${environment.kernel} (${environment.arch})`],
    [
      'File system',
      fileSystem === null ? 'none was timed' : `${fileSystem.type}${options}, ${fileSystem.directory}`,
    ],
    ...(fileSystem === null ? [] : [['Device', deviceText(environment)] as const]),
    ['Node.js', environment.node],
    ...(environment.compression === undefined
      ? []
      : [['Compression', Object.values(environment.compression).join('; ')] as const]),
    ...(environment.qemu === undefined ? [] : [['QEMU', environment.qemu] as const]),
  ];
  const rows = facts.map(
    ([fact, text]) => `<tr><th scope="row">${escapeHtml(fact)}</th><td>${escapeHtml(text)}</td></tr>`,
  );
  const table = `<div class="card scroll" tabindex="0"><table class="facts"><tbody>${rows.join('\n')}</tbody></table></div>`;
  return section({ title: 'Environment', text: 'What is needed to run it again.', body: table });
}

function machineText({ isVirtual, governor, loadAverage }: Environment): string {
  const facts = [
    ...(isVirtual === undefined ? [] : [isVirtual ? 'virtual' : 'physical']),
    ...(governor === undefined ? [] : [`governor ${governor}`]),
    ...(loadAverage === undefined ? [] : [`load ${loadAverage.toFixed(2)} before the run`]),
  ];
  return facts.length === 0 ? 'unknown' : facts.join(', ');
}

/** The device under the file system, as reported by the kernel. */
function deviceText({ fileSystem }: Environment): string {
  const device = fileSystem?.device;
  if (device === undefined) return 'unknown';
  const { name, model, isRotational, writeCache, scheduler } = device;
  const facts = [
    model === undefined ? name : `${name} (${model})`,
    ...(isRotational === undefined ? [] : [isRotational ? 'rotational' : 'not rotational']),
    ...(writeCache === undefined ? [] : [`write cache: ${writeCache}`]),
    ...(scheduler === undefined ? [] : [`scheduler ${scheduler}`]),
  ];
  return facts.join(', ');
}

function caveatSection(report: ReportCells): string {
  const devices = new Set(
    report.cells.map(({ record }) => record.countsDevice).filter((device) => device !== null),
  );
  const discards = discardNote(report.cells.map(({ record }) => record));
  const timed = Math.max(0, ...report.cells.map(({ record }) => record.timedRequests));
  const remarks = Map.groupBy(
    report.cells.filter(({ record }) => remarksOf(record) !== ''),
    ({ record }) => remarksOf(record),
  );
  const notes = [
    `Counts are exact and repeat: every host operation of a separate pass on the ${[...devices].join(' and ')} device, with its purpose, and every sync with its cause.`,
    'Counts run from the first request to the end of close, so deferred work is included; opening is not.',
    'A zero-range asks the file system to zero a range and transfers no data: it is counted separately from writes.',
    ...(timed > 0
      ? [
          `Times are samples of one machine${modelsOf(report).length === 0 ? '' : ', or virtual time for modelled devices'}, taken in separate passes over at most the first ${String(timed)} requests of each workload; close is not included.`,
        ]
      : ['No times were taken.']),
    ...(discards === undefined ? [] : [`${discards}.`]),
    ...[...remarks].map(([remark, cells]) => `${countOf(cells.length, 'cell')} — ${remark}.`),
  ];
  const list = notes.map((note) => `<li>${escapeHtml(note)}</li>`).join('\n');
  return `<section><h2>How to read it</h2><ul class="notes">${list}</ul></section>`;
}

/** For readers without scripts: the main figures of every cell. */
function plainTable(report: ReportCells): string {
  const setup = { title: 'Setup', numeric: false, text: (cell: { readonly setup: string }) => cell.setup };
  const columns = report.setups.length > 1 ? [...CELL_COLUMNS, setup] : CELL_COLUMNS;
  const table = htmlTable({
    caption: 'Counts per guest write, close included',
    columns,
    rows: report.cells.map((cell) => columns.map(({ text }) => text(cell))),
  });
  return [
    '<noscript><section><h2>All cells</h2>',
    '<p class="sub">Charts, filters and time lines need JavaScript; this table does not.</p>',
    `<div class="card scroll">${table}</div></section></noscript>`,
  ].join('\n');
}

function footerOf(environment: Environment): string {
  const text = `Made by qcow2-bench ${environment.harness}. Nothing in this file is loaded from elsewhere.`;
  return `<footer><p>${escapeHtml(text)}</p></footer>`;
}
