/**
 * The report page: one file that holds its data, its charts and the libraries that draw them.
 *
 * Invariants:
 * - It works from a disk without a network, and says so to the browser: its content policy lets
 *   nothing be loaded and only its own scripts run, each named by its hash.
 * - The data is in it once. The answer, the environment and the table of all cells need no script.
 * - Every text from a result is escaped.
 */

import { PAGE_TITLE } from './page-title.ts';
import { createHash } from 'node:crypto';

import { humanSize } from '../core/size.ts';
import { withVisibleText } from '../core/visible-text.ts';
import { countOf } from '../core/number-text.ts';
import type { Environment, ResultRecord } from '../result/schema.ts';
import { answerOf, type Answer, type NamedCell } from './answer.ts';
import { remarksOf, WIDE_COLUMNS } from './cell-table.ts';
import { controlText, warningsOf } from './certainty.ts';
import { reportCharts, selectedAtFirst } from './charts/catalog.ts';
import type { Chart, Selected, Selection } from './charts/chart.ts';
import { chartLibraries, scriptSafe } from './libraries.ts';
import { escapeHtml, htmlTable, scriptJson } from './markup.ts';
import { bytesText, microsecondsText, rateText, signedPercentText } from './numbers.ts';
import { pageScript, type PageData } from './page-script.ts';
import { PAGE_STYLE } from './page-style.ts';
import { VARIANT_COLOURS } from './palette.ts';
import { discardNote } from './discard-note.ts';
import { OPENING_COLUMNS, openingsOf, openingTexts } from './opening.ts';
import { parityTexts } from './parity-text.ts';
import { predictionsOf, predictionText, type ModelPredictions } from './prediction.ts';
import { FIDELITY_COLUMNS, fidelityRows, fidelityText, verificationText } from './replay-text.ts';
import { modelsOf, reportCells, type ReportCell, type ReportCells } from './report-cells.ts';

/** The text of the page. */
export function reportHtml(record: ResultRecord): string {
  const result = withVisibleText(record);
  const report = reportCells(result);
  const answer = answerOf(report);
  const selected = selectedAtFirst(report, answer);
  const charts = reportCharts(report, selected);
  const data: PageData = { charts: charts.map(pageChart), selected };
  const opening = openingSection(result);
  // It comes first where nothing else is answered.
  const isAboutOpening = answer.isAnswer && answer.reference.length === 0;
  const scripts = [...chartLibraries(), scriptSafe(pageScript())];
  return [
    '<!doctype html>',
    '<html lang="en">',
    '<head>',
    '<meta charset="utf-8">',
    `<meta http-equiv="Content-Security-Policy" content="${contentPolicy(scripts)}">`,
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    '<meta name="referrer" content="no-referrer">',
    `<title>${PAGE_TITLE}</title>`,
    `<style>${PAGE_STYLE}</style>`,
    '</head>',
    '<body>',
    topOf(result, answer),
    '<main>',
    '<p id="page-error" role="alert" hidden></p>',
    '<noscript><p class="card">Charts need JavaScript; the table of all cells below has every figure.</p></noscript>',
    isAboutOpening ? opening : '',
    chartSections({ result, report, charts, selected }),
    replaySection(result),
    paritySection(result),
    isAboutOpening ? '' : opening,
    ...predictionsOf(result).map(predictionSection),
    environmentSection(result.environment),
    caveatSection(report),
    allCellsSection(report),
    '</main>',
    footerOf(result.environment),
    `<script type="application/json" id="report-data">${scriptJson(data)}</script>`,
    ...scripts.map((script) => `<script>${script}</script>`),
    '</body>',
    '</html>',
    '',
  ].join('\n');
}

function contentPolicy(scripts: readonly string[]): string {
  const hashes = scripts.map((script) => `'sha256-${createHash('sha256').update(script).digest('base64')}'`);
  return `default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; script-src ${hashes.join(' ')}`;
}

function pageChart({ id, spec, rows, selections, columns, gutter }: Chart): PageData['charts'][number] {
  return { id, spec, rows, selections, columns, gutter };
}

function topOf(result: ResultRecord, answer: Answer): string {
  const { environment } = result;
  const kicker = `qcow2-bench ${environment.harness} · ${environment.date.slice(0, 10)} · ${countOf(result.cells.length, 'cell')}`;
  const points = answer.points.map(
    ({ about, text }) => `<dt>${escapeHtml(about)}</dt><dd>${escapeHtml(text)}</dd>`,
  );
  return [
    '<header class="top">',
    `<p class="kicker">${escapeHtml(kicker)}</p>`,
    `<h1>${escapeHtml(answer.headline)}</h1>`,
    answer.reference.length === 0 ? '' : `<div class="tiles">${answer.reference.map(tile).join('')}</div>`,
    points.length === 0 ? '' : `<dl class="points">${points.join('\n')}</dl>`,
    '</header>',
  ].join('\n');
}

function tile({ name, cell }: NamedCell): string {
  const colour = VARIANT_COLOURS[cell.variant] ?? 'var(--line)';
  const bytes = bytesText(cell.figures?.bytesPerWrite);
  return (
    `<div class="tile" style="--mark:${colour}"><span class="name">${escapeHtml(name)}</span>` +
    `<div class="big">${escapeHtml(rateText(cell.figures?.syncsPerWrite))}</div>` +
    `<span class="sub">syncs per write</span><span class="sub">${escapeHtml(bytes)} bytes written</span></div>`
  );
}

interface ChartParts {
  readonly result: ResultRecord;
  readonly report: ReportCells;
  readonly charts: readonly Chart[];
  readonly selected: Selected;
}

function chartSections({ result, report, charts, selected }: ChartParts): string {
  const card = (id: string): string => {
    const chart = charts.find((candidate) => candidate.id === id);
    return chart === undefined || chart.rows.length === 0 ? '' : chartCard(chart);
  };
  const times = card('times');
  return [
    section({
      title: 'What a guest write costs',
      text: 'One workload, every cache mode. Counts are exact.',
      selectors: selectors(report, ['workload', 'setup'], selected),
      body: card('syncs') + card('bytes'),
    }),
    section({
      title: 'The matrix',
      text: 'Every workload in one cache mode.',
      selectors: selectors(report, ['cache', 'setup'], selected),
      body: `<div class="pair">${card('matrix-syncs')}${card('matrix-amplification')}</div>`,
    }),
    times === ''
      ? ''
      : section({
          title: 'Request times',
          text: timesText(report),
          selectors: selectors(report, ['workload', 'setup'], selected),
          body: certaintyNotes(result, report) + times + card('ratios') + card('split'),
        }),
  ].join('\n');
}

/** How far the times can be trusted, before they are shown. */
function certaintyNotes(result: ResultRecord, report: ReportCells): string {
  const control = controlText(report);
  const warnings = warningsOf(result, report);
  const notes = [
    ...(control === undefined ? [] : [`<li>${escapeHtml(control)}</li>`]),
    ...warnings.map((text) => `<li class="warning"><b>Warning</b> ${escapeHtml(text)}.</li>`),
  ];
  return notes.length === 0 ? '' : `<ul class="notes card">${notes.join('\n')}</ul>`;
}

function timesText(report: ReportCells): string {
  const models = modelsOf(report);
  if (models.length === 0) return 'Samples from this machine; other machines differ.';
  return `Virtual time for modelled devices (${models.join(', ')}): deterministic, and as accurate as the model.`;
}

function section(parts: {
  readonly title: string;
  readonly text: string;
  readonly selectors?: string;
  readonly body: string;
}): string {
  return [
    '<section>',
    `<div class="bar"><div><h2>${escapeHtml(parts.title)}</h2><p class="sub">${escapeHtml(parts.text)}</p></div>`,
    `${parts.selectors ?? ''}</div>`,
    parts.body,
    '</section>',
  ].join('\n');
}

const SELECTOR_LABELS: Readonly<Record<Selection, string>> = {
  workload: 'Workload',
  cache: 'Cache mode',
  setup: 'Setup',
};

function selectors(report: ReportCells, names: readonly Selection[], selected: Selected): string {
  const choices: Readonly<Record<Selection, readonly string[]>> = {
    workload: report.workloads,
    cache: report.caches,
    setup: report.setups,
  };
  const shown = names.filter((name) => choices[name].length > 1);
  const controls = shown.map((name) => {
    const options = choices[name].map((choice) => {
      const text = escapeHtml(choice);
      return `<option value="${text}"${choice === selected[name] ? ' selected' : ''}>${text}</option>`;
    });
    return `<label>${SELECTOR_LABELS[name]}<select data-select="${name}" autocomplete="off">${options.join('')}</select></label>`;
  });
  return `<div class="selectors">${controls.join('')}</div>`;
}

function chartCard(chart: Chart): string {
  const legend = chart.legend.map(
    ({ name, colour, meaning }) =>
      `<li><i style="background:${colour}"></i><span><b>${escapeHtml(name)}</b> ${escapeHtml(meaning)}</span></li>`,
  );
  const head = chart.columns.map(({ title }) => `<th scope="col">${escapeHtml(title)}</th>`).join('');
  return [
    '<figure class="card">',
    `<figcaption><h3>${escapeHtml(chart.title)}</h3><p class="sub">${escapeHtml(chart.subtitle)}</p></figcaption>`,
    legend.length === 0 ? '' : `<ul class="legend">${legend.join('')}</ul>`,
    `<div class="chart" id="chart-${chart.id}"></div>`,
    `<p class="empty" id="empty-${chart.id}" hidden>Nothing was measured for this choice.</p>`,
    '<details class="data"><summary>The same as a table</summary><div class="scroll" tabindex="0">',
    `<table><caption>${escapeHtml(chart.title)}</caption><thead><tr>${head}</tr></thead>`,
    `<tbody id="rows-${chart.id}"></tbody></table></div></details>`,
    '</figure>',
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
    report.cells.filter((cell) => remarksOf(cell) !== ''),
    remarksOf,
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

function allCellsSection(report: ReportCells): string {
  const setup = { title: 'Setup', numeric: false, text: (cell: ReportCell) => cell.setup };
  const columns = report.setups.length > 1 ? [...WIDE_COLUMNS, setup] : WIDE_COLUMNS;
  const table = htmlTable({
    caption: 'Counts per guest write, close included; Zeroed is bytes of zero-ranges ÷ bytes of guest writes',
    columns,
    rows: report.cells.map((cell) => columns.map(({ text }) => text(cell))),
  });
  return [
    '<section><h2>All cells</h2>',
    `<details class="more card"><summary>Show all ${String(report.cells.length)} cells</summary>`,
    `<div class="scroll" tabindex="0">${table}</div></details></section>`,
  ].join('\n');
}

function footerOf(environment: Environment): string {
  const text = `Made by qcow2-bench ${environment.harness}. Charts: Vega, Vega-Lite and Vega-Embed (BSD-3-Clause), inlined.`;
  return `<footer><p>${escapeHtml(text)}</p></footer>`;
}
