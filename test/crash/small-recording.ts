/** Recordings of small random workloads, for tests of crash states. */

import type { CellPlan } from '../../src/bench/engine.ts';
import { planMatrix } from '../../src/bench/matrix.ts';
import { collectRequests } from '../../src/bench/pass-requests.ts';
import type { WrapDevice } from '../../src/bench/stack.ts';
import { recordCell } from '../../src/crash/record-cell.ts';
import type { Recording } from '../../src/crash/recording.ts';
import type { CacheMode } from '../../src/format/cache-mode.ts';
import type { CommitPolicy } from '../../src/format/commit-policy.ts';
import type { Format } from '../../src/format/disk-image.ts';
import type { RefcountMode } from '../../src/format/image-options.ts';
import type { ImageShape } from '../../src/format/image-shape.ts';
import { withSteps, type Step, type StepKind } from '../../src/crash/steps.ts';
import { parseWorkload } from '../../src/workload/workload-file.ts';

export interface SmallCell {
  readonly format: Format;
  readonly refcounts?: RefcountMode;
  readonly cache: CacheMode;
  /** Bytes; default 4096. */
  readonly clusterSize?: number;
  readonly queueDepth?: number;
  readonly commit?: CommitPolicy;
  readonly shape?: ImageShape;
  /** Of the disk; default 1 MiB. */
  readonly size?: string;
  /** With a backing file that holds data. */
  readonly backed?: boolean;
  /** Whether the image was written to, and closed, before the recording. */
  readonly prefilled?: boolean;
  /** Whether discards and zero-writes free clusters. */
  readonly releases?: boolean;
  readonly requests?: number;
  /** Between the requests. */
  readonly steps?: readonly StepKind[];
  readonly seed?: number;
  readonly deviation?: WrapDevice;
  readonly recoveryDeviation?: WrapDevice;
  readonly fault?: WrapDevice;
}

const phase = { name: 'w', blockSizes: [{ size: 4096 }, { size: 1536 }, { size: 12_288 }] };

/** The cell of a random workload on a small disk, with its requests. */
export async function smallPlan(
  small: SmallCell,
): Promise<{ readonly plan: CellPlan; readonly requests: readonly Step[] }> {
  const { format, refcounts = 'eager', cache, clusterSize = 4096, queueDepth = 1, shape } = small;
  const { backed = false, prefilled = false, releases = false, requests: count = 40, seed = 3 } = small;
  const mix = { write: 80, flush: 12, ...(releases ? { discard: 8, writeZeroes: 8 } : {}) };
  const fill = [{ ...phase, requests: 12, mix: { write: 1 }, pattern: { kind: 'uniform', alignment: 512 } }];
  const file = {
    schema: 'qcow2-bench/workload@1',
    name: 'small',
    title: 'Small',
    description: 'Random requests.',
    seed,
    image: {
      size: small.size ?? '1MiB',
      ...(backed ? { backing: { format: 'raw', size: '512KiB', fill } } : {}),
      ...(prefilled ? { prefill: fill } : {}),
    },
    phases: [{ ...phase, requests: count, mix, unmap: true, pattern: { kind: 'uniform', alignment: 512 } }],
  };
  const workload = parseWorkload(JSON.stringify(file), 'small.json');
  const { name, title, description } = workload;
  const source = {
    kind: 'workload',
    name,
    title,
    description,
    path: 'small.json',
    virtualSize: workload.image.size,
    workload,
  } as const;
  const [plan] = planMatrix({
    sources: [source],
    formats: [format],
    refcounts: [refcounts],
    caches: [cache],
    clusterSizes: [clusterSize],
    queueDepths: [queueDepth],
    engines: ['builtin'],
    devices: ['memory'],
    others: { shape: [shape ?? {}], commit: [small.commit] },
  });
  if (plan === undefined) throw new Error('no cell');
  const { virtualSize } = source;
  const requests = await collectRequests(plan, {});
  return { plan, requests: withSteps(requests, small.steps ?? [], { virtualSize, clusterSize }) };
}

/** Runs it. */
export async function recordSmall(small: SmallCell): Promise<Recording> {
  const { plan, requests } = await smallPlan(small);
  return recordCell(plan, { ...small, requests });
}
