/**
 * A crash or a failing host operation in the middle of a repair, a resize or a snapshot operation:
 * the image opens or a repair makes it clean, and the guest loses no durable data.
 */

import { inspect } from 'node:util';

import { describe, expect, it } from 'vitest';
import { Qcow2BenchError } from '../../../src/core/error.ts';
import { Random } from '../../../src/core/random.ts';
import { FaultDevice, type FaultOp, type FaultRule } from '../../../src/device/fault.ts';
import type { MemoryDevice } from '../../../src/device/memory-device.ts';
import type { WriteLogEntry } from '../../../src/device/write-log.ts';
import {
  DISK_CLUSTERS,
  interruptedStates,
  logOf,
  lossInspector,
  makeStart,
  onImage,
  openAndClose,
  repair,
  resizeTo,
  type Expected,
  type Guest,
  type LossOf,
  type Operation,
  type StartOptions,
} from './interrupted.ts';

const SEED = Number(process.env['INTERRUPTED_SEED'] ?? 41);
const SAMPLES = 24;
/** A repair of one state in so many is interrupted too. */
const NESTED_STRIDE = 4;

interface Case {
  readonly what: string;
  readonly start: StartOptions;
  readonly operation: Operation;
  readonly expected: (guest: Guest) => Expected;
}

const unchanged = ({ disk, snapshots }: Guest): Expected => ({ disks: [disk], snapshots });

function resized(virtualSize: number): (guest: Guest) => Expected {
  return ({ disk, snapshots }) => {
    const other = new Uint8Array(virtualSize);
    other.set(disk.subarray(0, virtualSize));
    return { disks: [disk, other], lostFrom: virtualSize, snapshots, staysSound: true };
  };
}

const SMALL = 512;
const PREALLOCATIONS = ['metadata', 'falloc', 'full'] as const;
const NEW_SNAPSHOT = { name: 'c', seconds: 0, nanoseconds: 0 };

const CASES: readonly Case[] = [
  ...[SMALL, 4096].flatMap((clusterSize): readonly Case[] => {
    const [smaller, larger] = [60 * clusterSize, (DISK_CLUSTERS + 300) * clusterSize];
    const size = `clusters of ${String(clusterSize)}`;
    const dirty = { clusterSize, isDirty: true };
    const kept = { clusterSize, hasSnapshots: true };
    const repairs: readonly Case[] = [
      {
        what: `check --repair of a dirty image, ${size}`,
        start: dirty,
        operation: repair,
        expected: unchanged,
      },
      { what: `opening a dirty image, ${size}`, start: dirty, operation: openAndClose, expected: unchanged },
      {
        what: `check --repair of a dirty image with snapshots, ${size}`,
        start: { ...kept, isDirty: true },
        operation: repair,
        expected: unchanged,
      },
    ];
    if (clusterSize !== SMALL) return repairs;
    return [
      ...repairs,
      {
        what: `a disk that gets smaller, ${size}`,
        start: { clusterSize },
        operation: resizeTo(smaller),
        expected: resized(smaller),
      },
      {
        what: `a disk that gets smaller within an L2 table, ${size}`,
        start: { clusterSize },
        operation: resizeTo(100 * clusterSize),
        expected: resized(100 * clusterSize),
      },
      {
        what: `a disk with snapshots that gets smaller, ${size}`,
        start: kept,
        operation: resizeTo(smaller),
        expected: resized(smaller),
      },
      ...PREALLOCATIONS.map((mode) => ({
        what: `a disk that grows, ${mode}, ${size}`,
        start: { clusterSize },
        operation: resizeTo(larger, mode),
        expected: resized(larger),
      })),
      {
        what: `taking a snapshot, ${size}`,
        start: kept,
        operation: onImage((image) => image.snapshots.create(NEW_SNAPSHOT)),
        expected: ({ disk, snapshots }) => ({
          disks: [disk],
          snapshots: new Map([...snapshots, ['c', disk]]),
          mayVary: ['c'],
        }),
      },
      {
        what: `going back to a snapshot, ${size}`,
        start: kept,
        operation: onImage((image) => image.snapshots.apply('a')),
        expected: ({ disk, snapshots }) => ({ disks: [disk, snapshots.get('a') ?? disk], snapshots }),
      },
      {
        what: `deleting a snapshot, ${size}`,
        start: kept,
        operation: onImage((image) => image.snapshots.delete('a')),
        expected: ({ disk, snapshots }) => ({ disks: [disk], snapshots, mayVary: ['a'] }),
      },
    ];
  }),
];

/** What is wrong with states that a crash may leave, in words: the first few. */
async function lossesAfter(
  file: MemoryDevice,
  entries: readonly WriteLogEntry[],
  lossOf: LossOf,
  { samples, isNested = false }: { readonly samples: number; readonly isNested?: boolean },
): Promise<readonly string[]> {
  const random = new Random(SEED);
  const losses: string[] = [];
  let states = 0;
  for (const state of interruptedStates(file, entries, { random, samples })) {
    const loss = await lossOf(state.file).catch(String);
    if (loss !== undefined && losses.length < 5) losses.push(`${state.name}: ${loss}`);
    if (!isNested || states++ % NESTED_STRIDE !== 0) continue;
    const again = await logOf(state.file, repair);
    const within = await lossesAfter(state.file, again, lossOf, { samples: 4 });
    losses.push(...within.map((each) => `${state.name}, then ${each}`));
  }
  return losses;
}

describe('a crash in the middle', () => {
  it.each(CASES)('of $what', async ({ start, operation, expected }) => {
    const { file, guest } = await makeStart(start);
    const entries = await logOf(file, operation);
    expect(entries.length).toBeGreaterThan(6);
    const isNested = operation === repair;
    expect(
      await lossesAfter(file, entries, lossInspector(expected(guest)), { samples: SAMPLES, isNested }),
      `seed ${String(SEED)}`,
    ).toEqual([]);
  });

  it('is noticed where a repair has no sync before the pointer to its table', async () => {
    const { file, guest } = await makeStart({ clusterSize: SMALL, isDirty: true });
    const entries = await logOf(file, repair);
    const pointer = entries.findIndex((entry) => entry.op === 'write' && entry.offset === 48);
    let covered = 0;
    const unordered = entries.map((entry, index) => {
      if (entry.op !== 'sync') return entry;
      if (index === pointer - 1) return { ...entry, covers: covered };
      covered = entry.covers;
      return entry;
    });
    const losses = await lossesAfter(file, unordered, lossInspector(unchanged(guest)), { samples: SAMPLES });
    expect(losses.length).toBeGreaterThan(0);
  });
});

/** Once, or from then on whatever takes space. */
const FAULTS: readonly { readonly code: 'EIO' | 'ENOSPC'; readonly rule: (at: number) => FaultRule }[] = [
  {
    code: 'EIO',
    rule:
      (at) =>
      ({ index }) =>
        index === at ? 'EIO' : undefined,
  },
  {
    code: 'ENOSPC',
    rule:
      (at) =>
      ({ index, op }) =>
        index >= at && TAKES_SPACE.has(op) ? 'ENOSPC' : undefined,
  },
];
const TAKES_SPACE: ReadonlySet<FaultOp> = new Set(['write', 'zero-range', 'reserve']);

describe('a host operation that fails in the middle', () => {
  it.each(CASES)('of $what', async ({ start, operation, expected }) => {
    const { file, guest } = await makeStart(start);
    const losses: string[] = [];
    const lossOf = lossInspector(expected(guest));
    for (const { code, rule } of FAULTS) {
      for (let at = 0; ; at++) {
        const left = file.clone();
        let failed = 0;
        const device = new FaultDevice(left, (event) => {
          const system = rule(at)(event);
          if (system !== undefined) failed++;
          return system;
        });
        const error: unknown = await operation(device).then(
          () => undefined,
          (reason: unknown) => reason,
        );
        if (failed === 0) break;
        if (error !== undefined && !(error instanceof Qcow2BenchError)) {
          losses.push(`${code} at ${String(at)}: ${inspect(error)}`);
        }
        const loss = await lossOf(left).catch(String);
        if (loss !== undefined) losses.push(`${code} at ${String(at)}: ${loss}`);
      }
    }
    expect(losses.slice(0, 5)).toEqual([]);
  });
});
