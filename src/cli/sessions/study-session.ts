/** A study from its file to its answer: its cells counted and timed, and their crash states tried. */

import { exploreCell } from '../../crash/explore-cell.ts';
import { HAZARDS } from '../../crash/hazards.ts';
import { unsupportedByFormat } from '../../bench/unsupported.ts';
import { countingKey } from '../../result/cell.ts';
import type { ResultRecord } from '../../result/schema.ts';
import { answerOf, type Sentence } from '../../study/answer.ts';
import type { CrashFigures } from '../../study/figures.ts';
import type { Study } from '../../study/schema.ts';
import { studyTable, type StudyTable } from '../../study/table.ts';
import { expandAxes, findSource } from '../../workload/library.ts';
import type { MatrixArgs } from '../options/matrix-options.ts';
import { studyArgs, type StudyCellArgs } from '../options/study-options.ts';
import { Interrupted, Interruption } from '../terminal/interruption.ts';
import { ProgressBar } from '../terminal/progress-bar.ts';
import type { Terminal } from '../terminal/terminal.ts';
import { PROCESS_CLOCK } from './clock.ts';
import { cellOptions, planCrashCells, type CrashArgs } from './crash-cells.ts';
import { runSession } from './matrix-session.ts';

export interface AnsweredStudy {
  readonly study: Study;
  readonly result: ResultRecord;
  readonly table: StudyTable;
  readonly sentences: readonly Sentence[];
  readonly elapsedMs: number;
}

export interface StudySession {
  readonly study: Study;
  /** Names the study in errors. */
  readonly path: string;
  /** In place of the study's own workloads. */
  readonly workloads: readonly string[] | undefined;
  readonly given: StudyCellArgs;
}

/**
 * Runs the cells of a study; `undefined` if it was interrupted.
 *
 * @throws as `runSession`, and `studyArgs`.
 */
export async function runStudy(
  { study, path, workloads, given }: StudySession,
  terminal: Terminal,
): Promise<AnsweredStudy | undefined> {
  const names = expandAxes(workloads ?? study.workloads);
  const sources = await Promise.all(names.map((name) => findSource(name)));
  const args = studyArgs(study, given, path);
  const ended = await runSession(
    { args, sources, words: terminal.argv, watchesGrowth: study.growth },
    terminal,
  );
  if (ended.kind === 'interrupted') return undefined;
  const startNs = PROCESS_CLOCK.nowNs();
  const crashes = study.crash && (await crashFigures({ crash: study.crash, args, names }, terminal));
  if (study.crash !== undefined && crashes === undefined) return undefined;
  const { result } = ended;
  const table = studyTable(result, crashes);
  const elapsedMs = ended.elapsedMs + Number(PROCESS_CLOCK.nowNs() - startNs) / 1e6;
  return { study, result, table, sentences: answerOf(study, table), elapsedMs };
}

/** By counting key; `undefined` if it was interrupted. */
async function crashFigures(
  {
    crash,
    args,
    names,
  }: {
    readonly crash: NonNullable<Study['crash']>;
    readonly args: MatrixArgs;
    readonly names: readonly string[];
  },
  terminal: Terminal,
): Promise<ReadonlyMap<string, CrashFigures> | undefined> {
  const crashArgs: CrashArgs = {
    ...args,
    suite: undefined,
    workload: names,
    engine: 'builtin',
    'qemu-bin-dir': undefined,
    requests: Math.min(crash.requests, args.requests ?? Infinity),
    atomic: '512',
    garbage: false,
    order: 'any',
    states: crash.states,
    steps: undefined,
    nested: 1,
    faults: false,
    seed: args.seed ?? CRASH_SEED,
    minutes: undefined,
    jobs: 1,
    examples: undefined,
    resume: undefined,
  };
  const planned = await planCrashCells(crashArgs);
  const plans = planned.map(({ plan }) => plan).filter((plan) => unsupportedByFormat(plan) === undefined);
  const figures = new Map<string, CrashFigures>();
  using bar = new ProgressBar(terminal.errors);
  using interruption = new Interruption(terminal, () => bar.clear());
  try {
    for (const [index, plan] of plans.entries()) {
      const turn = (tried: number): ReturnType<Interruption['turn']> => {
        bar.show('crash states', (index + tried / crash.states) / plans.length);
        return interruption.turn();
      };
      // Examples are made by `crash`; here states are counted.
      const shown = new Set<string>(HAZARDS);
      const options = { ...cellOptions(crashArgs), steps: [], turn, shown };
      const { exploration } = await exploreCell(plan, options, () => PROCESS_CLOCK.nowNs());
      const { tried, distinct, badStates, hazards, isExhausted } = exploration;
      figures.set(countingKey(plan.cell), {
        states: tried,
        distinct,
        violations: badStates,
        hazards: [...hazards.values()].reduce((sum, { states }) => sum + states, 0),
        isExhausted,
      });
    }
  } catch (error) {
    if (error instanceof Interrupted) return undefined;
    throw error;
  } finally {
    bar.clear();
  }
  return figures;
}

/** As of `crash`. */
const CRASH_SEED = 7;
