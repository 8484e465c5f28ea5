/**
 * The verdict for a terminal or a CI log: what fails comes last, next to the verdict line, where a
 * reader of a log looks first.
 */

import { aligned, wrapped } from '../../core/text-lines.ts';
import type { Finding, FindingKind, GateRecord } from '../record.ts';
import type { TimeOutcome } from '../time-verdict.ts';

export interface VerdictTextOptions {
  /** Colours the words; without it the text is plain. */
  readonly paint?: { readonly bad: (text: string) => string; readonly good: (text: string) => string };
  /** Columns. */
  readonly width?: number;
  /** Cells listed of each cause before the rest is only counted. */
  readonly cellsMax?: number;
  /** Only what fails, and the verdict. */
  readonly quiet?: boolean;
}

const CELLS_MAX = 5;
const WIDTH = 100;

export const FINDING_TITLES: Readonly<Record<FindingKind, string>> = {
  worse: 'WORSE',
  'lost-syncs': 'FEWER SYNCS',
  slower: 'BEYOND LIMIT',
  'hard-limit': 'HARD LIMIT',
  'other-workload': 'OTHER WORKLOAD',
  'other-engine': 'OTHER ENGINE',
  missing: 'MISSING',
  better: 'BETTER',
  'within-limit': 'WITHIN LIMIT',
  new: 'NEW',
};

/** Lines joined by line feeds, without one at the end. */
export function verdictText(
  record: GateRecord,
  { paint = PLAIN, width = WIDTH, cellsMax = CELLS_MAX, quiet = false }: VerdictTextOptions = {},
): string {
  const { bad, good } = paint;
  const lines = (findings: readonly Finding[], colour: (text: string) => string): readonly string[] =>
    findings.flatMap((finding) => [...findingLines(finding, { colour, width, cellsMax }), '']);
  const word = record.passed ? good('gate passed') : bad('gate failed');
  const notes = quiet
    ? []
    : [
        ...lines(record.notes, good),
        ...record.engineNotes.flatMap((note) => [...wrapped(`OTHER ENGINE  ${note}`, width), '']),
      ];
  const times = timeLines(record, { bad, good, quiet });
  const summary = `${word}: ${record.summary}`;
  if (quiet && record.passed) return [...times, summary].join('\n');
  return [...notes, ...lines(record.problems, bad), ...times, summary, ...hintLines(record, width)].join(
    '\n',
  );
}

const TIME_TITLES: Readonly<Record<TimeOutcome, string>> = {
  regression: 'SLOWER',
  improvement: 'FASTER',
  inconclusive: 'INCONCLUSIVE',
  'no change': 'NO CHANGE',
};

/** What is slower comes last; `quiet` shows nothing else. */
function timeLines(
  { times, timeFails }: GateRecord,
  {
    bad,
    good,
    quiet,
  }: Readonly<Record<'bad' | 'good', (text: string) => string>> & { readonly quiet: boolean },
): readonly string[] {
  const order: readonly TimeOutcome[] = ['no change', 'inconclusive', 'improvement', 'regression'];
  const shown = order
    .filter((outcome) => !quiet || outcome === 'regression')
    .flatMap((outcome) => times.filter((time) => time.outcome === outcome));
  if (shown.length === 0) return [];
  const rows = aligned(shown.map(({ outcome, name, text }) => [TIME_TITLES[outcome], name, text]));
  const paint: Readonly<Record<TimeOutcome, (text: string) => string>> = {
    regression: bad,
    improvement: good,
    inconclusive: same,
    'no change': same,
  };
  const advisory = timeFails ? [] : ['Times are advisory; --time fail makes a slower cell fail.'];
  return [...rows.map((row, at) => paint[shown[at]?.outcome ?? 'inconclusive'](row)), ...advisory, ''];
}

function findingLines(
  { kind, sentence, details, cells, firstRequest, command }: Finding,
  {
    colour,
    width,
    cellsMax,
  }: { readonly colour: (text: string) => string; readonly width: number; readonly cellsMax: number },
): readonly string[] {
  const shown = cells.slice(0, cellsMax);
  const rest = cells.length - shown.length;
  return [
    ...wrapped(`${FINDING_TITLES[kind]}  ${sentence}`, width).map(colour),
    ...details.flatMap((detail) => wrapped(detail, width, '    with ')),
    ...aligned(
      shown.map(({ name, text }) => [name, text]),
      { indent: 4 },
    ),
    ...(rest > 0 ? [`    … and ${String(rest)} more`] : []),
    ...(firstRequest === undefined ? [] : wrapped(firstRequest, width, '    ')),
    ...(command === undefined || kind === 'new' ? [] : [`    see: ${command}`]),
  ];
}

function hintLines({ passed, problems, notes, acceptCommand }: GateRecord, width: number): readonly string[] {
  if (problems.length + notes.length === 0 || acceptCommand === undefined) return [];
  const when = passed ? 'To accept the changes' : 'If this change is intended';
  // A command stays in one line: it is to be copied.
  return [...wrapped(`${when}, make this result the baseline:`, width), `  ${acceptCommand}`];
}

function same(text: string): string {
  return text;
}

const PLAIN = { bad: same, good: same };
