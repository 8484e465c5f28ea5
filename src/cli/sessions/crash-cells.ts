/** What the options of `crash` select: the same cells, in the same order, in every thread. */

import type { CellPlan } from '../../bench/engine.ts';
import { harnessVersion } from '../../bench/harness-version.ts';
import { planMatrix } from '../../bench/matrix.ts';
import { unsupportedByFormat } from '../../bench/unsupported.ts';
import { BUILTIN_ENGINE, type CellOptions } from '../../crash/explore-cell.ts';
import { unsupportedByLog } from '../../crash/record-logged.ts';
import type { CrashModel } from '../../crash/state-space.ts';
import { impossibleSteps, type StepKind } from '../../crash/steps.ts';
import type { CacheMode } from '../../format/cache-mode.ts';
import { FORMATS, QEMU_FORMATS, type Format } from '../../core/format-name.ts';
import { REFCOUNT_MODES, type RefcountMode } from '../../format/image-options.ts';
import { nearestQemuProfile } from '../../format/qemu-profile.ts';
import { expandAxes, findSource } from '../../workload/library.ts';
import { findLoneQemuIo, qemuImgIn } from '../../peer/qemu-tools.ts';
import { ImageDirectory } from '../files/image-directory.ts';
import type { EngineName } from '../options/meanings.ts';
import { imageShapes, openingAxes, type LayoutAxesArgs } from '../options/layout-options.ts';
import { UsageError } from '../terminal/usage-error.ts';

const CLUSTER_SIZE = 65_536;

export const CRASH_SUITES = ['quick', 'full'] as const;
export type CrashSuite = (typeof CRASH_SUITES)[number];

export interface CrashArgs extends LayoutAxesArgs {
  readonly suite: CrashSuite | undefined;
  /** Default `stride`. */
  readonly workload: readonly string[] | undefined;
  readonly format: readonly Format[] | undefined;
  readonly refcounts: readonly RefcountMode[] | undefined;
  readonly cache: readonly CacheMode[];
  readonly 'cluster-size': readonly number[] | undefined;
  readonly 'queue-depth': readonly number[];
  readonly 'backing-depth': readonly number[] | undefined;
  readonly steps: readonly StepKind[] | undefined;
  readonly engine: EngineName;
  readonly 'qemu-bin-dir': string | undefined;
  readonly 'keep-logs'?: string | undefined;
  readonly requests: number;
  readonly atomic: '512' | '4096' | 'write';
  readonly garbage: boolean;
  readonly order: 'any' | 'issue';
  readonly states: number;
  readonly nested: number;
  readonly 'verify-with-qemu'?: number | undefined;
  readonly faults: boolean;
  readonly seed: number;
  readonly minutes: number | undefined;
  readonly jobs: number;
  readonly examples: string | undefined;
  readonly resume?: string | undefined;
  readonly json: boolean;
}

/** What a suite chooses; format, refcounts and cache mode remain the user's. */
type SuiteChoice = Pick<
  CrashArgs,
  | 'workload'
  | 'cluster-size'
  | 'queue-depth'
  | 'backing-depth'
  | 'compat'
  | 'data-file'
  | 'discard'
  | 'extended-l2'
  | 'preallocation'
  | 'refcount-bits'
  | 'steps'
>;

/** A cell, and what is done to its image between the requests. */
export interface CrashCell {
  readonly plan: CellPlan;
  readonly steps: readonly StepKind[];
}

const PLAIN = ['stride', 'sequential-allocation', 'overwrite', 'database-commit', 'journaling-filesystem'];
const SUITES: Readonly<Record<CrashSuite, readonly Partial<SuiteChoice>[]>> = {
  quick: [{ workload: ['stride', 'database-commit'] }],
  full: [
    { workload: PLAIN },
    // L1, refcount table and blocks grow.
    { workload: ['stride', 'database-commit'], 'cluster-size': [512, 4096] },
    { workload: ['stride', 'journaling-filesystem'], 'queue-depth': [8, 32] },
    { workload: ['boot-from-backing'], 'backing-depth': [1, 2] },
    { workload: ['database-commit'], 'data-file': ['plain', 'raw'] },
    { workload: ['database-commit'], 'extended-l2': [true] },
    { workload: ['database-commit'], 'refcount-bits': [1, 64] },
    { workload: ['database-commit'], preallocation: ['metadata', 'falloc'] },
    { workload: ['journaling-filesystem'], compat: ['0.10'] },
    { workload: ['journaling-filesystem'], discard: ['ignore'] },
    { workload: ['database-commit'], steps: ['snapshots'] },
    { workload: ['database-commit'], steps: ['resize'] },
    { workload: ['database-commit'], steps: ['compressed'] },
    // Small tables: what a step changes is in many of them.
    { workload: ['stride'], 'cluster-size': [4096], steps: ['snapshots', 'compressed'] },
    { workload: ['stride'], 'cluster-size': [4096], steps: ['resize'] },
  ],
};
/** Options that a suite chooses, with the value that they have if they are not given. */
const CHOSEN_BY_SUITE: Readonly<Record<keyof SuiteChoice, string | undefined>> = {
  workload: undefined,
  'cluster-size': undefined,
  'queue-depth': '1',
  'backing-depth': undefined,
  compat: undefined,
  'data-file': undefined,
  discard: 'unmap',
  'extended-l2': undefined,
  preallocation: undefined,
  'refcount-bits': undefined,
  steps: undefined,
};

/** @throws UsageError for an option beside a suite that chooses it */
export async function planCrashCells(args: CrashArgs): Promise<readonly CrashCell[]> {
  const { suite } = args;
  if (suite === undefined) return planCells(args);
  for (const [option, absent] of Object.entries(CHOSEN_BY_SUITE)) {
    const value = args[option as keyof SuiteChoice];
    if (value === undefined || value.join() === absent) continue;
    throw new UsageError(`--suite chooses --${option}: use one of the two`);
  }
  const cells = new Map<string, CrashCell>();
  const formats: readonly Format[] = args.format ?? QEMU_FORMATS;
  for (const choice of SUITES[suite]) {
    // No format has all options of a suite: those that lack one are left out of its cells.
    for (const each of await planCells({ ...args, ...choice, format: FORMATS })) {
      const { cell } = each.plan;
      if (impossibleSteps(cell, each.steps) !== undefined) continue;
      if (formats.includes(cell.format)) cells.set(JSON.stringify([cell, each.steps]), each);
    }
  }
  return [...cells.values()];
}

async function planCells(args: CrashArgs): Promise<readonly CrashCell[]> {
  const { workload = ['stride'], steps = [] } = args;
  const sources = await Promise.all(expandAxes(workload).map((name) => findSource(name)));
  const formats = args.format ?? QEMU_FORMATS;
  const like = args.like ?? (await likeOf(args));
  const plans = planMatrix({
    sources,
    formats,
    refcounts: args.refcounts ?? REFCOUNT_MODES,
    caches: args.cache,
    clusterSizes: args['cluster-size'] ?? [CLUSTER_SIZE],
    queueDepths: args['queue-depth'],
    engines: args.engine === 'qemu' ? [BUILTIN_ENGINE, args.engine] : [BUILTIN_ENGINE],
    devices: ['memory'],
    backingDepths: args['backing-depth'],
    others: { ...openingAxes(args, formats, like), shape: imageShapes(args, formats) },
  });
  return plans.map((plan) => ({ plan, steps }));
}

/** The builtin engine follows the QEMU that is beside it. */
async function likeOf(args: CrashArgs): Promise<CrashArgs['like']> {
  if (args.engine !== 'qemu') return undefined;
  return [nearestQemuProfile((await findLoneQemuIo({ binDirectory: args['qemu-bin-dir'] })).version)];
}

/** Why a cell is not explored; `undefined` if it is. */
export function unsupportedCell({ plan, steps }: CrashCell): string | undefined {
  const foreign = plan.cell.engine === BUILTIN_ENGINE ? undefined : unsupportedByLog(plan, steps.length > 0);
  return unsupportedByFormat(plan) ?? impossibleSteps(plan.cell, steps) ?? foreign;
}

export function cellOptions(args: CrashArgs): Omit<CellOptions, 'steps' | 'qemu' | 'turn' | 'shown'> {
  const { requests, states, nested, faults, seed } = args;
  return { model: modelOf(args), requests, states, nested, faults, seed };
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

/** What the findings of every cell depend on beside its coordinates, in words. */
export function optionsText(args: CrashArgs): string {
  const { requests, states, nested, faults, seed, atomic, garbage, order } = args;
  const qemu = args['verify-with-qemu'];
  return [
    `requests ${String(requests)}`,
    `states ${String(states)}`,
    `nested ${String(nested)}`,
    `seed ${String(seed)}`,
    `atomic ${atomic}`,
    `order ${order}`,
    ...(garbage ? ['garbage'] : []),
    ...(faults ? ['faults'] : []),
    ...(qemu === undefined ? [] : [`verify-with-qemu ${String(qemu)}`]),
    `version ${harnessVersion()}`,
  ].join(', ');
}

/** Where QEMU judges states of every cell, if that was requested; disposing removes its files. */
export function qemuDirectory(
  args: CrashArgs,
): (Disposable & { readonly qemu: NonNullable<CellOptions['qemu']> }) | undefined {
  const states = args['verify-with-qemu'];
  if (states === undefined) return undefined;
  const directory = new ImageDirectory();
  const { path, storage } = directory;
  return {
    qemu: { states, storage, qemuImg: qemuImgIn(path) },
    [Symbol.dispose]: () => {
      directory[Symbol.dispose]();
    },
  };
}
