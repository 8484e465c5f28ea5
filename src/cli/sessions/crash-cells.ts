/** What the options of `crash` select: the same cells, in the same order, in every thread. */

import type { CellPlan } from '../../bench/engine.ts';
import { planMatrix } from '../../bench/matrix.ts';
import type { CellOptions } from '../../crash/explore-cell.ts';
import type { CrashModel } from '../../crash/state-space.ts';
import type { CacheMode } from '../../format/cache-mode.ts';
import { FORMATS, type Format } from '../../format/disk-image.ts';
import { REFCOUNT_MODES, type RefcountMode } from '../../format/image-options.ts';
import { expandAxes, findSource } from '../../workload/library.ts';
import { imageShapes, openingAxes, type LayoutAxesArgs } from '../options/layout-options.ts';

const CLUSTER_SIZE = 65_536;

export interface CrashArgs extends LayoutAxesArgs {
  readonly workload: readonly string[];
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
  readonly jobs: number;
  readonly examples: string | undefined;
  readonly json: boolean;
}

export async function planCrashCells(args: CrashArgs): Promise<readonly CellPlan[]> {
  const sources = await Promise.all(expandAxes(args.workload).map((name) => findSource(name)));
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
    others: { ...openingAxes(args, formats, args.like), shape: imageShapes(args, formats) },
  });
}

export function cellOptions(args: CrashArgs): Omit<CellOptions, 'turn' | 'shown'> {
  const { requests, states, seed } = args;
  return { model: modelOf(args), requests, states, seed };
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
