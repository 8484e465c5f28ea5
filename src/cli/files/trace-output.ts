/**
 * Writing a trace, or a part of it, in a format of choice: what `trace convert` and `trace slice`
 * have in common.
 *
 * Invariants: the trace is read once before anything is written, for its size and for what the
 * format does not hold; where that is anything, nothing is written without `--lossy`.
 */

import type { InferredOptionTypes } from 'yargs';

import { Qcow2BenchError } from '../../core/error.ts';
import { visibleText } from '../../core/visible-text.ts';
import { countOf } from '../../core/number-text.ts';
import { WRITABLE_FORMATS } from '../../workload/trace/trace-encoder.ts';
import { traceFormat, type TraceFormat } from '../../workload/trace/trace-formats.ts';
import type { BlockAction } from '../../workload/trace/block-action.ts';
import type { TallyEntry } from '../../workload/trace/tally.ts';
import { TraceLosses } from '../../workload/trace/trace-losses.ts';
import { footprintOf } from '../../workload/trace/request-collector.ts';
import { refuseStream } from '../../workload/trace/trace-files.ts';
import { openUnsizedTrace, type OpenTraceOptions } from '../../workload/trace/trace-reader.ts';
import { selectRequests, type TraceSelection } from '../../workload/trace/trace-selection.ts';
import { compressionOf, TraceWriter } from '../../workload/trace/trace-writer.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { isStandardOutput, OVERWRITE_OPTIONS } from '../options/file-uses.ts';
import { Interrupted, Interruption } from '../terminal/interruption.ts';
import { NewFile } from './new-file.ts';
import { flag, inGroup, preset } from '../options/option-kinds.ts';
import { choice } from '../options/option-values.ts';
import { talliedText } from '../terminal/text.ts';
import type { Terminal } from '../terminal/terminal.ts';

export const OUTPUT_OPTIONS = inGroup('Output:', {
  to: preset(`Format: ${WRITABLE_FORMATS.join(', ')}`, choice('to', WRITABLE_FORMATS), 'native'),
  lossy: flag('Drop what the target format cannot store and report how much, instead of failing'),
  ...OVERWRITE_OPTIONS,
  json: flag('Print a summary as JSON'),
});

export const OUT_ARGUMENT = {
  type: 'string',
  demandOption: true,
  describe: 'Trace file to write; compressed if it ends in .gz or .zst',
} as const;

export interface TraceOutput {
  readonly trace: string;
  readonly out: string;
  readonly reading: OpenTraceOptions;
  readonly selection: TraceSelection;
  readonly args: InferredOptionTypes<typeof OUTPUT_OPTIONS>;
}

/** What was read, as JSON has it. */
interface Survey {
  readonly from: TraceFormat;
  readonly volume: string | undefined;
  /** Bytes of the device, for the output. */
  readonly virtualSize: number;
  readonly facts: readonly (readonly [string, string])[];
  /** Chosen, and of these held by the format. */
  readonly requests: number;
  readonly kept: number;
  readonly losses: readonly TallyEntry[];
  readonly skipped: number;
  readonly failed: number;
  readonly otherVolumes: number;
  readonly passedOver: readonly TallyEntry[];
  readonly adjusted: readonly TallyEntry[];
  readonly action: BlockAction | undefined;
  /** Of a file that was cut short: the bytes left out at its end. */
  readonly cutBytes: number | undefined;
}

/**
 * Writes the trace; answers the exit code.
 *
 * @throws Qcow2BenchError `bad-trace`, `lossy`, `file-exists`, `write-failed` and what opening a
 *   trace throws.
 */
export async function writeTraceOutput(output: TraceOutput, terminal: Terminal): Promise<number> {
  const { out, args } = output;
  using interruption = new Interruption(terminal, () => undefined);
  const { signal } = interruption;
  try {
    using file = new NewFile(out, { overwrite: args.overwrite });
    const survey = await surveyTrace(output, signal);
    if (survey.kept === 0) throw nothingToWrite(output, survey);
    if (survey.losses.length > 0 && !args.lossy) throw lossy(output.trace, args.to, survey.losses);
    await write(output, { survey, file, signal });
    file.keep();
    const answer = args.json ? asJson(output, survey) : asText(output, survey);
    if (isStandardOutput(out)) terminal.warn(answer);
    else terminal.print(answer);
    return EXIT.good;
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
    terminal.warn('interrupted: nothing was written');
    return EXIT.interrupted;
  }
}

async function surveyTrace(output: TraceOutput, signal: AbortSignal): Promise<Survey> {
  const { trace: path, reading, selection, args } = output;
  refuseStream(path);
  await using trace = await openUnsizedTrace(path, reading);
  refuseTimeless(path, trace.format, selection);
  const losses = new TraceLosses(args.to);
  let requests = 0;
  let kept = 0;
  let endOffset = 0;
  for await (const batch of selectRequests(trace, selection)) {
    signal.throwIfAborted();
    for (const request of batch) {
      losses.add(request);
      endOffset = Math.max(endOffset, request.offset + request.length);
      if (losses.keeps(request)) kept++;
    }
    requests += batch.length;
  }
  const { format: from, volume, provenance, skippedCount, failedCount, otherVolumeCount } = trace;
  const footprintSize = footprintOf(endOffset);
  const virtualSize = trace.isSized ? trace.virtualSize : footprintSize;
  losses.addHeader({ virtualSize, footprintSize, facts: provenance.size });
  return {
    from,
    volume,
    virtualSize,
    facts: [...provenance, ...originFacts(from, volume)],
    requests,
    kept,
    losses: losses.list(),
    skipped: skippedCount,
    failed: failedCount,
    otherVolumes: otherVolumeCount,
    passedOver: trace.passedOver,
    adjusted: trace.adjusted,
    action: trace.action,
    cutBytes: trace.isCut ? trace.cutBytes : undefined,
  };
}

interface Writing {
  readonly survey: Survey;
  readonly file: NewFile;
  readonly signal: AbortSignal;
}

/** Where a trace of another format came from, for the header of a native one. */
function originFacts(from: TraceFormat, volume: string | undefined): [string, string][] {
  if (from === 'native') return [];
  return [
    ['converted-from', from],
    ...(volume === undefined ? [] : [['volume', volume] satisfies [string, string]]),
  ];
}

async function write(output: TraceOutput, { survey, file, signal }: Writing): Promise<void> {
  const { trace: path, out, reading, selection, args } = output;
  const { from, virtualSize, facts: provenance, kept: count } = survey;
  await using trace = await openUnsizedTrace(path, { ...reading, format: from });
  const losses = new TraceLosses(args.to);
  const compression = compressionOf(out);
  const options = { virtualSize, format: args.to, provenance, count, compression, stream: file.writable() };
  await using writer = new TraceWriter(file.partialPath, options);
  try {
    for await (const batch of selectRequests(trace, selection)) {
      signal.throwIfAborted();
      for (const request of batch) {
        if (!losses.keeps(request)) continue;
        const pending = writer.write(request);
        if (pending !== undefined) await pending;
      }
    }
    await writer.close();
  } catch (error) {
    throw file.named(error);
  }
  if (writer.count === count) return;
  throw new Qcow2BenchError('bad-trace', 'changed while it was read', { path });
}

function refuseTimeless(path: string, format: TraceFormat, { fromNs, untilNs }: TraceSelection): void {
  if (fromNs === undefined && untilNs === undefined) return;
  if (traceFormat(format).holds.times !== 'none') return;
  const message = `${format} has no times: select by request with --skip and --limit`;
  throw new Qcow2BenchError('no-times', message, { path });
}

/** A trace of no requests is read by no command. */
function nothingToWrite({ trace: path, args }: TraceOutput, { requests }: Survey): Qcow2BenchError {
  const message =
    requests === 0
      ? 'none of its requests is selected: change --from, --until, --skip or --limit'
      : `${args.to} can store none of its ${countOf(requests, 'request')}`;
  return new Qcow2BenchError('no-requests', message, { path });
}

function lossy(path: string, to: string, losses: readonly TallyEntry[]): Qcow2BenchError {
  const message = `${to} cannot store all of this trace: ${listed(losses)}; use --lossy to drop that`;
  return new Qcow2BenchError('lossy', message, { path });
}

function listed(losses: readonly TallyEntry[]): string {
  return losses.map(({ what, count }) => `${count.toLocaleString('en-US')} ${what}`).join('; ');
}

function asText({ out, args }: TraceOutput, survey: Survey): string {
  const { kept, losses, skipped, failed, otherVolumes, passedOver, adjusted, cutBytes } = survey;
  return [
    `${visibleText(out)}: ${countOf(kept, 'request')}, ${args.to}`,
    ...(losses.length > 0 ? [`dropped: ${listed(losses)}`] : []),
    ...(skipped > 0
      ? [`skipped: ${countOf(skipped, 'invalid line or record', 'invalid lines or records')}`]
      : []),
    ...(failed > 0
      ? [`skipped: ${countOf(failed, 'request')} that failed or got no reply when recorded`]
      : []),
    ...(otherVolumes > 0 ? [`skipped: ${countOf(otherVolumes, 'request')} of other volumes`] : []),
    ...(passedOver.length > 0 ? [`passed over: ${talliedText(passedOver)}`] : []),
    ...(adjusted.length > 0 ? [`adjusted: ${talliedText(adjusted)}`] : []),
    ...(cutBytes === undefined
      ? []
      : [`skipped: ${countOf(cutBytes, 'byte')} of an incomplete last line or record`]),
  ].join('\n');
}

/** Documented in docs/traces.md. */
function asJson({ trace, out, args }: TraceOutput, survey: Survey): string {
  const { from, volume, virtualSize, requests, kept, losses, skipped, failed, otherVolumes } = survey;
  const { passedOver, adjusted, action = null } = survey;
  const left = { skipped, failed, otherVolumes, passedOver, adjusted };
  const counts = { action, requests, written: kept, dropped: losses, ...left };
  return JSON.stringify(
    { trace, out, from, to: args.to, volume: volume ?? null, virtualSize, ...counts },
    null,
    2,
  );
}
