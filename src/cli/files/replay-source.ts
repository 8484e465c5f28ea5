/**
 * The trace of a replay: opened, adapted as the options say, and read once to its end before
 * anything is measured, so that a broken line is reported before the first cell, and what has to be
 * said of the figures is known.
 */

import { Qcow2BenchError } from '../../core/error.ts';
import { existsSync } from '../../core/host-fs.ts';
import { formatSize, humanSize } from '../../core/size.ts';
import { countOf } from '../../core/number-text.ts';
import { CACHE_MODE_RULES } from '../../format/cache-mode.ts';
import type { Cell } from '../../result/schema.ts';
import { adapted } from '../../workload/adaptation.ts';
import { flushPolicyName } from '../../workload/flush-policy.ts';
import { findSource, type RecordedSource } from '../../workload/library.ts';
import type { BlockAction } from '../../workload/trace/block-action.ts';
import { ReadFill } from '../../workload/read-fill.ts';
import { imageSize } from '../../workload/remap.ts';
import type { Request } from '../../workload/request.ts';
import { isSplit, TRANSFER_BYTES_MAX } from '../../workload/split-requests.ts';
import { openTrace } from '../../workload/trace/trace-reader.ts';
import type { ReplayArgs } from '../options/replay-options.ts';
import { traceReading, type TraceArgs } from '../options/trace-options.ts';
import { UsageError } from '../terminal/usage-error.ts';

export interface ReplaySourceArgs extends TraceArgs, ReplayArgs {
  readonly trace: string;
  /** At most this many. */
  readonly requests: number | undefined;
  readonly image: string | undefined;
}

/** The result of scanning the trace. */
interface TraceFacts {
  readonly requests: number;
  readonly skipped: number;
  /** Of a file that was cut short: the bytes left out at its end. */
  readonly cutBytes: number | undefined;
  /** Flushes, and writes with FUA. */
  readonly flushes: number;
  /** Reads and writes that are issued in several parts. */
  readonly split: number;
  /** Bytes written before the run. */
  readonly filledBytes: number;
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
  const opened = await openSource(args);
  const fill = fillsReads(args, opened) ? new ReadFill() : undefined;
  const facts = await readThrough(opened, args.requests, fill);
  refuseTimesThatAreNone(args, facts);
  // Nothing to fill is no fill: the cell is the same one.
  const source = fill === undefined || fill.bytes === 0 ? opened : { ...opened, fill };
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
  const transferBytes = args['max-transfer'];
  if (remap === undefined || size === undefined) {
    return { ...source, adaptation: { flushPolicy, transferBytes } };
  }
  const sizes = { recorded: source.virtualSize, image: size };
  const adaptation = { flushPolicy, transferBytes, remap: { way: remap, sizes } };
  return { ...source, virtualSize: imageSize(remap, sizes), adaptation };
}

/** An image that exists has its own data. */
function fillsReads({ 'fill-reads': given, image }: ReplaySourceArgs, { reading }: RecordedSource): boolean {
  const isNew = image === undefined || !existsSync(image);
  if (given === 'on' && !isNew) {
    throw new UsageError('--fill-reads on: --image names an image that exists, which is used as it is');
  }
  return isNew && (given === 'on' || (given === 'auto' && reading.format !== 'native'));
}

/** @param fill gets the requests as they are served. */
async function readThrough(
  { path, reading, adaptation = {} }: RecordedSource,
  limit: number | undefined,
  fill: ReadFill | undefined,
): Promise<TraceFacts> {
  await using trace = await openTrace(path, { ...reading, limit });
  let requests = 0;
  let flushes = 0;
  let split = 0;
  const transferBytes = adaptation.transferBytes ?? TRANSFER_BYTES_MAX;
  let firstNs: number | undefined;
  let lastNs = 0;
  const counted = async function* (): AsyncGenerator<readonly Request[], undefined> {
    for await (const batch of trace.batches) {
      requests += batch.length;
      firstNs ??= batch[0]?.timeNs;
      lastNs = batch.at(-1)?.timeNs ?? lastNs;
      for (const request of batch) {
        if (request.op === 'flush' || request.fua) flushes++;
        if (isSplit(request, transferBytes)) split++;
      }
      yield batch;
    }
    return undefined;
  };
  const own = {
    virtualSize: trace.virtualSize,
    batches: counted(),
    [Symbol.asyncDispose]: () => trace[Symbol.asyncDispose](),
  };
  await using served = adapted(own, adaptation, limit);
  for await (const batch of served.batches) for (const request of batch) fill?.add(request);
  return {
    requests,
    flushes,
    split,
    filledBytes: fill?.bytes ?? 0,
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
  { requests, skipped, cutBytes, flushes, split, filledBytes, action }: TraceFacts,
): readonly string[] {
  const remarks: string[] = [];
  if (cutBytes !== undefined) {
    const rest = countOf(cutBytes, 'byte');
    remarks.push(`the trace was cut short: ${rest} of an incomplete last line or record were skipped`);
  }
  if (skipped === 1) remarks.push('skipped 1 invalid line of the trace');
  if (skipped > 1) remarks.push(`skipped ${String(skipped)} invalid lines of the trace`);
  if (action !== undefined && action !== 'Q') {
    remarks.push(`requests of the trace are its events of action ${action}`);
  }
  if (split > 0) {
    const bytes = source.adaptation?.transferBytes ?? TRANSFER_BYTES_MAX;
    remarks.push(`${countOf(split, 'request')} longer than ${formatSize(bytes)} (--max-transfer) split`);
  }
  if (filledBytes > 0) {
    remarks.push(
      `${humanSize(filledBytes)} that the trace reads before it writes were written before the run (--fill-reads)`,
    );
  }
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
