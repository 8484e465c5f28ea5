/**
 * What is done to an image between guest requests: snapshots, resizes, compressed writes.
 *
 * A step that the image refuses when its turn comes is left out, such as going back to a snapshot
 * that was not taken: so any part of a list of steps can be run.
 */

import { alignDown, SECTOR_SIZE } from '../core/alignment.ts';
import { Qcow2BenchError } from '../core/error.ts';
import type { DiskImage } from '../format/disk-image.ts';
import { FORMAT_FACTS } from '../format/formats.ts';
import { hasDataFile, type Preallocation } from '../format/image-shape.ts';
import type { Cell } from '../result/schema.ts';
import type { Request } from '../workload/request.ts';
import type { Recorder } from './recorder.ts';
import { STEP_OPS, type StepOp } from './recording.ts';

export const STEP_KINDS = ['snapshots', 'resize', 'compressed'] as const;
export type StepKind = (typeof STEP_KINDS)[number];

export interface ImageStep {
  readonly op: StepOp;
  /** Guest bytes; of a disk that gets larger or smaller, the part that comes or goes. */
  readonly offset: number;
  readonly length: number;
  /** Of a snapshot operation. */
  readonly snapshot?: string | undefined;
  /** Of a disk that gets larger: the space that is taken for what is new. */
  readonly preallocation?: Preallocation | undefined;
}

export type Step = Request | ImageStep;

export function isImageStep(step: Step): step is ImageStep {
  return (STEP_OPS as readonly string[]).includes(step.op);
}

/** Why a cell cannot have such steps, as text after "skipped: "; `undefined` if it can. */
export function impossibleSteps({ format, shape }: Cell, kinds: readonly StepKind[]): string | undefined {
  const facts = FORMAT_FACTS[format];
  for (const kind of kinds) {
    if (kind === 'resize') continue;
    const [what, isPossible] =
      kind === 'snapshots'
        ? ['snapshots', facts.hasSnapshots]
        : ['compressed clusters', facts.hasCompression];
    if (!isPossible) return `${facts.title} has no ${what}`;
    if (hasDataFile(shape)) return `an image with a data file has no ${what}`;
  }
  return undefined;
}

/** Puts steps of these kinds among requests, spread evenly. */
export function withSteps(
  requests: readonly Request[],
  kinds: readonly StepKind[],
  disk: { readonly virtualSize: number; readonly clusterSize: number },
): readonly Step[] {
  const lists = kinds.map((kind) => STEPS[kind](disk));
  const steps: Step[] = [];
  const taken = lists.map(() => 0);
  for (const [index, request] of requests.entries()) {
    steps.push(request);
    for (const [which, list] of lists.entries()) {
      // One behind the last request has nothing left to damage.
      const due = Math.floor(((index + 1) * (list.length + 1)) / (requests.length + 1));
      const from = taken[which] ?? 0;
      steps.push(...list.slice(from, due));
      taken[which] = Math.max(from, due);
    }
  }
  return steps;
}

type Disk = Parameters<typeof withSteps>[2];

const STEPS: Readonly<Record<StepKind, (disk: Disk) => readonly ImageStep[]>> = {
  snapshots: () =>
    (
      [
        ['create', 'a'],
        ['create', 'b'],
        ['apply', 'a'],
        ['apply', 'b'],
        ['delete', 'a'],
        ['create', 'c'],
        ['delete', 'b'],
        ['apply', 'c'],
        ['delete', 'c'],
      ] as const
    ).map(([what, snapshot]) => ({ op: `snapshot-${what}`, offset: 0, length: 0, snapshot })),
  resize: ({ virtualSize, clusterSize }) => {
    const unit = Math.max(clusterSize, SECTOR_SIZE);
    const half = alignDown(Math.floor(virtualSize / 2), unit);
    const added = virtualSize + unit;
    return [
      { op: 'grow', offset: virtualSize, length: added },
      { op: 'shrink', offset: half, length: virtualSize + added - half },
      { op: 'grow', offset: half, length: virtualSize - half },
      { op: 'shrink', offset: virtualSize - SECTOR_SIZE, length: SECTOR_SIZE },
    ];
  },
  compressed: ({ virtualSize, clusterSize }) => {
    const last = Math.floor(virtualSize / clusterSize) - 1;
    return Array.from({ length: 8 }, (_, index) => last - 3 * index)
      .filter((cluster) => cluster >= 0)
      .map((cluster) => ({ op: 'write-compressed', offset: cluster * clusterSize, length: clusterSize }));
  },
};

/**
 * Takes a step on an idle image, recorded.
 *
 * @param reopen opens the image again, as a disk of another size needs
 */
export async function takeStep(
  step: ImageStep,
  options: {
    readonly image: DiskImage;
    readonly recorder: Recorder;
    readonly reopen: () => Promise<void>;
  },
): Promise<void> {
  const { image, recorder, reopen } = options;
  const { op, offset, length, snapshot } = step;
  if (!(await isInPlace(step, image))) return;
  const bytes = op === 'write-compressed' ? new Uint8Array(length) : undefined;
  const before = recorder.operations.length;
  try {
    await recorder.request(
      { op, offset, length, snapshot },
      async () => {
        await perform(step, image, bytes);
        if (op === 'grow' || op === 'shrink') await reopen();
      },
      bytes,
    );
  } catch (error) {
    if (!(error instanceof Qcow2BenchError) || recorder.operations.length > before) throw error;
    // The image refused it.
    recorder.requests.pop();
  }
}

async function isInPlace({ op, offset, length }: ImageStep, image: DiskImage): Promise<boolean> {
  const { virtualSize } = image;
  switch (op) {
    case 'grow':
      return image.resize !== undefined && virtualSize === offset;
    case 'shrink':
      return image.resize !== undefined && virtualSize === offset + length;
    case 'write-compressed': {
      if (image.writeCompressed === undefined || offset + length > virtualSize) return false;
      const { kind, length: mapped } = await image.map(offset, length);
      return kind === 'unallocated' && mapped >= length;
    }
    case 'snapshot-create':
    case 'snapshot-apply':
    case 'snapshot-delete':
      return image.snapshots !== undefined;
  }
}

async function perform(
  { op, offset, length, snapshot = '', preallocation }: ImageStep,
  image: DiskImage,
  bytes = new Uint8Array(0),
): Promise<void> {
  switch (op) {
    case 'grow':
      return image.resize?.(offset + length, preallocation);
    case 'shrink':
      return image.resize?.(offset);
    case 'write-compressed':
      return image.writeCompressed?.(offset, bytes);
    case 'snapshot-create':
      await image.snapshots?.create({ name: snapshot, seconds: 0, nanoseconds: 0 });
      return undefined;
    case 'snapshot-apply':
      return image.snapshots?.apply(snapshot);
    case 'snapshot-delete':
      return image.snapshots?.delete(snapshot);
  }
}
