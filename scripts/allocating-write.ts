/**
 * The pictures of docs/cache-modes.md: what an allocating write makes the host do, from the host
 * logs of the engines. Run by `npm run docs:pictures`; tests hold the pictures against these logs, and
 * the logs against those of QEMU.
 */

import { mkdir, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

import { BuiltinEngine } from '../src/bench/builtin-engine.ts';
import type { CellPlan, Engine } from '../src/bench/engine.ts';
import { planMatrix } from '../src/bench/matrix.ts';
import type { HostLogRecord } from '../src/device/host-log.ts';
import { humanSize } from '../src/core/size.ts';
import type { CacheMode } from '../src/format/cache-mode.ts';
import type { QemuProfileName } from '../src/format/qemu-profile.ts';
import { variantName } from '../src/result/cell.ts';
import type { WorkloadSource } from '../src/workload/library.ts';
import { workloadSchema } from '../src/workload/schema.ts';
import {
  requestPictureSvg,
  type DrawnOperation,
  type DrawnRequest,
  type Panel,
  type RequestPicture,
} from './request-picture.ts';

export const PICTURES = new URL('../docs/pictures/', import.meta.url);

interface PictureOf extends Omit<RequestPicture, 'panels'> {
  /** Of the file. */
  readonly name: string;
  readonly cache: CacheMode;
  /** Whether each write is followed by a flush. */
  readonly isFlushed: boolean;
  /** Numbers of the requests, from 0. */
  readonly from: number;
  readonly to: number;
}

export const ALLOCATING_WRITES: readonly PictureOf[] = [
  {
    name: 'allocating-write',
    title: 'A write of 4 KiB to a new cluster',
    subtitle: 'cache=writethrough; the L2 table exists',
    cache: 'writethrough',
    isFlushed: false,
    from: 2,
    to: 3,
  },
  {
    name: 'write-and-flush',
    title: 'The same write, and a flush',
    subtitle: 'cache=writeback; the L2 table exists',
    cache: 'writeback',
    isFlushed: true,
    from: 4,
    to: 6,
  },
  {
    name: 'first-write',
    title: 'The first write to a new image',
    subtitle: 'cache=writethrough; an L2 table has to be allocated',
    cache: 'writethrough',
    isFlushed: false,
    from: 0,
    to: 1,
  },
];

/** What an engine makes of the requests of a picture, format by format. */
export async function panelsOf(
  picture: PictureOf,
  engine: Engine,
  like?: QemuProfileName,
): Promise<readonly Panel[]> {
  const panels: Panel[] = [];
  for (const plan of plansOf(picture, engine, like)) {
    const records: HostLogRecord[] = [];
    await engine.count(plan, { hostLog: (record) => void records.push(record) });
    const requests = Array.from({ length: picture.to - picture.from }, (_, index) =>
      requestOf(records.filter(({ request }) => request === picture.from + index)),
    );
    panels.push({ variant: variantName(plan.cell), requests });
  }
  return panels;
}

function requestOf(records: readonly HostLogRecord[]): DrawnRequest {
  const guest = records.find((record) => record.guest !== undefined)?.guest;
  if (guest === undefined) throw new Error('a request of the picture has no host operation');
  const size = guest.length === undefined ? '' : ` ${humanSize(guest.length)}`;
  return { name: `${guest.op}${size}`, operations: records.flatMap(operationOf) };
}

function operationOf(record: HostLogRecord): readonly DrawnOperation[] {
  switch (record.op) {
    case 'read':
      return [];
    case 'sync':
      return [{ op: 'sync', cause: record.cause }];
    case 'write':
    case 'zero-range':
      return [{ op: record.op, purpose: record.purpose, length: record.length }];
    default:
      throw new Error(`the picture has no place for ${record.op}`);
  }
}

function plansOf(
  { cache, isFlushed, to }: PictureOf,
  engine: Engine,
  like: QemuProfileName | undefined,
): readonly CellPlan[] {
  return planMatrix({
    sources: [sourceOf(isFlushed, to)],
    formats: ['qcow2', 'qed', 'raw'],
    refcounts: ['eager', 'lazy'],
    caches: [cache],
    clusterSizes: [65_536],
    queueDepths: [1],
    engines: [engine.name],
    devices: [engine.name === 'builtin' ? 'memory' : 'file'],
    others: { like: like === undefined ? undefined : [like] },
  });
}

function sourceOf(isFlushed: boolean, requests: number): WorkloadSource {
  const workload = workloadSchema.parse({
    schema: 'qcow2-bench/workload@1',
    name: 'allocating-write',
    title: 'Writes to new clusters',
    description: 'Each write of 4 KiB allocates a cluster of 64 KiB.',
    seed: 1,
    image: { size: '1GiB' },
    phases: [
      {
        name: 'write',
        requests,
        mix: { write: 1 },
        blockSizes: [{ size: '4KiB' }],
        pattern: { kind: 'stride', stride: '64KiB' },
        ...(isFlushed ? { flushEvery: 1 } : {}),
      },
    ],
  });
  const { name, title, description } = workload;
  return {
    kind: 'workload',
    name,
    title,
    description,
    path: name,
    virtualSize: workload.image.size,
    workload,
  };
}

/** By the name of their files. */
export async function allocatingWritePictures(): Promise<ReadonlyMap<string, string>> {
  const pictures = new Map<string, string>();
  for (const picture of ALLOCATING_WRITES) {
    const panels = await panelsOf(picture, new BuiltinEngine());
    pictures.set(`${picture.name}.svg`, requestPictureSvg({ ...picture, panels }));
  }
  return pictures;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await mkdir(PICTURES, { recursive: true });
  for (const [name, svg] of await allocatingWritePictures()) await writeFile(new URL(name, PICTURES), svg);
}
