/**
 * The trace of a replay: opened, adapted as the options say, and read once to its end before
 * anything is measured, so that a broken line is reported before the first cell, and what has to be
 * said of the figures is known.
 */

import { Qcow2BenchError } from '../../core/error.ts';
import { formatSize } from '../../core/size.ts';
import { CACHE_MODE_RULES } from '../../format/cache-mode.ts';
import type { Cell } from '../../result/schema.ts';
import { flushPolicyName } from '../../workload/flush-policy.ts';
import { findSource, type RecordedSource } from '../../workload/library.ts';
import type { BlockAction } from '../../workload/trace/block-action.ts';
import { imageSize } from '../../workload/remap.ts';
import { openTrace } from '../../workload/trace/trace-reader.ts';
import { countOf } from '../terminal/text.ts';
import type { ReplayArgs } from '../options/replay-options.ts';
import { traceReading, type TraceArgs } from '../options/trace-options.ts';
import { UsageError } from '../terminal/usage-error.ts';

export interface ReplaySourceArgs extends TraceArgs, ReplayArgs {
  readonly trace: string;
  /** At most this many. */
  readonly requests: number | undefined;
}

/** The result of scanning the trace. */
interface TraceFacts {
  readonly requests: number;
  readonly skipped: number;
  /** Of a file that was cut short: the bytes left out at its end. */
  readonly cutBytes: number | undefined;
  /** Flushes, and writes with FUA. */
  readonly flushes: number;
  /** Between the first request and the last. */
  readonly durationNs: number;
  /** Which event of a request was taken, in formats with several. */
  readonly action: BlockAction | undefined;
}

export interface ReplaySource {
  readonly source: RecordedSource;
  /** Of the requests as recorded, unscaled. */
  readonly durationNs: number;
  /** What is to be said of a cell's figures. */
  readonly remarksOf: (cell: Cell) => readonly string[];
}

/**
 * @throws UsageError for options that the trace cannot serve; Qcow2BenchError `not-a-trace`,
 *   `no-requests`, and what reading a trace throws.
 */
export async function replaySource(args: ReplaySourceArgs): Promise<ReplaySource> {
  const source = await openSource(args);
  const facts = await readThrough(source, args.requests);
  refuseTimesThatAreNone(args, facts);
  return {
    source,
    durationNs: facts.durationNs,
    remarksOf: (cell) => [
      ...sharedRemarks(args, source, facts),
      ...(isSilentOnSyncs(args, facts, cell)
        ? ['the trace has no flushes and --flush-policy is not set: sync counts are not meaningful']
        : []),
    ],
  };
}

async function openSource(args: ReplaySourceArgs): Promise<RecordedSource> {
  const { remap, size, requests: limit, 'flush-policy': flushPolicy } = args;
  if (remap !== undefined && size === undefined) {
    throw new UsageError('--remap needs --size: the size of the image to fit the trace to');
  }
  const reading = traceReading(args);
  // What is remapped is read with the size that it has by itself.
  const own = remap === undefined ? reading : { ...reading, size: undefined };
  const source = await findSource(args.trace, { ...own, limit });
  if (source.kind === 'workload') {
    throw new Qcow2BenchError('not-a-trace', 'is a workload file: use run --workload', {
      path: source.path,
    });
  }
  if (remap === undefined || size === undefined) {
    return flushPolicy === undefined ? source : { ...source, adaptation: { flushPolicy } };
  }
  const sizes = { recorded: source.virtualSize, image: size };
  const adaptation = { flushPolicy, remap: { way: remap, sizes } };
  return { ...source, virtualSize: imageSize(remap, sizes), adaptation };
}

async function readThrough(
  { path, reading }: RecordedSource,
  limit: number | undefined,
): Promise<TraceFacts> {
  await using trace = await openTrace(path, { ...reading, limit });
  let requests = 0;
  let flushes = 0;
  let firstNs: number | undefined;
  let lastNs = 0;
  for await (const batch of trace.batches) {
    requests += batch.length;
    firstNs ??= batch[0]?.timeNs;
    lastNs = batch.at(-1)?.timeNs ?? lastNs;
    for (const { op, fua } of batch) if (op === 'flush' || fua) flushes++;
  }
  return {
    requests,
    flushes,
    skipped: trace.skippedCount,
    cutBytes: trace.isCut ? trace.cutBytes : undefined,
    durationNs: lastNs - (firstNs ?? 0),
    action: trace.action,
  };
}

function refuseTimesThatAreNone(args: ReplaySourceArgs, { requests, durationNs }: TraceFacts): void {
  if (durationNs > 0 || requests < 2) return;
  if (args.timing !== undefined) {
    throw new UsageError('--timing: this trace has no times; use asap');
  }
  if (args['flush-policy']?.kind === 'interval') {
    throw new UsageError('--flush-policy: this trace has no times; use every=N');
  }
}

/** What holds for all cells alike. */
function sharedRemarks(
  { requests: limit, volume, 'flush-policy': policy }: ReplaySourceArgs,
  source: RecordedSource,
  { requests, skipped, cutBytes, flushes, action }: TraceFacts,
): readonly string[] {
  const remarks: string[] = [];
  if (cutBytes !== undefined) {
    const rest = countOf(cutBytes, 'byte');
    remarks.push(`the trace was cut short: ${rest} of an incomplete last line or record were skipped`);
  }
  if (skipped === 1) remarks.push('skipped 1 invalid line of the trace');
  if (skipped > 1) remarks.push(`skipped ${String(skipped)} invalid lines of the trace`);
  if (action !== undefined && action !== 'Q')
    {remarks.push(`requests of the trace are its events of action ${action}`);}
  if (volume !== undefined) remarks.push(`only volume ${volume} of the trace`);
  if (limit !== undefined && requests === limit) {
    remarks.push(`only the first ${countOf(limit, 'request')} of the trace`);
  }
  const remap = source.adaptation?.remap;
  if (remap !== undefined) {
    const { recorded } = remap.sizes;
    remarks.push(
      `remap ${remap.way}: recorded on a device of ${formatSize(recorded)}, replayed on ${formatSize(source.virtualSize)}`,
    );
  }
  if (policy !== undefined && policy.kind !== 'none') {
    const beside = flushes === 0 ? '' : `, in addition to ${String(flushes)} recorded flushes`;
    remarks.push(`flush policy ${flushPolicyName(policy)}${beside}`);
  }
  return remarks;
}

/** Where each write is made durable anyway, or nothing ever is, flushes make no difference. */
function isSilentOnSyncs(args: ReplaySourceArgs, { flushes }: TraceFacts, { cache }: Cell): boolean {
  const { flushAfterWrite, neverSync } = CACHE_MODE_RULES[cache];
  return flushes === 0 && args['flush-policy'] === undefined && !flushAfterWrite && !neverSync;
}
