/**
 * Runs of commits of this program: two in turns (`gate --against`), or one after another until the
 * commit is found that changed a count (`gate --bisect`).
 *
 * Invariant: both commits run the same words, in the folder that the user is in, and write only
 * into the folder of the checkouts.
 */

import { join } from 'node:path';

import { Qcow2BenchError } from '../../core/error.ts';
import { countOf } from '../../core/number-text.ts';
import { Random } from '../../core/random.ts';
import { acceptBaseline, type Baseline } from '../../gate/baseline.ts';
import { compareCounts } from '../../gate/compare.ts';
import { judgeTimes, type RoundTimes, type TimeVerdict } from '../../gate/time-verdict.ts';
import { cellKey } from '../../result/cell.ts';
import type { Cell, ResultRecord } from '../../result/schema.ts';
import { requestTimeNs, spreadOf } from '../../result/statistics.ts';
import { readResult } from '../../result/store.ts';
import { modelName } from '../../result/vocabulary.ts';
import type { Checkout, Checkouts, Commit } from '../files/checkouts.ts';

/** Samples of a cell in each run; a run has one time, their median. */
const SAMPLES = 3;
/** Of the order of the runs within each round. */
const SEED = 1;

export interface AgainstOptions {
  readonly base: Commit;
  readonly head: Commit;
  /** Of the command that counts and times, such as `run`, with its options. */
  readonly words: readonly string[];
  /** 0: counts only. */
  readonly rounds: number;
  /** Called before each step, with the share of all work that is done. */
  readonly progress: (text: string, share: number) => void;
}

export interface AgainstOutcome {
  readonly base: ResultRecord;
  readonly head: ResultRecord;
  readonly times: readonly TimeVerdict[];
}

/**
 * Counts both commits, then times them in turns, with the old one twice in each round.
 *
 * @throws Qcow2BenchError `commit-failed` if a run fails; those of `Checkouts`.
 */
export async function runAgainst(
  checkouts: Checkouts,
  { base, head, words, rounds, progress }: AgainstOptions,
): Promise<AgainstOutcome> {
  const sides = {
    base: new Side(await checkouts.make(base), base, words),
    head: new Side(await checkouts.make(head), head, words),
  };
  const steps = 2 + rounds;
  progress(`counting ${base.title}`, 0);
  const counted = { base: await sides.base.run(0), head: sides.head };
  progress(`counting ${head.title}`, 1 / steps);
  const headResult = await counted.head.run(0);
  const random = new Random(SEED);
  const taken = new Map<string, { readonly cell: Cell; readonly rounds: RoundTimes[] }>();
  for (let round = 1; round <= rounds; round++) {
    progress(`round ${String(round)} of ${String(rounds)}`, (1 + round) / steps);
    const times = new Map<keyof RoundTimes, ReadonlyMap<string, TimedCell>>();
    for (const turn of random.shuffle(['base', 'head', 'control'] as (keyof RoundTimes)[])) {
      const side = turn === 'head' ? sides.head : sides.base;
      times.set(turn, timesOf(await side.run(SAMPLES)));
    }
    for (const [key, { cell, timeNs }] of times.get('base') ?? []) {
      const [own, again] = [times.get('head')?.get(key), times.get('control')?.get(key)];
      if (own === undefined || again === undefined) continue;
      const series = taken.get(key) ?? { cell, rounds: [] };
      series.rounds.push({ base: timeNs, head: own.timeNs, control: again.timeNs });
      taken.set(key, series);
    }
  }
  return { base: counted.base, head: headResult, times: judgeTimes([...taken.values()]) };
}

export type BisectOutcome =
  | { readonly kind: 'none'; readonly commits: number }
  | {
      readonly kind: 'found';
      /** The commit that changed a count; several if those between could not be run. */
      readonly suspects: readonly Commit[];
      /** The counts before and after it. */
      readonly before: Baseline;
      readonly result: ResultRecord;
    };

/**
 * Searches the commits after `good` up to `bad` for the first that counts otherwise than `good`.
 *
 * @throws Qcow2BenchError `no-commits`; `commit-failed` if `good` or `bad` cannot be run.
 */
export async function bisect(
  checkouts: Checkouts,
  {
    good,
    bad,
    words,
    progress,
  }: Pick<AgainstOptions, 'words' | 'progress'> & { readonly good: Commit; readonly bad: Commit },
): Promise<BisectOutcome> {
  const commits = await checkouts.between(good, bad);
  if (commits.length === 0) {
    const message = `${bad.title} has no commit that ${good.title} lacks: name the older one first`;
    throw new Qcow2BenchError('no-commits', message);
  }
  // Both ends, and some log₂ of those between.
  const steps = 2 + Math.ceil(Math.log2(commits.length));
  let runs = 0;
  const runOf = async (commit: Commit): Promise<ResultRecord> => {
    progress(`counting ${commit.title}`, Math.min(1, runs++ / steps));
    return new Side(await checkouts.make(commit), commit, words).run(0);
  };
  const before = withoutVersions(acceptBaseline(await runOf(good)));
  const differs = (result: ResultRecord): boolean => {
    const { passed, improvements, added } = compareCounts(result, before);
    return !passed || improvements.length > 0 || added.length > 0;
  };
  let result = await runOf(bad);
  if (!differs(result)) return { kind: 'none', commits: commits.length };
  // Commits up to `low` count as `good`, those from `high` on do not; others cannot be run.
  let [low, high] = [-1, commits.length - 1];
  const unfit = new Set<number>();
  for (;;) {
    const open = range(low + 1, high).filter((at) => !unfit.has(at));
    const middle = open[open.length >> 1];
    const commit = middle === undefined ? undefined : commits[middle];
    if (middle === undefined || commit === undefined) break;
    progress(`${countOf(open.length, 'commit')} left`, Math.min(1, runs / steps));
    const own = await runOf(commit).catch((error: unknown) => {
      if (error instanceof Qcow2BenchError && error.code !== 'interrupted') return undefined;
      throw error;
    });
    if (own === undefined) unfit.add(middle);
    else if (differs(own)) [high, result] = [middle, own];
    else low = middle;
  }
  return { kind: 'found', suspects: commits.slice(low + 1, high + 1), before, result };
}

/** The engines are of different commits: that is what is compared. */
export function withoutVersions({ engines: _, ...baseline }: Baseline): Baseline {
  return baseline;
}

/** One commit, run again and again. */
class Side {
  readonly #checkout: Checkout;
  readonly #commit: Commit;
  readonly #words: readonly string[];
  #runs = 0;

  constructor(checkout: Checkout, commit: Commit, words: readonly string[]) {
    this.#checkout = checkout;
    this.#commit = commit;
    this.#words = words;
  }

  async run(samples: number): Promise<ResultRecord> {
    const out = join(this.#checkout.folder, `.result-${String(this.#runs++)}.json`);
    const timing = samples === 0 ? [] : ['--warmup', '1'];
    const words = [...this.#words, '--samples', String(samples), ...timing, '--out', out, '--overwrite'];
    const report = words[0] === 'bench' ? ['--report', `${out}.html`] : [];
    const { exitCode, stderr } = await this.#checkout.run([...words, ...report]);
    if (exitCode !== 0) {
      const said = stderr.trim().split('\n').at(-1) ?? '';
      const message = `${this.#commit.title}: ${this.#words.join(' ')} failed: ${said}`;
      throw new Qcow2BenchError('commit-failed', message);
    }
    return readResult(out);
  }
}

interface TimedCell {
  readonly cell: Cell;
  readonly timeNs: number;
}

/** Measured times; modelled ones are exact, and the counts explain them. */
function timesOf({ cells }: ResultRecord): ReadonlyMap<string, TimedCell> {
  const timed = cells.filter(
    ({ cell, timings }) => timings.length > 0 && modelName(cell.device) === undefined,
  );
  return new Map(
    timed.map(({ cell, timings }) => {
      const timeNs = spreadOf(timings.map(requestTimeNs))?.median ?? 0;
      return [cellKey(cell), { cell, timeNs }];
    }),
  );
}

function range(from: number, to: number): readonly number[] {
  return Array.from({ length: Math.max(0, to - from) }, (_, at) => from + at);
}
