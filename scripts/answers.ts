/**
 * Writes docs/answers.md and its charts: each study that ships as it is answered here, and published
 * figures predicted from counts. Run by `npm run answers`, or `npm run answers -- NAME …` for some of
 * the studies (`published` for the figures); the other sections stay as they are.
 */

import { readFile, writeFile } from 'node:fs/promises';

import { format, resolveConfig } from 'prettier';

import { runStudy } from '../src/cli/sessions/study-session.ts';
import { openTerminal } from '../src/cli/terminal/terminal.ts';
import { escapeMarkdown, markdownRows } from '../src/core/markdown.ts';
import { studyChartSvg } from '../src/study/study-chart.ts';
import { readStudy, studyNames, studyPath } from '../src/study/study-file.ts';
import { answerMarkdown, tableMarkdown } from '../src/study/study-text.ts';
import { publishedFigures } from './published-figures.ts';

const DOCUMENT = new URL('../docs/answers.md', import.meta.url);
const CHARTS = new URL('../docs/answers/', import.meta.url);
const PUBLISHED = 'published';

const HEAD = `# Answers

What the [studies](studies.md) that ship answer on bundled [workloads](workloads.md). Of each question: the answer in
bold, what else the cells show, a chart, what was compared, all cells, and the command. \`--workload\` answers it for a
workload or recording of yours.

Counts are exact and repeat on any machine. Times are of device models (a 7200-rpm disk, a consumer's NVMe drive, one
with power-loss protection), but for the file systems, whose times are of the machine that ran them. _Eager_ and
_lazy_ are qcow2's refcounts, and a _sync_ is an fdatasync of the image file:
[how one write travels](cache-modes.md#how-one-write-travels).
\`npm run answers\` writes this page.
`;

const terminal = openTerminal(['study'], process.env);
const chosen = process.argv.slice(2);
const before = sectionsOf(await readFile(DOCUMENT, 'utf8').catch(() => ''));
const sections: string[] = [];
const titles: string[] = [];
for (const name of [...studyNames(), PUBLISHED]) {
  const isChosen = chosen.length === 0 || chosen.includes(name);
  const kept = before.get(name);
  if (!isChosen && kept === undefined) continue;
  const text = isChosen ? await (name === PUBLISHED ? publishedSection() : studySection(name)) : (kept ?? '');
  sections.push(`${markOf(name)}\n\n${text.trim()}\n`);
  titles.push(/^## (.*)$/m.exec(text)?.[1] ?? name);
}
const style = await resolveConfig(DOCUMENT);
await writeFile(
  DOCUMENT,
  await format([HEAD, ...titles.map(linkTo), '', ...sections].join('\n'), { ...style, parser: 'markdown' }),
);

async function studySection(name: string): Promise<string> {
  const study = readStudy(name);
  const session = { study, path: studyPath(name), workloads: undefined, given: {} };
  const answered = await runStudy(session, terminal);
  if (answered === undefined) throw new Error('interrupted');
  const svg = await studyChartSvg(study, answered.table);
  if (svg !== undefined) await writeFile(new URL(`${name}.svg`, CHARTS), svg);
  return [
    `## ${study.question}`,
    '',
    answerMarkdown(answered.sentences),
    ...(svg === undefined ? [] : [`![${escapeMarkdown(study.chart.title)}](answers/${name}.svg)`, '']),
    study.description,
    '',
    '<details><summary>All cells</summary>',
    '',
    tableMarkdown(study, answered.table),
    '</details>',
    '',
    '```console',
    `$ qcow2-bench study ${name}`,
    '```',
  ].join('\n');
}

async function publishedSection(): Promise<string> {
  const figures = await publishedFigures();
  const reasons = [...new Set(figures.map(({ reason }) => reason))];
  const rows = figures.map(({ figure, published, ours, ratio, reason }) => [
    figure,
    published,
    ours,
    ratio === undefined ? '–' : ratio.toFixed(2),
    `(${String(reasons.indexOf(reason) + 1)})`,
  ]);
  return [
    '## Published figures, predicted from counts',
    '',
    'Figures that others measured, and what follows for them from operations that the engines count. Below the table: how',
    'each is predicted, and why the two differ.',
    '',
    ...markdownRows(['figure', 'published', 'ours', 'ours ÷ published', 'how'], rows),
    '',
    ...reasons.map((reason, index) => `${String(index + 1)}. ${reason}`),
    '',
    '```console',
    '$ npm run answers -- published',
    '```',
  ].join('\n');
}

/** A line of the contents; anchors are those of GitHub. */
function linkTo(title: string): string {
  const anchor = title
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\s-]/gu, '')
    .replaceAll(' ', '-');
  return `- [${title}](#${anchor})`;
}

function markOf(name: string): string {
  return `<!-- section ${name} -->`;
}

/** By name. */
function sectionsOf(document: string): ReadonlyMap<string, string> {
  const parts = document.split(/<!-- section ([a-z0-9-]+) -->\n/).slice(1);
  const pairs = parts.flatMap((part, index) =>
    index % 2 === 0 ? [[part, parts[index + 1] ?? ''] as const] : [],
  );
  return new Map(pairs);
}
