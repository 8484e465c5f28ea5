/** Explores the cells that the options select, one after another, from options to exit code. */

import type { CellPlan } from '../../bench/engine.ts';
import { planMatrix } from '../../bench/matrix.ts';
import { collectRequests } from '../../bench/pass-requests.ts';
import { unsupportedByFormat } from '../../bench/unsupported.ts';
import { explore, type Exploration } from '../../crash/explore.ts';
import { recordCell } from '../../crash/record-cell.ts';
import type { CrashModel } from '../../crash/state-space.ts';
import type { CacheMode } from '../../format/cache-mode.ts';
import { FORMATS, type Format } from '../../format/disk-image.ts';
import { REFCOUNT_MODES, type RefcountMode } from '../../format/image-options.ts';
import { cellName } from '../../result/cell.ts';
import type { WorkloadSource } from '../../workload/library.ts';
import { cacheSizeChoices, imageShapes, type LayoutAxesArgs } from '../options/layout-options.ts';
import { crashJson, crashText, type ExploredCell } from '../terminal/crash-text.ts';
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
  readonly json: boolean;
}

export interface CrashSession {
  readonly args: CrashArgs;
  readonly sources: readonly WorkloadSource[];
}

/** Explores every cell and prints what was found. */
export async function crashSession({ args, sources }: CrashSession, terminal: Terminal): Promise<number> {
  const plans = planCells(args, sources);
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
      const begunNs = PROCESS_CLOCK.nowNs();
      const exploration = await exploreCell(plan, args, (tried) => {
        if (!interruption.signal.aborted) {
          bar.show(cellName(plan.cell), (index + tried / args.states) / plans.length);
        }
        return interruption.turn();
      });
      cells.push({ cell: plan.cell, exploration, seconds: Number(PROCESS_CLOCK.nowNs() - begunNs) / 1e9 });
    } catch (error) {
      if (!(error instanceof Interrupted)) throw error;
      isInterrupted = true;
      break;
    }
  }
  bar.clear();
  const answer = { cells, seed: args.seed, elapsedSeconds: Number(PROCESS_CLOCK.nowNs() - startNs) / 1e9 };
  terminal.print(args.json ? JSON.stringify(crashJson(answer), null, 2) : crashText(answer, terminal));
  if (isInterrupted) {
    terminal.warn(`interrupted: ${String(cells.length)} of ${String(plans.length)} cells explored`);
    return EXIT.interrupted;
  }
  return cells.some((cell) => isViolated(cell)) ? EXIT.verdict : EXIT.good;
}

async function exploreCell(
  plan: CellPlan,
  { requests: limit, states, seed, atomic, garbage, order }: CrashArgs,
  turn: (tried: number) => Promise<void> | undefined,
): Promise<Exploration> {
  const requests = await collectRequests(plan, { limit });
  const recording = await recordCell(plan, { requests });
  const model: CrashModel = {
    atomic: atomic === 'write' ? atomic : Number(atomic) === 512 ? 512 : 4096,
    garbage,
    order,
  };
  return explore(recording, { model, budget: states, seed, turn });
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
