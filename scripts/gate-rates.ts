/**
 * How often the gate on times raises a false alarm, and what it detects, next to other rules: the
 * table of `docs/ci.md` between two marks, from simulated times with known noise. Run by `npm run
 * docs:rates`; a test compares the document with the simulation, which is seeded.
 *
 * Each run has 100 cells and 15 rounds, or 30. Nothing changed in 97 cells; three are slower by 5, 10 and
 * 20 %. `gate --against` takes its samples in turns, with a control. The other rules compare two
 * runs of as many samples, one after the other, as they are used.
 */

import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

import { format, resolveConfig } from 'prettier';
import { mean, sampleVariance, wilcoxonRankSum } from 'simple-statistics';

import { Random } from '../src/core/random.ts';
import { judgeTimes, type RoundTimes } from '../src/gate/time-verdict.ts';
import type { Cell } from '../src/result/schema.ts';

export const GUIDE = new URL('../docs/ci.md', import.meta.url);
const BEGIN = '<!-- rates: begin; written by npm run docs:rates -->';
const END = '<!-- rates: end -->';

const CELLS = 100;
const ROUNDS = 15;
const MORE_ROUNDS = 30;
const RUNS = 300;
const EFFECTS = [1.05, 1.1, 1.2];

/** The factor by which noise lengthens a sample; `time` goes from 0 to 1 over the job. */
type Noise = (random: Random, time: number) => number;

const NOISES: readonly (readonly [string, Noise])[] = [
  ['steady, ± 1 %', (random) => Math.exp(0.01 * normal(random))],
  ['drift of 15 % over the job', (random, time) => (1 + 0.15 * time) * Math.exp(0.01 * normal(random))],
  [
    'bimodal: every other sample + 6 %',
    (random) => (random.below(2) === 0 ? 1 : 1.06) * Math.exp(0.005 * normal(random)),
  ],
  [
    'heavy tail: one sample in ten up to + 300 %',
    (random) => Math.exp(0.01 * normal(random)) * (random.below(10) === 0 ? 1 + 3 * random.fraction() : 1),
  ],
];

interface Job {
  readonly rounds: readonly RoundTimes[];
  readonly moreRounds: readonly RoundTimes[];
  readonly before: readonly number[];
  readonly after: readonly number[];
}

/** Of each cell, whether it is called slower or faster. */
type Rule = (jobs: readonly Job[]) => readonly boolean[];

const RULES: readonly (readonly [string, Rule])[] = [
  [`gate, ${String(ROUNDS)} rounds`, (jobs) => calledByGate(jobs.map(({ rounds }) => rounds))],
  [`gate, ${String(MORE_ROUNDS)} rounds`, (jobs) => calledByGate(jobs.map(({ moreRounds }) => moreRounds))],
  ['ratio of 200 %', (jobs) => jobs.map(({ before, after }) => mean([...after]) > 2 * mean([...before]))],
  ['Welch, p < 0.05', (jobs) => jobs.map(({ before, after }) => differsByWelch(before, after))],
  ['Mann-Whitney, p < 0.05', (jobs) => jobs.map(({ before, after }) => differsByRanks(before, after))],
];

function calledByGate(cells: readonly (readonly RoundTimes[])[]): readonly boolean[] {
  const verdicts = judgeTimes(cells.map((rounds) => ({ cell: CELL, rounds })));
  return verdicts.map(({ outcome }) => outcome === 'regression' || outcome === 'improvement');
}

/** No verdict depends on it. */
const CELL = {} as Cell;

/** The document with the table as it is simulated now. */
export async function withRates(document: string): Promise<string> {
  const [before, rest] = document.split(BEGIN);
  const after = rest?.split(END)[1];
  if (before === undefined || after === undefined) throw new Error(`the document has no ${BEGIN} and ${END}`);
  const text = [before + BEGIN, '', table(), '', END + after].join('\n');
  return await format(text, { ...(await resolveConfig(GUIDE)), parser: 'markdown' });
}

function table(): string {
  const header = ['noise', 'rule', 'runs with a false alarm', '+5 %', '+10 %', '+20 %'];
  const rows = NOISES.flatMap(([noise, draw]) =>
    ratesOf(draw).map(({ rule, falseAlarms, detected }) => [
      noise,
      rule,
      ...[falseAlarms, ...detected].map((runs) => `${((100 * runs) / RUNS).toFixed(1)} %`),
    ]),
  );
  return [header, header.map((_, column) => (column < 2 ? '---' : '---:')), ...rows]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n');
}

interface Rates {
  readonly rule: string;
  /** Runs of `RUNS` in which a cell that did not change was called. */
  readonly falseAlarms: number;
  /** Runs in which the cell with each effect was called. */
  readonly detected: readonly number[];
}

function ratesOf(draw: Noise): readonly Rates[] {
  const random = new Random(1);
  const counts = RULES.map(([rule]) => ({ rule, falseAlarms: 0, detected: EFFECTS.map(() => 0) }));
  for (let run = 0; run < RUNS; run++) {
    const jobs = Array.from({ length: CELLS }, (_, cell) => jobOf(EFFECTS[cell] ?? 1, draw, random));
    for (const [at, [, rule]] of RULES.entries()) {
      const called = rule(jobs);
      const count = counts[at];
      if (count === undefined) continue;
      if (called.slice(EFFECTS.length).includes(true)) count.falseAlarms++;
      for (const index of EFFECTS.keys()) {
        if (called[index] === true) count.detected[index] = (count.detected[index] ?? 0) + 1;
      }
    }
  }
  return counts;
}

function jobOf(effect: number, draw: Noise, random: Random): Job {
  const rounds = (count: number): readonly RoundTimes[] =>
    Array.from({ length: count }, (_, round) => {
      const turns = random.shuffle([0, 1, 2]).map((turn) => (3 * round + turn) / (3 * count));
      const [base = 0, head = 0, control = 0] = turns;
      return {
        base: draw(random, base),
        head: effect * draw(random, head),
        control: draw(random, control),
      };
    });
  const series = (start: number, factor: number): readonly number[] =>
    Array.from({ length: ROUNDS }, (_, at) => factor * draw(random, start + at / (2 * ROUNDS)));
  return {
    rounds: rounds(ROUNDS),
    moreRounds: rounds(MORE_ROUNDS),
    before: series(0, 1),
    after: series(0.5, effect),
  };
}

/** Two-sided; the critical value between those of 14 and 28 degrees of freedom. */
function differsByWelch(before: readonly number[], after: readonly number[]): boolean {
  const [a, b] = [before, after].map((values) => sampleVariance([...values]) / values.length);
  if (a === undefined || b === undefined) return false;
  const freedom = ((a + b) ** 2 * (ROUNDS - 1)) / (a ** 2 + b ** 2);
  const critical = 2.145 - ((2.145 - 2.048) * (freedom - 14)) / 14;
  return Math.abs(mean([...after]) - mean([...before])) / Math.sqrt(a + b) > critical;
}

/** Two-sided, by the normal approximation. */
function differsByRanks(before: readonly number[], after: readonly number[]): boolean {
  const [n, m] = [before.length, after.length];
  const expected = (n * (n + m + 1)) / 2;
  const deviation = Math.sqrt((n * m * (n + m + 1)) / 12);
  return Math.abs(wilcoxonRankSum([...before], [...after]) - expected) / deviation > 1.96;
}

/** Box and Muller. */
function normal(random: Random): number {
  const radius = Math.sqrt(-2 * Math.log(1 - random.fraction()));
  return radius * Math.cos(2 * Math.PI * random.fraction());
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await writeFile(GUIDE, await withRates(await readFile(GUIDE, 'utf8')));
}
