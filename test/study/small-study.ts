/** Results with the coordinates and counts that a test of studies gives, and nothing else. */

import type { Cell, CellRecord, Counts, ResultRecord, Timing } from '../../src/result/schema.ts';
import { ENVIRONMENT, syntheticResult } from '../report/synthetic-result.ts';

const [EXAMPLE] = syntheticResult().cells;

export interface SmallCell extends Partial<Cell> {
  /** Per guest write; 100 writes. */
  readonly syncs?: number;
  /** Nanoseconds per request, a sample each. */
  readonly times?: readonly number[];
  readonly control?: readonly number[];
  /** Bytes of guest data read from the file. */
  readonly readBytes?: number;
  /** Flushes of the device below, a sample each; 100 writes. */
  readonly flushes?: readonly number[];
}

/** 100 writes; all syncs have one cause. */
export function smallResult(cells: readonly SmallCell[]): ResultRecord {
  return {
    schema: 'qcow2-bench/result@1',
    environment: ENVIRONMENT,
    cells: cells.map((cell) => recordOf(cell)),
  };
}

function recordOf({
  syncs = 0,
  times = [],
  control,
  readBytes,
  flushes = [],
  ...coordinates
}: SmallCell): CellRecord {
  if (EXAMPLE?.counts === undefined || EXAMPLE.counts === null) throw new Error('no example');
  const { counts } = EXAMPLE;
  const ops = Math.round(syncs * 100);
  const none = { ...counts.run.syncs, ops: 0, elided: 0, byCause: {} };
  return {
    cell: {
      engine: 'builtin',
      workload: 'w',
      format: 'qcow2',
      refcounts: 'eager',
      cache: 'none',
      clusterSize: 65_536,
      queueDepth: 1,
      device: 'file',
      ...coordinates,
    },
    countsDevice: 'memory',
    counts: {
      ...counts,
      guest: { ...counts.guest, writes: 100 },
      run: {
        ...counts.run,
        ...(readBytes === undefined ? {} : { reads: readsOf(readBytes) }),
        syncs: { ops, elided: 0, byCause: ops === 0 ? {} : { 'guest-flush': ops } },
      },
      close: { ...counts.close, syncs: none },
    },
    timedRequests: times.length === 0 ? 0 : 1,
    timings: [...times.map(timing), ...flushes.map(sampleBelow)],
    ...(control === undefined ? {} : { control: control.map(timing) }),
    fallbacks: [],
    skipped: null,
  };
}

function readsOf(bytes: number): Counts['run']['reads'] {
  return { ops: 1, bytes, byPurpose: { data: { ops: 1, bytes } } };
}

function timing(elapsedNs: number, round: number): Timing {
  return { round, requests: 1, elapsedNs, openNs: 0, closeNs: 0 };
}

function sampleBelow(flushes: number, round: number): Timing {
  const none = { reads: 0, readBytes: 0, writes: 0, writeBytes: 0, discards: 0, discardBytes: 0 };
  const fragments = { fragmentsBefore: 1, fragmentsAfter: 1 };
  return {
    ...timing(1, round),
    below: { guestWrites: 100, guestFlushes: 0, flushes, ...none, ...fragments },
  };
}
