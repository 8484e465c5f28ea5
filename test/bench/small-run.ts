/** Workloads and runs small enough for tests. */

import type { CellPlan } from '../../src/bench/engine.ts';
import { planMatrix, type MatrixAxes, type MatrixSetting } from '../../src/bench/matrix.ts';
import type { Clock } from '../../src/bench/clock.ts';
import type { RecordSink } from '../../src/bench/run.ts';
import type { PayloadKind } from '../../src/bench/payload.ts';
import { CACHE_MODES } from '../../src/format/cache-mode.ts';
import type { CacheSizes } from '../../src/format/cache-sizes.ts';
import type { DiscardMode } from '../../src/format/image-options.ts';
import type { ImageShape } from '../../src/format/image-shape.ts';
import type { QemuProfileName } from '../../src/format/qemu-profile.ts';
import { cellKey } from '../../src/result/cell.ts';
import type { CellRecord } from '../../src/result/schema.ts';
import type { SyntheticSource } from '../../src/workload/library.ts';
import type { Request, RequestOp } from '../../src/workload/request.ts';
import { WORKLOAD_SCHEMA, workloadSchema } from '../../src/workload/schema.ts';

/** A workload of `image` and `phases` as a file would have them. */
export function smallSource(
  name: string,
  content: { image?: object; phases?: object[] } = {},
): SyntheticSource {
  const workload = workloadSchema.parse({
    schema: WORKLOAD_SCHEMA,
    name,
    title: name,
    description: name,
    image: { size: '64MiB', ...content.image },
    phases: content.phases ?? [{ name: 'run', requests: 30, ...WRITES, pattern: STRIDE }],
  });
  const { title, description } = workload;
  const virtualSize = workload.image.size;
  return { kind: 'workload', name, title, description, path: `${name}.json`, virtualSize, workload };
}

export const WRITES = { mix: { write: 1 }, blockSizes: [{ size: '4KiB' }] };
export const STRIDE = { kind: 'stride', stride: '64KiB' };

/** All kinds of request, with FUA and flushes, over a filled backing file. */
export function mixedSource(): SyntheticSource {
  const fill = [
    { name: 'fill', bytes: '2MiB', blockSizes: [{ size: '256KiB' }], pattern: { kind: 'sequential' } },
  ];
  const region = { length: '8MiB' };
  return smallSource('mixed', {
    image: { backing: { fill } },
    phases: [
      {
        name: 'mix',
        requests: 300,
        mix: { read: 3, write: 8, flush: 1, discard: 1, writeZeroes: 1 },
        fuaShare: 0.1,
        blockSizes: [{ size: '4KiB', weight: 3 }, { size: '64KiB' }, { size: '96KiB' }],
        pattern: { kind: 'uniform', alignment: '4KiB', region },
      },
    ],
  });
}

/**
 * A chain of three files with data of their own: the middle one is shorter than the image, the base
 * longer than the middle one.
 *
 * @param formats of the files, the nearest first
 */
export function chainSource(
  [nearest, middle, base]: readonly [string, string, string] = ['qcow2', 'qed', 'raw'],
): SyntheticSource {
  const blockSizes = [{ size: '4KiB' }, { size: '96KiB' }];
  // In the order of addresses: a copy leaves out only the last writes, those past a shorter file.
  const fill = (stride: string, region: object): object => [
    { name: 'fill', bytes: '2MiB', blockSizes, pattern: { kind: 'stride', stride, region } },
  ];
  return smallSource('chain', {
    image: {
      backing: {
        format: nearest,
        fill: fill('256KiB', { length: '12MiB' }),
        backing: {
          format: middle,
          size: '16MiB',
          fill: fill('352KiB', { length: '16MiB' }),
          backing: { format: base, size: '24MiB', fill: fill('480KiB', { length: '24MiB' }) },
        },
      },
    },
    phases: [
      {
        name: 'mix',
        requests: 200,
        mix: { read: 3, write: 8, flush: 1, writeZeroes: 1 },
        blockSizes,
        pattern: { kind: 'uniform', alignment: '4KiB', region: { length: '32MiB' } },
      },
    ],
  });
}

/** Axes with one value, and what all cells share. */
export interface SmallSetting extends MatrixSetting {
  readonly device?: string;
  readonly overlap?: boolean;
  readonly payload?: PayloadKind;
  readonly shape?: ImageShape;
  readonly caches?: CacheSizes;
  readonly discard?: DiscardMode;
  readonly discardNoUnref?: boolean;
  readonly like?: QemuProfileName;
}

/** All variants in writethrough, by default. */
export function smallMatrix(
  axes: Partial<MatrixAxes> = {},
  {
    device = 'memory',
    overlap,
    payload,
    shape,
    caches,
    discard,
    discardNoUnref,
    like,
    ...setting
  }: SmallSetting = {},
): readonly CellPlan[] {
  return planMatrix(
    {
      sources: [smallSource('small')],
      formats: ['raw', 'qcow2', 'qed'],
      refcounts: ['eager', 'lazy'],
      caches: ['writethrough'],
      clusterSizes: [65_536],
      queueDepths: [1],
      engines: ['builtin'],
      devices: [device],
      overlaps: only(overlap),
      payloads: only(payload),
      others: {
        shape: only(shape),
        caches: only(caches),
        discard: only(discard === 'ignore' ? discard : undefined),
        discardNoUnref: only(discardNoUnref === true ? true : undefined),
        like: only(like),
      },
      ...axes,
    },
    setting,
  );
}

function only<T>(value: T | undefined): readonly T[] | undefined {
  return value === undefined ? undefined : [value];
}

export const ALL_CACHES = [...CACHE_MODES];

export class MemorySink implements RecordSink {
  readonly records = new Map<string, CellRecord>();

  cellRecord(cell: CellRecord['cell']): CellRecord | undefined {
    return this.records.get(cellKey(cell));
  }

  putCell(record: CellRecord): void {
    this.records.set(cellKey(record.cell), record);
  }

  /** In the order in which cells were first put. */
  all(): readonly CellRecord[] {
    return [...this.records.values()];
  }
}

/** A clock that goes on by one microsecond each time it is read. */
export function steppingClock(): Clock {
  let nowNs = 0n;
  return { nowNs: () => (nowNs += 1000n) };
}

export function request(op: RequestOp, offset = 0, length = op === 'flush' ? 0 : 4096): Request {
  return { op, offset, length, fua: false, unmap: false, timeNs: 0 };
}
