/**
 * An example as a file, `qcow2-bench/crash-case@1`: the cell, the requests, and what of the pending
 * host operations reached the disk. Running it again gives the same state.
 */

import { z } from 'zod';

import { Qcow2BenchError } from '../core/error.ts';
import { PREALLOCATIONS } from '../format/image-shape.ts';
import { cellSchema } from '../result/schema.ts';
import { REQUEST_OPS } from '../workload/request.ts';
import type { RecordedSource } from '../workload/library.ts';
import { WORKLOAD_SCHEMA, workloadSchema, type Workload } from '../workload/schema.ts';
import type { CellPlan } from '../bench/engine.ts';
import type { Crash, Crashes } from './crashes.ts';
import { FAULT_KINDS, type Fault } from './faults.ts';
import { RECOVERIES } from './inspect.ts';
import type { Example } from './shrink.ts';
import type { Fate } from './state-view.ts';
import { STEP_OPS } from './recording.ts';
import { isImageStep, type Step } from './steps.ts';

export const CRASH_CASE_SCHEMA = 'qcow2-bench/crash-case@1';
/** In a row. */
const CRASHES_MAX = 16;
const bytes = z
  .int()
  .min(0)
  .max(2 ** 52);

const tearSchema = z.strictObject({
  sectorBytes: z.union([z.literal(512), z.literal(4096)]),
  /** One letter per sector: n(ew), o(ld), g(arbage). */
  fates: z.string().regex(/^[nog]*$/),
});
const fateSchema = z.strictObject({
  kept: z.boolean(),
  sizeKept: z.boolean(),
  tear: tearSchema.optional(),
});

const crashSchema = z.strictObject({
  /** What it ended; left out: the run. */
  of: z.enum(RECOVERIES).optional(),
  epoch: z.int().min(0),
  fates: z.array(fateSchema).max(1_000_000),
});

/** The crashes that left a state: its fields are those of the last one. */
export const crashesSchema = z.strictObject({
  /** Crashes before it. */
  earlier: z.array(crashSchema).max(CRASHES_MAX).optional(),
  ...crashSchema.shape,
});
type StoredCrashes = z.output<typeof crashesSchema>;

export const crashCaseSchema = z.strictObject({
  schema: z.literal(CRASH_CASE_SCHEMA),
  /** A hazard's name, or the kind of the violation. */
  what: z.string().max(200),
  cell: cellSchema,
  /** Bytes of the disk. */
  virtualSize: bytes,
  /** What the image is like before the run; its own requests are not used. */
  workload: workloadSchema,
  requests: z
    .array(
      z.union([
        z.strictObject({
          op: z.enum(REQUEST_OPS),
          offset: bytes,
          length: bytes,
          fua: z.boolean(),
          unmap: z.boolean(),
          timeNs: z.number().min(0),
        }),
        z.strictObject({
          op: z.enum(STEP_OPS),
          offset: bytes,
          length: bytes,
          snapshot: z.string().max(255).optional(),
          preallocation: z.enum(PREALLOCATIONS).optional(),
        }),
      ]),
    )
    .max(100_000),
  /** Of the host, in the run. */
  fault: z
    .strictObject({
      kind: z.enum(FAULT_KINDS),
      part: z.union([z.int().min(0), z.enum(['open', 'close'])]),
      nth: z.int().min(0),
    })
    .optional(),
  ...crashesSchema.shape,
  /** For a reader. */
  timeline: z.array(z.string()),
});
export type CrashCase = z.output<typeof crashCaseSchema>;

/** The plan of the case's cell. */
export function planOfCase({ cell, workload, virtualSize }: CrashCase, path: string): CellPlan {
  const { name, title, description } = workload;
  const source = { kind: 'workload', name, title, description, path, virtualSize, workload } as const;
  return { cell, source, seed: undefined, payload: 'pattern' };
}

/** The case of an example, as its file has it. */
export function caseOf(
  plan: CellPlan,
  { requests, state }: Example,
  {
    what,
    timeline,
    fault,
  }: { readonly what: string; readonly timeline: readonly string[]; readonly fault?: Fault | undefined },
): CrashCase {
  const { cell, source } = plan;
  return {
    schema: CRASH_CASE_SCHEMA,
    what,
    cell,
    virtualSize: source.virtualSize,
    workload: source.kind === 'workload' ? source.workload : emptyWorkload(source),
    requests: requests.map(storedStep),
    ...(fault === undefined ? {} : { fault }),
    ...storedCrashes(state.crashes),
    timeline: [...timeline],
  };
}

/** A recording has an empty image. */
function emptyWorkload({ name, title, virtualSize }: RecordedSource): Workload {
  return workloadSchema.parse({
    schema: WORKLOAD_SCHEMA,
    name:
      name
        .toLowerCase()
        .replaceAll(/[^a-z0-9]+/g, '-')
        .replaceAll(/^-|-$/g, '') || 'recording',
    title,
    description: 'The image of a recording.',
    seed: 1,
    image: { size: virtualSize },
    phases: [{ name: 'none', requests: 1, blockSizes: [{ size: 512 }], pattern: { kind: 'sequential' } }],
  });
}

/** As the file has it: a request may be of a class of its own. */
function storedStep(step: Step): CrashCase['requests'][number] {
  if (isImageStep(step)) {
    const { op, offset, length, snapshot, preallocation } = step;
    return { op, offset, length, snapshot, preallocation };
  }
  const { op, offset, length, fua, unmap, timeNs } = step;
  return { op, offset, length, fua, unmap, timeNs };
}

/** As a file has them. */
export function storedCrashes(crashes: Crashes): StoredCrashes {
  const stored = crashes.map(({ of, epoch, fates }) => ({
    ...(of === 'run' ? {} : { of }),
    epoch,
    fates: storedFates(fates),
  }));
  const last = stored.pop() as (typeof stored)[number];
  return { ...(stored.length === 0 ? {} : { earlier: stored }), ...last };
}

/** As the file has them. */
function storedFates(fates: readonly Fate[]): StoredCrashes['fates'] {
  return fates.map(({ kept, sizeKept, tear }) =>
    tear === undefined
      ? { kept, sizeKept }
      : {
          kept,
          sizeKept,
          tear: {
            sectorBytes: tear.sectorBytes === 512 ? 512 : 4096,
            fates: tear.fates.map((fate) => fate.slice(0, 1)).join(''),
          },
        },
  );
}

/** The crashes that left the state of a case. */
export function crashesOfCase({ earlier = [], of, epoch, fates }: StoredCrashes): Crashes {
  const [first, ...later] = [...earlier, { of, epoch, fates }].map((crash): Crash => ({
    of: crash.of ?? 'run',
    epoch: crash.epoch,
    fates: crash.fates.map(readFate),
  }));
  return [first as Crash, ...later];
}

const SECTOR_FATES = { n: 'new', o: 'old', g: 'garbage' } as const;

function readFate({ kept, sizeKept, tear }: StoredCrashes['fates'][number]): Fate {
  if (tear === undefined) return { kept, sizeKept, tear };
  const { sectorBytes, fates } = tear;
  const read = Array.from(fates, (letter) => SECTOR_FATES[letter as keyof typeof SECTOR_FATES]);
  return { kept, sizeKept, tear: { sectorBytes, fates: read } };
}

/** @throws Qcow2BenchError `crash-case-outdated` */
export function refuseCase(
  { what }: Pick<CrashCase, 'what'>,
  {
    crash,
    pending,
    path,
  }: { readonly crash: Crash; readonly pending: number | undefined; readonly path: string },
): never {
  throw new Qcow2BenchError(
    'crash-case-outdated',
    `the run no longer has the host operations that the case was made of (${String(crash.fates.length)} pending at its crash, now ${pending === undefined ? 'no such moment' : String(pending)}): look for '${what}' again with the cell's options`,
    { path },
  );
}
