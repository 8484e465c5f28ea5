/**
 * The gate's verdict as one record, from which every output is rendered: terminal, Markdown, JUnit,
 * annotations, metrics, code quality.
 *
 * Invariants:
 * - A problem fails the gate, a note does not. Each has one cause, however many cells it is in.
 * - The record holds no text of a renderer: sentences are plain, names unescaped.
 */

import { countOf, groupedText } from '../core/number-text.ts';
import { beforeAfterText, cellsText, changeText, differenceText } from '../compare/change-text.ts';
import { subjectKey } from '../compare/change-groups.ts';
import { firstRequestText, type FirstRequest } from '../compare/first-request.ts';
import type { ChangeKind, GroupCell } from '../compare/subject-change.ts';
import { isWorse, type CellChange } from '../compare/cell-counts.ts';
import { countingKey, namesAmong } from '../result/cell.ts';
import { deriveFigures } from '../result/derive.ts';
import type { CountedCell, ResultRecord } from '../result/schema.ts';
import { baselineLines, engineOf, gatedCells, type Baseline } from './baseline.ts';
import type { GateGroup, GateVerdict } from './compare.ts';
import { roundsNeeded, type TimeOutcome, type TimeVerdict } from './time-verdict.ts';
import { countsOf, type FigureChange, type HardBreach } from './figures.ts';

export type FindingKind =
  | 'worse'
  | 'lost-syncs'
  | 'slower'
  | 'hard-limit'
  | 'other-workload'
  | 'other-engine'
  | 'missing'
  | 'better'
  | 'within-limit'
  | 'new';

export interface FindingCell {
  readonly name: string;
  readonly cell: CountedCell;
  /** `1,000 → 2,000  +1,000 (+100 %)`, or why it could not be compared. */
  readonly text: string;
}

export interface Finding {
  readonly kind: FindingKind;
  /** Stable from run to run: the subject, the figure, or the kind. */
  readonly key: string;
  /** Without the cells: `+1.00 sync per allocating write, l2-after-cow (…)`. */
  readonly title: string;
  /** The title with the number of cells and the first of them. */
  readonly sentence: string;
  /** What changed in the same cells. */
  readonly details: readonly string[];
  readonly cells: readonly FindingCell[];
  /** What the first request that differs in the first cell cost before, and now. */
  readonly firstRequest: string | undefined;
  /** A command that shows the operations of the first cell. */
  readonly command: string | undefined;
  /** Where the baseline has the first count that changed, from 1. */
  readonly baselineLine: number | undefined;
}

export interface GateRecord {
  readonly passed: boolean;
  /** Times of two commits (`--against`), judged together; empty otherwise. */
  readonly times: readonly TimeFinding[];
  /** Whether a regression in time fails the gate. */
  readonly timeFails: boolean;
  readonly result: string;
  readonly baseline: string;
  readonly limits: string | undefined;
  /** The command that accepts the result. */
  readonly acceptCommand: string | undefined;
  /** `cells 8 worse, 312 as in the baseline`. */
  readonly summary: string;
  /** Engines of another version that count as in the baseline, a sentence each. */
  readonly engineNotes: readonly string[];
  readonly problems: readonly Finding[];
  readonly notes: readonly Finding[];
  /** Cells of the baseline and new ones, each with what became of it. */
  readonly cells: readonly GateCell[];
  readonly harness: string;
  readonly date: string;
}

/** The time of a cell, in words. */
export interface TimeFinding {
  readonly name: string;
  readonly outcome: TimeOutcome;
  /** `1.08×, interval 1.05× to 1.11×, control 1.00×, 15 rounds`. */
  readonly text: string;
}

export interface GateCell {
  readonly name: string;
  readonly cell: CountedCell;
  readonly outcome: 'equal' | 'changed' | 'failed' | 'missing' | 'new';
  /** Sentences of the problems it is in. */
  readonly problems: readonly string[];
  /** Of the result; empty of a missing cell. */
  readonly figures: Readonly<Record<string, number>>;
}

export interface RecordParts {
  readonly verdict: GateVerdict;
  readonly result: ResultRecord;
  readonly baseline: Baseline;
  readonly paths: {
    readonly result: string;
    readonly baseline: string;
    readonly limits?: string | undefined;
  };
  /** `undefined` if there is no baseline to replace. */
  readonly acceptCommand: string | undefined;
  readonly times?: readonly TimeVerdict[] | undefined;
  /** Default false. */
  readonly timeFails?: boolean | undefined;
  /** The command that logs the operations of a cell; `undefined` where there is none. */
  readonly commandOf?: ((cell: CountedCell) => string | undefined) | undefined;
}

export function gateRecord(parts: RecordParts): GateRecord {
  const { verdict, result, baseline, paths } = parts;
  const present = gatedCells(result);
  const all = [
    ...new Map(
      [...baseline.cells, ...present.values()].map(({ cell }) => [countingKey(cell), cell]),
    ).values(),
  ];
  const context: Context = {
    ...parts,
    compared: baseline.cells.length,
    nameOf: namesAmong(all),
    lines: baselineLines(baseline),
  };
  const { times = [], timeFails = false } = parts;
  const slower = times.some(({ outcome }) => outcome === 'regression');
  const groups = verdict.groups.map((group) => groupFinding(group, context));
  const problems = [
    ...workloadFindings(verdict, context),
    ...engineFindings(verdict, context),
    ...missingFindings(verdict, context),
    ...hardFindings(verdict.aboveHardLimits, context),
    ...figureFindings(
      verdict.figures.filter(({ isBreach }) => isBreach),
      context,
    ),
    ...groups.filter(({ isProblem }) => isProblem).map(({ finding }) => finding),
  ];
  const notes = [
    ...newFindings(verdict, context),
    ...groups.filter(({ isProblem }) => !isProblem).map(({ finding }) => finding),
    ...figureFindings(
      verdict.figures.filter(({ isBreach }) => !isBreach),
      context,
    ),
  ];
  return {
    passed: verdict.passed && !(timeFails && slower),
    times: timeFindings(times),
    timeFails,
    ...paths,
    limits: paths.limits,
    acceptCommand: parts.acceptCommand,
    summary: [summaryOf(verdict), ...timeSummary(times)].join('; '),
    engineNotes: engineNotes(verdict),
    problems,
    notes,
    cells: gateCells(all, { verdict, problems, present, nameOf: context.nameOf }),
    harness: result.environment.harness,
    date: result.environment.date,
  };
}

function timeFindings(times: readonly TimeVerdict[]): readonly TimeFinding[] {
  const nameOf = namesAmong(times.map(({ cell }) => cell));
  return times.map(({ cell, outcome, ratio, interval, control, rounds }) => {
    const factor = (value: number): string => `${value.toFixed(3)}×`;
    const width =
      interval === undefined
        ? `too few rounds for an interval (${String(roundsNeeded(times.length))} are needed)`
        : `interval ${interval.map(factor).join(' to ')}`;
    const text = `${factor(ratio)}, ${width}, control ${factor(control)}, ${countOf(rounds, 'round')}`;
    return { name: nameOf(cell), outcome, text };
  });
}

const OUTCOMES = {
  regression: 'slower',
  improvement: 'faster',
  'no change': 'without change',
  inconclusive: 'inconclusive',
} as const satisfies Record<TimeOutcome, string>;

function timeSummary(times: readonly TimeVerdict[]): readonly string[] {
  if (times.length === 0) return [];
  const counts = (Object.keys(OUTCOMES) as TimeOutcome[]).map(
    (outcome) => [times.filter((time) => time.outcome === outcome).length, OUTCOMES[outcome]] as const,
  );
  const text = counts.filter(([cells]) => cells > 0).map(([cells, what]) => `${groupedText(cells)} ${what}`);
  return [`times ${text.join(', ')}`];
}

function summaryOf(verdict: GateVerdict): string {
  const { regressions, incomparable, workloadChanges, missing, improvements, added, equal } = verdict;
  const figures = new Set(verdict.figures.filter(({ isBreach }) => isBreach).map(({ cell }) => cell)).size;
  const hard = new Set(verdict.aboveHardLimits.map(({ cell }) => cell)).size;
  // A limit may allow more than before.
  const within = improvements.filter(({ changes }) => changes.some(isWorse)).length;
  const facts = [
    [regressions.length, 'worse'],
    [figures, 'beyond the limit of a figure'],
    [hard, 'above a hard limit'],
    [incomparable.length, 'incomparable'],
    [workloadChanges.length, 'with another workload'],
    [missing.length, 'missing'],
    [improvements.length - within, 'better'],
    [within, 'within their limits'],
    [added.length, 'new'],
    [equal, 'as in the baseline'],
  ] as const;
  const text = facts.filter(([cells]) => cells > 0).map(([cells, what]) => `${groupedText(cells)} ${what}`);
  return text.length === 0 ? 'nothing to compare' : `cells ${text.join(', ')}`;
}

/** An engine of another version with the same counts passes, but not in silence. */
function engineNotes({ engineChanges, incomparable }: GateVerdict): readonly string[] {
  return engineChanges
    .filter(({ engine }) => !incomparable.some(({ cell }) => engineOf(cell) === engine))
    .map(
      ({ engine, before, after }) =>
        `the baseline was counted by ${engine} ${before}, this result by ${engine} ${after}; counts are the same`,
    );
}

interface Context extends RecordParts {
  /** Cells of the baseline. */
  readonly compared: number;
  readonly nameOf: (cell: CountedCell) => string;
  /** Lines of the baseline's leaves, by cell. */
  readonly lines: ReadonlyMap<string, ReadonlyMap<string, number>>;
}

const GROUP_KINDS: Readonly<Record<ChangeKind, FindingKind>> = {
  more: 'worse',
  'lost-syncs': 'lost-syncs',
  fewer: 'better',
  neutral: 'better',
};

function groupFinding(
  group: GateGroup,
  context: Context,
): { readonly isProblem: boolean; readonly finding: Finding } {
  const { lead, also, cells, failing, limit, first } = group;
  const failingCells = new Set(failing);
  const own = failing.length > 0 ? cells.filter(({ cell }) => failingCells.has(cell)) : cells;
  const isOther = context.verdict.incomparable.some(({ cell }) => cell === own[0]?.cell);
  const isProblem = failing.length > 0;
  const kind =
    isProblem || lead.kind === 'fewer' || lead.kind === 'neutral' ? GROUP_KINDS[lead.kind] : 'within-limit';
  const beyond =
    limit === undefined || limit === '0%' || limit === '0%, -0%' ? '' : `, beyond the limit ${limit}`;
  return {
    isProblem,
    finding: finding(context, {
      kind: isOther ? 'other-engine' : kind,
      key: subjectKey(lead.subject),
      title: changeText(lead) + beyond,
      details: also.map(changeText),
      first: own[0] === cells[0] ? first : undefined,
      cells: own.map((cell) => ({ cell: cell.cell, text: groupCellText(cell) })),
      leaf: firstLeaf(own[0], context),
    }),
  };
}

function groupCellText({ change: { ops, bytes } }: GroupCell): string {
  const [amounts, unit] = ops.before === ops.after ? [bytes, ' B'] : [ops, ''];
  return `${beforeAfterText(amounts)}${unit}  ${differenceText(amounts)}`;
}

/** The leaf of the first cell that changed, as the baseline names it. */
function firstLeaf(first: GroupCell | undefined, { verdict }: Context): string | undefined {
  if (first === undefined) return undefined;
  const changes = [...verdict.regressions, ...verdict.incomparable, ...verdict.improvements];
  const own: CellChange | undefined = changes.find(({ cell }) => cell === first.cell);
  const key = subjectKey(first.change.subject);
  const leaf = own?.changes.find(({ counted }) => {
    if (counted.kind === 'elided') return key === 'elided';
    return key === `${counted.kind}/${counted.kind === 'syncs' ? counted.cause : counted.purpose}`;
  });
  if (leaf === undefined) return undefined;
  const { phase, counted } = leaf;
  if (counted.kind === 'elided') return `${phase}.syncs.elided`;
  if (counted.kind === 'syncs') return `${phase}.syncs.byCause.${counted.cause}`;
  return `${phase}.${counted.kind}.byPurpose.${counted.purpose}.${counted.unit}`;
}

function workloadFindings({ workloadChanges }: GateVerdict, context: Context): readonly Finding[] {
  if (workloadChanges.length === 0) return [];
  return [
    finding(context, {
      kind: 'other-workload',
      key: 'workload',
      title: 'incomparable: the workload asked for something else than in the baseline',
      details: [],
      cells: workloadChanges.map(({ cell, changes }) => ({
        cell,
        text:
          changes.map(({ field, ...change }) => `guest ${field}: ${beforeAfterText(change)}`).join('; ') ||
          'as many requests, but others',
      })),
    }),
  ];
}

function engineFindings({ incomparable, engineChanges }: GateVerdict, context: Context): readonly Finding[] {
  return engineChanges.flatMap(({ engine, before, after }) => {
    const cells = incomparable.filter(({ cell }) => engineOf(cell) === engine);
    if (cells.length === 0) return [];
    return [
      finding(context, {
        kind: 'other-engine',
        key: `engine/${engine}`,
        title: `incomparable: the baseline was counted by ${engine} ${before}, this result by ${engine} ${after}, and counts differ`,
        details: [],
        cells: cells.map(({ cell, changes }) => ({
          cell,
          text: `${groupedText(changes.length)} counts differ`,
        })),
      }),
    ];
  });
}

function missingFindings({ missing }: GateVerdict, context: Context): readonly Finding[] {
  const byReason = Map.groupBy(missing, ({ reason }) => reason);
  return [...byReason].map(([reason, cells]) =>
    finding(context, {
      kind: 'missing',
      key: `missing/${reason}`,
      title: `a cell of the baseline was not counted: ${reason}`,
      details: [],
      cells: cells.map(({ cell }) => ({ cell, text: reason })),
    }),
  );
}

function hardFindings(breaches: readonly HardBreach[], context: Context): readonly Finding[] {
  const byName = Map.groupBy(breaches, ({ name, most }) => `${name} ${String(most)}`);
  return [...byName.values()].flatMap((own) => {
    const [first] = own;
    if (first === undefined) return [];
    return [
      finding(context, {
        kind: 'hard-limit',
        key: `limit/${first.name}`,
        title: `${first.name} exceeds its hard limit of ${groupedText(first.most)}`,
        details: [],
        cells: own.map(({ cell, value }) => ({ cell, text: groupedText(value) })),
        leaf: first.name,
      }),
    ];
  });
}

function figureFindings(changes: readonly FigureChange[], context: Context): readonly Finding[] {
  const byName = Map.groupBy(changes, ({ name, before, after }) => `${name} ${String(after > before)}`);
  return [...byName.values()].flatMap((own) => {
    const [first] = own;
    if (first === undefined) return [];
    const rises = first.after > first.before;
    const percents = own.map(({ before, after }) => (100 * (after - before)) / before);
    const most = percents.toSorted((a, b) => Math.abs(b) - Math.abs(a))[0] ?? 0;
    const what = first.name.startsWith('modelled.') ? 'modelled time' : 'figure';
    const limit = first.isBreach && first.limit !== '0%' ? `, beyond the limit ${first.limit}` : '';
    return [
      finding(context, {
        kind: first.isBreach ? 'slower' : rises ? 'within-limit' : 'better',
        key: first.name,
        title: `${what} ${first.name.replace(/^(?:modelled|figures)\./, '')} ${rises ? 'rose' : 'fell'} by up to ${percent(most)} %${limit}`,
        details: [],
        cells: own.map(({ cell, ...change }) => ({
          cell,
          text: `${figureText(change.before)} → ${figureText(change.after)}`,
        })),
      }),
    ];
  });
}

function newFindings({ added }: GateVerdict, context: Context): readonly Finding[] {
  if (added.length === 0) return [];
  return [
    finding(context, {
      kind: 'new',
      key: 'new',
      title: 'not in the baseline',
      details: [],
      cells: added.map((cell) => ({ cell, text: '' })),
    }),
  ];
}

function finding(
  { compared, nameOf, commandOf, lines }: Context,
  parts: Pick<Finding, 'kind' | 'key' | 'title' | 'details'> & {
    readonly cells: readonly { readonly cell: CountedCell; readonly text: string }[];
    readonly leaf?: string | undefined;
    readonly first?: FirstRequest | undefined;
  },
): Finding {
  const { leaf, cells: own, first: request, ...rest } = parts;
  const cells = own.map(({ cell, text }) => ({ name: nameOf(cell), cell, text }));
  const [first] = cells;
  const where = rest.kind === 'new' ? countOf(cells.length, 'cell') : cellsText(cells.length, compared);
  const place = first && lines.get(countingKey(first.cell));
  return {
    ...rest,
    sentence: `${rest.title}, ${where}; first: ${first?.name ?? 'none'}${request === undefined ? '' : `, request ${String(request.request)}`}`,
    firstRequest: request && firstRequestText(request),
    cells,
    command: first && commandOf?.(first.cell),
    baselineLine: place?.get(leaf ?? '') ?? place?.get(''),
  };
}

function gateCells(
  all: readonly CountedCell[],
  {
    verdict,
    problems,
    present,
    nameOf,
  }: Pick<Context, 'verdict' | 'nameOf'> & {
    readonly problems: readonly Finding[];
    readonly present: ReturnType<typeof gatedCells>;
  },
): readonly GateCell[] {
  const titles = new Map<string, string[]>();
  for (const { title, cells } of problems) {
    for (const { cell } of cells) {
      const key = countingKey(cell);
      titles.set(key, [...(titles.get(key) ?? []), title]);
    }
  }
  const added = new Set(verdict.added.map(countingKey));
  const improved = new Set(verdict.improvements.map(({ cell }) => countingKey(cell)));
  return all.map((cell) => {
    const key = countingKey(cell);
    const counted = present.get(key);
    const own = titles.get(key) ?? [];
    const figures = counted === undefined ? {} : deriveFigures(countsOf(counted));
    const changed = improved.has(key) ? 'changed' : 'equal';
    const outcome = own.length > 0 ? 'failed' : added.has(key) ? 'new' : changed;
    return {
      name: nameOf(cell),
      cell,
      outcome: counted === undefined ? 'missing' : outcome,
      problems: own,
      figures: Object.fromEntries(
        Object.entries(figures).filter((entry): entry is [string, number] => typeof entry[1] === 'number'),
      ),
    };
  });
}

function percent(value: number): string {
  return `${value < 0 ? '−' : '+'}${String(Number(Math.abs(value).toPrecision(3)))}`;
}

function figureText(value: number): string {
  return Number.isInteger(value) ? groupedText(value) : String(Number(value.toPrecision(6)));
}
