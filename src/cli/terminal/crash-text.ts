/** What `crash` prints: a line per cell, what is wrong, and how much was tried. */

import { wrapped } from '../../core/text-lines.ts';
import { visibleText } from '../../core/visible-text.ts';
import { countOf } from '../../core/number-text.ts';
import { formatSize, humanSize } from '../../core/size.ts';
import type { ExplorationFigures } from '../../crash/crash-progress.ts';
import type { CellFindings, ShownExample } from '../../crash/explore-cell.ts';
import { HAZARD_MEANINGS, HAZARDS } from '../../crash/hazards.ts';
import type { LazyPrice } from '../../crash/price.ts';
import type { StepKind } from '../../crash/steps.ts';
import { cellName } from '../../result/cell.ts';
import type { Cell } from '../../result/schema.ts';
import type { Terminal } from './terminal.ts';

export interface ExploredCell {
  readonly cell: Cell;
  /** What was done to the image between the requests. */
  readonly steps: readonly StepKind[];
  readonly skipped?: string;
  readonly exploration?: ExplorationFigures;
  readonly faults?: CellFindings['faults'];
  readonly examples?: readonly ShownExample[];
  /** Of the exploration. */
  readonly seconds?: number;
}

export interface CrashAnswer {
  readonly cells: readonly ExploredCell[];
  readonly prices: readonly LazyPrice[];
  /** Files that examples were written to. */
  readonly saved: readonly string[];
  readonly seed: number;
  readonly elapsedSeconds: number;
}

/** Up to here a number of states is written out. */
const WRITTEN_OUT = 10n ** 9n;

export function crashText(
  { cells, prices, saved, seed, elapsedSeconds }: CrashAnswer,
  { paint, width }: Pick<Terminal, 'paint' | 'width'>,
): string {
  const { shared, names } = namesOf(cells);
  const hasFaults = cells.some(({ faults }) => faults !== undefined);
  const headings = hasFaults ? [...HEADINGS, FAULTS_HEADING] : HEADINGS;
  const rows = cells.map((each, index) => [
    ...rowOf(each, names[index] ?? ''),
    ...(hasFaults ? [faultCellText(each)] : []),
  ]);
  const widths = headings.map((heading, column) =>
    Math.max(heading.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const line = (row: readonly string[]): string =>
    row
      .map((text, column) =>
        column === 0 ? text.padEnd(widths[column] ?? 0) : text.padStart(widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd();
  const lines = [
    ...(shared === '' ? [] : [paint.bold(shared)]),
    paint.bold(line(headings)),
    ...rows.map((row, index) => painted(line(row), cells[index], paint)),
  ];
  const states = cells.reduce((sum, { exploration }) => sum + (exploration?.tried ?? 0), 0);
  const later = cells.reduce((sum, { exploration }) => sum + (exploration?.later.tried ?? 0), 0);
  const recoveries = cells.reduce((sum, { exploration }) => sum + (exploration?.later.recoveries ?? 0), 0);
  const asked = cells.reduce((sum, { exploration }) => sum + (exploration?.askedSecond ?? 0), 0);
  const ofLater =
    recoveries === 0
      ? ''
      : `, and ${countOf(later, 'state')} of ${countOf(recoveries, 'interrupted opening or repair', 'interrupted openings or repairs')}`;
  const bad = cells.reduce(
    (sum, { cell, exploration }) => sum + (cell.cache === 'unsafe' ? 0 : (exploration?.badStates ?? 0)),
    0,
  );
  const badFaults = cells.reduce((sum, { faults }) => sum + (faults?.violations ?? 0), 0);
  const skipped = cells.filter((each) => each.skipped !== undefined);
  return [
    ...lines,
    '',
    ...skipped.map((each) =>
      paint.dim(`skipped ${visibleText(crashCellName(each))}: ${visibleText(each.skipped ?? '')}`),
    ),
    ...cells.flatMap((cell) => (cell.examples ?? []).flatMap((each) => exampleLines(cell, each, paint))),
    ...cells.flatMap((cell) => lossLines(cell)).map(paint.yellow),
    ...hazardLines(cells, width).map(paint.yellow),
    ...engineLines(cells),
    ...prices.flatMap((price) => wrapped(priceText(price), width)),
    ...saved.map((path) => `Example  ${visibleText(path)}`),
    ...faultLines(cells).map(paint.dim),
    ...(bad + badFaults === 0 ? [paint.green('No violation was found.')] : []),
    ...(bad === 0
      ? []
      : [paint.red(`${countOf(bad, 'state violates', 'states violate')} what was promised.`)]),
    ...(badFaults === 0
      ? []
      : [paint.red(`What was promised was not kept after ${countOf(badFaults, 'fault')}.`)]),
    ...(asked === 0 ? [] : [paint.dim(`${countOf(asked, 'state')} judged by QEMU as well`)]),
    paint.dim(
      `${countOf(states, 'state')}${ofLater} in ${elapsedSeconds.toFixed(1)} s, seed ${String(seed)}`,
    ),
  ].join('\n');
}

/** Between the parts of a cell's name. */
const SEPARATOR = ' · ';

export function crashCellName({ cell, steps }: Pick<ExploredCell, 'cell' | 'steps'>): string {
  return [cellName(cell), ...steps].join(SEPARATOR);
}

const HEADINGS = ['Cell', 'Whole operations', 'Torn', 'Violations', 'Hazards', 'States/s'];

const FAULTS_HEADING = 'Bad faults';

function faultCellText({ faults }: ExploredCell): string {
  if (faults === undefined) return '–';
  return `${countText(faults.violations)} of ${countText(faults.tried)}`;
}

function countText(count: number): string {
  return numberText(BigInt(count));
}

/** How many faults there were, and of how many the guest got an error. */
function faultLines(cells: readonly ExploredCell[]): readonly string[] {
  const all = cells.flatMap(({ faults }) => faults ?? []);
  if (all.length === 0) return [];
  const sum = (name: 'tried' | 'reported' | 'states'): number =>
    all.reduce((total, each) => total + each[name], 0);
  return [
    `${countOf(sum('tried'), 'fault')}, ${countText(sum('reported'))} of them errors of a request, the opening or the close; ${countOf(sum('states'), 'state')} after them`,
  ];
}

/** The names of the cells without what all of them share, and what they share. */
function namesOf(cells: readonly ExploredCell[]): {
  readonly shared: string;
  readonly names: readonly string[];
} {
  const parts = cells.map((each) => visibleText(crashCellName(each)).split(SEPARATOR));
  const [first = []] = parts;
  const shared = cells.length < 2 ? [] : first.filter((part) => parts.every((each) => each.includes(part)));
  const names = parts.map((each) => each.filter((part) => !shared.includes(part)).join(SEPARATOR));
  return { shared: shared.join(SEPARATOR), names };
}

function rowOf({ cell, exploration, seconds = 0 }: ExploredCell, name: string): readonly string[] {
  if (exploration === undefined) return [name, '–', '–', '–', '–', '–'];
  const { space, tried, triedWhole, isExhausted, badStates } = exploration;
  const whole = isExhausted
    ? `all ${numberText(space.whole)} of ${numberText(space.whole)}`
    : `${numberText(BigInt(triedWhole))} of ${numberText(space.whole)}`;
  const torn = tried - triedWhole;
  const tornText = torn === 0 ? '–' : `${numberText(BigInt(torn))} of ${numberText(space.all - space.whole)}`;
  const verdict =
    cell.cache === 'unsafe'
      ? `${shareText(badStates, exploration.distinct)} lost`
      : numberText(BigInt(badStates));
  const hazards = [...exploration.hazards.values()].reduce((sum, { states }) => sum + states, 0);
  const rate = Math.round((tried + exploration.later.tried) / Math.max(seconds, 1e-9));
  return [name, whole, tornText, verdict, numberText(BigInt(hazards)), numberText(BigInt(rate))];
}

function exampleLines(
  cell: ExploredCell,
  { what, isHazard, file }: ShownExample,
  paint: Terminal['paint'],
): readonly string[] {
  const title = `${isHazard ? 'hazard (QEMU too)' : 'violation'} ${what}, ${visibleText(crashCellName(cell))}`;
  const lines = file.timeline.map((line) => `  ${visibleText(line)}`);
  return [(isHazard ? paint.yellow : paint.red)(title), ...lines, ''];
}

/** What a mode without syncs loses. */
function lossLines(each: ExploredCell): readonly string[] {
  const { cell, exploration } = each;
  if (cell.cache !== 'unsafe' || exploration === undefined || exploration.badStates === 0) return [];
  const { badStates, distinct, losses } = exploration;
  const { states, bytesMax, bytesSum, unreadable } = losses;
  const lost = `loses flushed data in ${shareText(badStates, distinct)} of states`;
  const bytes =
    states === 0 ? '' : `, ${humanSize(bytesSum / states)} on average, ${humanSize(bytesMax)} at most`;
  const image =
    unreadable === 0 ? '' : `; the image cannot be read in ${shareText(unreadable, distinct)} of states`;
  return [`${visibleText(crashCellName(each))} ${lost}${bytes}${image}`];
}

/** Each hazard with how many states it is in, and what it means. */
function hazardLines(cells: readonly ExploredCell[], width: number): readonly string[] {
  return HAZARDS.flatMap((hazard) => {
    const found = cells.flatMap(({ exploration }) => exploration?.hazards.get(hazard) ?? []);
    if (found.length === 0) return [];
    const states = found.reduce((sum, each) => sum + each.states, 0);
    const text = `hazard (QEMU too) ${hazard}, ${countOf(states, 'state')} in ${countOf(found.length, 'cell')}: ${HAZARD_MEANINGS[hazard]}`;
    return wrapped(text, width);
  });
}

/** What each engine leaves, where there are several. */
function engineLines(cells: readonly ExploredCell[]): readonly string[] {
  const explored = cells.filter(
    ({ cell, exploration }) => cell.cache !== 'unsafe' && exploration !== undefined,
  );
  const engines = [...new Set(explored.map(({ cell }) => cell.engine))];
  if (engines.length < 2) return [];
  return engines.map((engine) => {
    const own = explored.filter(({ cell }) => cell.engine === engine);
    const sum = (of: (figures: ExplorationFigures) => number): number =>
      own.reduce((total, { exploration }) => total + (exploration === undefined ? 0 : of(exploration)), 0);
    const hazards = HAZARDS.map((hazard) => ({
      hazard,
      states: sum((figures) => figures.hazards.get(hazard)?.states ?? 0),
    })).filter(({ states }) => states > 0);
    const named = hazards.map(({ hazard, states }) => `${hazard} in ${countOf(states, 'state')}`);
    return [
      `Engine ${visibleText(engine)}: ${countOf(
        sum(({ tried }) => tried),
        'state',
      )} of ${countOf(own.length, 'cell')}`,
      countOf(
        sum(({ badStates }) => badStates),
        'violation',
      ),
      ...(named.length === 0 ? ['no hazard'] : named),
    ].join(', ');
  });
}

/** Closer to none, and the text would be 0.00. */
const SAVED_SYNCS_MIN = 0.005;

/** What lazy refcounts save, what a crash costs them, and when that is paid back. */
function priceText({
  cell,
  virtualSize,
  allocatingWrites,
  savedSyncs,
  opening,
  onDevices,
}: LazyPrice): string {
  const { readBytes, changes, syncs } = opening;
  const disk = `disk of ${formatSize(virtualSize)}, ${countOf(allocatingWrites, 'allocating write')}`;
  const place = `price ${visibleText(cellName(cell))} (${disk}):`;
  const crash = `opening after a crash behind them reads ${humanSize(readBytes)}, with ${countOf(changes, 'change')} and ${countOf(syncs, 'sync')}`;
  if (savedSyncs < SAVED_SYNCS_MIN) return `${place} lazy refcounts save no syncs; ${crash}`;
  const devices = onDevices.map(({ device, writes }) =>
    writes === undefined ? `never on ${device}` : `after ${countOf(writes, 'write')} on ${device}`,
  );
  return `${place} lazy refcounts save ${savedSyncs.toFixed(2)} syncs per write; ${crash}; paid back ${devices.join(', ')}`;
}

function painted(line: string, each: ExploredCell | undefined, paint: Terminal['paint']): string {
  if (each?.exploration === undefined) return paint.dim(line);
  if (each.cell.cache === 'unsafe') return paint.yellow(line);
  return each.exploration.badStates + (each.faults?.violations ?? 0) > 0 ? paint.red(line) : line;
}

/** In whole percent; 0 and 100 are exact. */
function shareText(part: number, whole: number): string {
  if (part === 0 || part === whole) return part === 0 ? '0 %' : '100 %';
  return `${String(Math.min(99, Math.max(1, Math.round((part / whole) * 100))))} %`;
}

/** Written out, or as the power of two next below. */
export function numberText(value: bigint): string {
  if (value <= WRITTEN_OUT) return value.toLocaleString('en-US');
  const bits = value.toString(2).length - 1;
  return value === 1n << BigInt(bits) ? `2^${String(bits)}` : `over 2^${String(bits)}`;
}

/** The same for programs: counts of states are text, as they may be larger than a number. */
export function crashJson({
  cells,
  prices,
  saved,
  seed,
  elapsedSeconds,
}: CrashAnswer): Record<string, unknown> {
  return {
    schema: 'qcow2-bench/crash@1',
    seed,
    elapsedSeconds,
    saved,
    prices,
    cells: cells.map(({ cell, steps, skipped, exploration, faults, examples = [], seconds }) => ({
      cell,
      steps,
      skipped: skipped ?? null,
      seconds,
      ...(faults === undefined ? {} : { faults }),
      ...(exploration === undefined
        ? {}
        : {
            states: { whole: String(exploration.space.whole), all: String(exploration.space.all) },
            tried: exploration.tried,
            triedWhole: exploration.triedWhole,
            isExhausted: exploration.isExhausted,
            distinct: exploration.distinct,
            violations: exploration.badStates,
            losses: exploration.losses,
            hazards: Object.fromEntries([...exploration.hazards].map(([name, { states }]) => [name, states])),
            later: {
              recoveries: exploration.later.recoveries,
              states: {
                whole: String(exploration.later.space.whole),
                all: String(exploration.later.space.all),
              },
              tried: exploration.later.tried,
              isExhausted: exploration.later.isExhausted,
            },
            judgedByQemu: exploration.askedSecond,
            inDiscard: exploration.inDiscard,
            repairs: exploration.repairs,
            examples: examples.map(({ file }) => file),
          }),
    })),
  };
}
