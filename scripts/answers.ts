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

What the [studies](studies.md) that ship answer on bundled workloads. Counts are exact and repeat on any machine;
times are of device models, but for the study of file systems, whose times are of the machine that ran it.
\`npm run answers\` writes this page.
`;

const terminal = openTerminal(['study'], process.env);
const chosen = process.argv.slice(2);
const before = sectionsOf(await readFile(DOCUMENT, 'utf8').catch(() => ''));
const sections: string[] = [];
for (const name of [...studyNames(), PUBLISHED]) {
  const isChosen = chosen.length === 0 || chosen.includes(name);
  const kept = before.get(name);
  if (!isChosen && kept === undefined) continue;
  const text = isChosen ? await (name === PUBLISHED ? publishedSection() : studySection(name)) : (kept ?? '');
  sections.push(`${markOf(name)}\n\n${text.trim()}\n`);
}
const style = await resolveConfig(DOCUMENT);
await writeFile(DOCUMENT, await format([HEAD, ...sections].join('\n'), { ...style, parser: 'markdown' }));

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
  const rows = figures.map(({ figure, published, ours, ratio, reason }) => [
    figure,
    published,
    ours,
    ratio === undefined ? '–' : ratio.toFixed(2),
    reason,
  ]);
  return [
    '## Published figures, predicted from counts',
    '',
    ...markdownRows(['figure', 'published', 'ours', 'ours ÷ published', 'how, and why they differ'], rows),
    '',
    '```console',
    '$ npm run answers -- published',
    '```',
  ].join('\n');
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
