/** Explores the cells that the options select, one after another, from options to exit code. */

import { join } from 'node:path';

import type { CellPlan } from '../../bench/engine.ts';
import { planMatrix } from '../../bench/matrix.ts';
import { collectRequests } from '../../bench/pass-requests.ts';
import { unsupportedByFormat } from '../../bench/unsupported.ts';
import { existsSync } from '../../core/host-fs.ts';
import { countOf } from '../../core/number-text.ts';
import { checkDirectory } from '../../device/output-directory.ts';
import { caseOf, planOfCase, readCrashCase, stateOfCase } from '../../crash/crash-case.ts';
import { explore, Surveyor, type Exploration } from '../../crash/explore.ts';
import { recordCell } from '../../crash/record-cell.ts';
import type { Recording } from '../../crash/recording.ts';
import { judgeAgain, shrink, type Target } from '../../crash/shrink.ts';
import type { CrashModel } from '../../crash/state-space.ts';
import { timelineOf } from '../../crash/timeline.ts';
import type { CacheMode } from '../../format/cache-mode.ts';
import { FORMATS, type Format } from '../../format/disk-image.ts';
import { REFCOUNT_MODES, type RefcountMode } from '../../format/image-options.ts';
import { replaceFile } from '../../result/atomic-file.ts';
import { cellName } from '../../result/cell.ts';
import type { WorkloadSource } from '../../workload/library.ts';
import type { Request } from '../../workload/request.ts';
import { cacheSizeChoices, imageShapes, type LayoutAxesArgs } from '../options/layout-options.ts';
import { crashJson, crashText, type ExploredCell, type FoundExample } from '../terminal/crash-text.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { Interrupted, Interruption } from '../terminal/interruption.ts';
import { ProgressBar } from '../terminal/progress-bar.ts';
import type { Terminal } from '../terminal/terminal.ts';
import { PROCESS_CLOCK } from './clock.ts';

const CLUSTER_SIZE = 65_536;
const NS_PER_MINUTE = 60e9;

export interface CrashArgs extends LayoutAxesArgs {
  readonly format: readonly Format[] | undefined;
  readonly refcounts: readonly RefcountMode[] | undefined;
  readonly cache: readonly CacheMode[];
  readonly 'cluster-size': readonly number[] | undefined;
  readonly 'queue-depth': readonly number[];
  readonly 'backing-depth': readonly number[] | undefined;
  readonly requests: number;
  readonly atomic: '512' | '4096' | 'write';
  readonly garbage: boolean;
  readonly order: 'any' | 'issue';
  readonly states: number;
  readonly seed: number;
  readonly minutes: number | undefined;
  readonly examples: string | undefined;
  readonly json: boolean;
}

/** Recordings that are made at most to shrink an example, and states that are tried of each. */
const SHRINK_ATTEMPTS = 60;
const SHRINK_STATES = 4000;

export interface CrashSession {
  readonly args: CrashArgs;
  readonly sources: readonly WorkloadSource[];
}

/** Explores every cell and prints what was found. */
export async function crashSession({ args, sources }: CrashSession, terminal: Terminal): Promise<number> {
  const plans = planCells(args, sources);
  if (args.examples !== undefined) checkDirectory(args.examples);
  using bar = new ProgressBar(terminal.errors);
  using interruption = new Interruption(terminal, () => bar.clear());
  const startNs = PROCESS_CLOCK.nowNs();
  const minutesLeft = (): boolean =>
    args.minutes === undefined || Number(PROCESS_CLOCK.nowNs() - startNs) < args.minutes * NS_PER_MINUTE;
  const cells: ExploredCell[] = [];
  let isInterrupted = false;
  for (const [index, plan] of plans.entries()) {
    const skipped =
      unsupportedByFormat(plan) ?? (minutesLeft() ? undefined : 'the time given by --minutes is over');
    if (skipped !== undefined) {
      cells.push({ cell: plan.cell, skipped });
      continue;
    }
    try {
      const turn: Turn = (tried) => {
        if (!interruption.signal.aborted) {
          bar.show(cellName(plan.cell), (index + tried / args.states) / plans.length);
        }
        return interruption.turn();
      };
      const isShown = (what: string): boolean =>
        cells.some(({ examples = [] }) => examples.some((example) => example.what === what));
      const { exploration, examples, seconds } = await exploreCell(plan, args, { turn, isShown });
      cells.push({ cell: plan.cell, exploration, examples, seconds });
    } catch (error) {
      if (!(error instanceof Interrupted)) throw error;
      isInterrupted = true;
      break;
    }
  }
  bar.clear();
  const saved = args.examples === undefined ? [] : saveExamples(cells, args.examples);
  const answer = {
    cells,
    saved,
    seed: args.seed,
    elapsedSeconds: Number(PROCESS_CLOCK.nowNs() - startNs) / 1e9,
  };
  terminal.print(args.json ? JSON.stringify(crashJson(answer), null, 2) : crashText(answer, terminal));
  if (isInterrupted) {
    terminal.warn(`interrupted: ${String(cells.length)} of ${countOf(plans.length, 'cell')} explored`);
    return EXIT.interrupted;
  }
  return cells.some((cell) => isViolated(cell)) ? EXIT.verdict : EXIT.good;
}

type Turn = (tried: number) => Promise<void> | undefined;

async function exploreCell(
  plan: CellPlan,
  args: CrashArgs,
  { turn, isShown }: { readonly turn: Turn; readonly isShown: (what: string) => boolean },
): Promise<Required<Pick<ExploredCell, 'exploration' | 'examples' | 'seconds'>>> {
  const { requests: limit, states, seed } = args;
  const requests = await collectRequests(plan, { limit });
  const record = (some: readonly Request[]): Promise<Recording> => recordCell(plan, { requests: some });
  const options = { model: modelOf(args), seed, turn };
  const recording = await record(requests);
  const begunNs = PROCESS_CLOCK.nowNs();
  const exploration = await explore(recording, { ...options, budget: states });
  const seconds = Number(PROCESS_CLOCK.nowNs() - begunNs) / 1e9;
  const shrinking = {
    ...options,
    record,
    budget: Math.min(states, SHRINK_STATES),
    attempts: SHRINK_ATTEMPTS,
  };
  const examples: FoundExample[] = [];
  for (const target of plan.cell.cache === 'unsafe' ? [] : targetsOf(exploration)) {
    const what = target.kind === 'hazard' ? target.hazard : target.finding.kind;
    if (target.kind === 'hazard' && isShown(what)) continue;
    const example = await shrink(requests, { ...shrinking, target });
    if (example === undefined) continue;
    const { expectation } = await Surveyor.of(example.recording);
    const timeline = timelineOf(example.recording, example.state, expectation);
    examples.push({
      what,
      isHazard: target.kind === 'hazard',
      file: caseOf(plan, example, { what, timeline }),
    });
  }
  return { exploration, examples, seconds };
}

/** Writes each example to a new file of the directory. */
function saveExamples(cells: readonly ExploredCell[], directory: string): readonly string[] {
  const paths: string[] = [];
  for (const { what, file } of cells.flatMap(({ examples = [] }) => examples)) {
    let number = 1;
    let path: string;
    do path = join(directory, `crash-${what}-${String(number++)}.json`);
    while (existsSync(path));
    replaceFile(path, `${JSON.stringify(file, null, 2)}\n`, { durable: false });
    paths.push(path);
  }
  return paths;
}

/** Each hazard, and the first violation. */
function targetsOf({ hazards, bad }: Exploration): readonly Target[] {
  const named = [...hazards.keys()].map((hazard): Target => ({ kind: 'hazard', hazard }));
  const [finding] = bad[0]?.findings ?? [];
  return finding === undefined ? named : [{ kind: 'violation', finding }, ...named];
}

function modelOf({ atomic, garbage, order }: CrashArgs): CrashModel {
  switch (atomic) {
    case '512':
      return { atomic: 512, garbage, order };
    case '4096':
      return { atomic: 4096, garbage, order };
    case 'write':
      return { atomic, garbage, order };
  }
}

/** Runs the case of a file again. */
export async function reproduceCase(path: string, json: boolean, terminal: Terminal): Promise<number> {
  const file = readCrashCase(path);
  const recording = await recordCell(planOfCase(file, path), { requests: file.requests });
  const stateOf = (pending: number | undefined): ReturnType<typeof stateOfCase> =>
    stateOfCase(file, { path, pending });
  const { state, isViolation, surveyor } = await judgeAgain(recording, stateOf, file.epoch);
  const timeline = timelineOf(recording, state, surveyor.expectation);
  const isFound = state.findings.length > 0;
  if (json) terminal.print(JSON.stringify({ what: file.what, isFound, isViolation, timeline }, null, 2));
  else {
    const answer = isFound
      ? terminal.paint.yellow(`reproduced: ${file.what}`)
      : terminal.paint.green(`no longer found: ${file.what}`);
    terminal.print([cellName(file.cell), ...timeline.map((line) => `  ${line}`), answer].join('\n'));
  }
  return isFound ? EXIT.verdict : EXIT.good;
}

function isViolated({ cell, exploration }: ExploredCell): boolean {
  // A mode without syncs promises nothing.
  return cell.cache !== 'unsafe' && exploration !== undefined && exploration.badStates > 0;
}

function planCells(args: CrashArgs, sources: readonly WorkloadSource[]): readonly CellPlan[] {
  const formats = args.format ?? FORMATS;
  return planMatrix({
    sources,
    formats,
    refcounts: args.refcounts ?? REFCOUNT_MODES,
    caches: args.cache,
    clusterSizes: args['cluster-size'] ?? [CLUSTER_SIZE],
    queueDepths: args['queue-depth'],
    engines: ['builtin'],
    devices: ['memory'],
    backingDepths: args['backing-depth'],
    shapes: imageShapes(args, formats),
    cacheSizes: cacheSizeChoices(args, formats),
    discards: args.discard,
    likes: args.like,
  });
}
