/**
 * A failing host operation in the middle of a repair, a resize or a snapshot operation: the image
 * opens or a repair makes it clean, and the guest loses no durable data. Crashes there are states of
 * test/crash.
 */

import { inspect } from 'node:util';

import { describe, expect, it } from 'vitest';
import { Qcow2BenchError } from '../../../src/core/error.ts';
import { FaultDevice, type FaultOp, type FaultRule } from '../../../src/device/fault.ts';
import {
  DISK_CLUSTERS,
  lossInspector,
  makeStart,
  onImage,
  openAndClose,
  repair,
  resizeTo,
  type Expected,
  type Guest,
  type Operation,
  type StartOptions,
} from './failing-operation.ts';

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
