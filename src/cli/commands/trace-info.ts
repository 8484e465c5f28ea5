/** `trace info`: what a trace holds, in figures and as a picture. */

import { wrapped } from '../../core/text-lines.ts';
import type { InferredOptionTypes } from 'yargs';

import { humanSize, formatSize } from '../../core/size.ts';
import { visibleText } from '../../core/visible-text.ts';
import { countOf } from '../../core/number-text.ts';
import { tracePath } from '../../workload/library.ts';
import type { BlockAction } from '../../workload/trace/block-action.ts';
import { traceFormat, type TraceContents } from '../../workload/trace/trace-formats.ts';
import { openUnsizedTrace, type UnsizedTrace } from '../../workload/trace/trace-reader.ts';
import { TraceSummary, type PowerCount, type TraceFigures } from '../../workload/trace/trace-summary.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { readsTrace } from '../files/matrix-files.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { flag, inGroup, optional, preset } from '../options/option-kinds.ts';
import { clusterSize, count } from '../options/option-values.ts';
import { shortDuration, talliedText } from '../terminal/text.ts';
import { Interrupted, Interruption } from '../terminal/interruption.ts';
import { ReadingProgress } from '../terminal/reading-progress.ts';
import type { Terminal } from '../terminal/terminal.ts';
import { TRACE_ARGUMENT, TRACE_OPTIONS, traceReading } from '../options/trace-options.ts';
import { tracePicture } from '../terminal/trace-picture.ts';

const INFO_OPTIONS = inGroup('Info:', {
  'cluster-size': preset('Cluster size for counting allocating writes', clusterSize('cluster-size'), '64KiB'),
  limit: optional('Read only the first N requests', count('limit', { min: 1 })),
  json: flag('Print the statistics as JSON'),
});

export const traceInfoCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('trace', TRACE_ARGUMENT)
      .options(INFO_OPTIONS)
      .options(TRACE_OPTIONS)
      .epilogue(
        examples([
          ['trace info mine.trace.csv.zst', 'statistics of a trace'],
          ['trace info io_traces.csv.gz --volume 419 --json', 'one volume, as JSON'],
        ]),
      ),

  files: (args) => readsTrace(args.trace),

  run: async (args: InfoArgs & { readonly trace: string }, terminal) => {
    await using trace = await openUnsizedTrace(tracePath(args.trace), {
      ...traceReading(args),
      limit: args.limit,
    });
    const summary = new TraceSummary(args['cluster-size']);
    if (!(await summarise(trace, summary, terminal))) return EXIT.interrupted;
    const figures = summary.figures();
    terminal.print(args.json ? infoJson(trace, figures) : infoText(trace, { summary, figures }, terminal));
    return EXIT.good;
  },
});

/** Reads the trace, with a bar if its end is known; false if that was interrupted. */
async function summarise(trace: UnsizedTrace, summary: TraceSummary, terminal: Terminal): Promise<boolean> {
  const { fileBytes } = trace;
  if (fileBytes === undefined) {
    // A stream may never give another byte: signals end the program.
    for await (const batch of trace.columns) summary.add(batch);
    return true;
  }
  using progress = new ReadingProgress(terminal.errors, fileBytes);
  using interruption = new Interruption(terminal, () => progress.clear());
  try {
    for await (const batch of trace.columns) {
      summary.add(batch);
      progress.show(trace.readBytes);
      await interruption.turn();
    }
  } catch (error) {
    if (error instanceof Interrupted) return false;
    throw error;
  }
  return true;
}

/** Columns that are used of a wider terminal. */
const WIDTH_MAX = 100;

type InfoArgs = InferredOptionTypes<typeof INFO_OPTIONS & typeof TRACE_OPTIONS>;

/** Documented in docs/traces.md. */
function infoJson(trace: UnsizedTrace, figures: TraceFigures): string {
  const { path, format, volume, virtualSize, provenance } = trace;
  const { holds } = traceFormat(format);
  const known = {
    trace: path,
    format,
    action: trace.action ?? null,
    volume: volume ?? null,
    virtualSize,
    virtualSizeIsRecorded: holds.size,
  };
  const { allocatingWrites, writes } = figures;
  const shares = {
    readShare: share(figures.reads, figures.reads + writes),
    allocatingShare: share(allocatingWrites, writes),
    unwrittenReadShare: share(figures.unwrittenReadBytes, figures.readBytes),
  };
  const leftOut = {
    skipped: trace.skippedCount,
    failed: trace.failedCount,
    otherVolumes: trace.otherVolumeCount,
    passedOver: trace.passedOver,
    adjusted: trace.adjusted,
  };
  const all = {
    ...known,
    ...figures,
    ...shares,
    ...leftOut,
    holds,
    provenance: Object.fromEntries(provenance),
  };
  return JSON.stringify(all, null, 2);
}

interface Shown {
  readonly summary: TraceSummary;
  readonly figures: TraceFigures;
}

function infoText(trace: UnsizedTrace, { summary, figures }: Shown, terminal: Terminal): string {
  const { paint } = terminal;
  const { title, holds } = traceFormat(trace.format);
  const rows: (readonly [string, string])[] = [
    [
      'format',
      `${title} (${trace.format})${trace.volume === undefined ? '' : `, volume ${visibleText(trace.volume)}`}`,
    ],
    ...(trace.action === undefined ? [] : [['action', actionText(trace.action)] as const]),
    ['device', `${sizeText(trace.virtualSize)}${holds.size ? '' : ', from the last request (not recorded)'}`],
    ['requests', requestsText(figures, holds)],
    ['operations', operationsText(figures)],
    ['bytes', `${humanSize(figures.readBytes)} read, ${humanSize(figures.writeBytes)} written`],
    ...(figures.reads > 0 ? [['unwritten', unwrittenText(figures)] as const] : []),
    ['flushes', flushesText(figures, holds)],
    ['sizes', powersText(figures.sizes)],
    ['alignment', powersText(figures.alignments)],
    ['footprint', footprintText(figures)],
    ['allocating', allocatingText(figures)],
    ...leftOutRows(trace),
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  const text = [
    paint.bold(visibleText(trace.path)),
    ...rows.flatMap(([name, value]) =>
      wrapped(value, Math.min(terminal.width, WIDTH_MAX) - width - 4).map(
        (line, index) => `  ${paint.dim((index === 0 ? name : '').padEnd(width))}  ${line}`,
      ),
    ),
  ];
  if (figures.requests > 0) text.push('', picture(trace, { summary, figures }, terminal));
  return text.join('\n');
}

/** Which event of a request was taken, as blkparse calls it. */
function actionText(action: BlockAction): string {
  return `${action}: requests as they were ${ACTION_MEANINGS[action]}`;
}

const ACTION_MEANINGS: Readonly<Record<BlockAction, string>> = {
  Q: 'queued',
  I: 'inserted into the queue of the scheduler',
  D: 'issued to the driver',
  C: 'completed',
};

function requestsText({ requests, durationNs }: TraceFigures, { times }: TraceContents): string {
  const total = countOf(requests, 'request');
  if (durationNs === 0) return times === 'none' ? `${total}; times are not recorded` : total;
  return `${total} in ${shortDuration(durationNs)}, ${rate(requests / (durationNs / 1e9))} a second`;
}

function operationsText(figures: TraceFigures): string {
  const { reads, writes, discards, writeZeroes, discardBytes, writeZeroesBytes } = figures;
  const moved = reads + writes;
  return [
    `${countOf(reads, 'read')} (${percent(share(reads, moved))})`,
    `${countOf(writes, 'write')} (${percent(share(writes, moved))})`,
    ...(discards > 0 ? [`${countOf(discards, 'discard')} of ${humanSize(discardBytes)}`] : []),
    ...(writeZeroes > 0 ? [`${countOf(writeZeroes, 'zero-write')} of ${humanSize(writeZeroesBytes)}`] : []),
  ].join(', ');
}

function unwrittenText({ unwrittenReadBytes, readBytes }: TraceFigures): string {
  const bytes = `${humanSize(unwrittenReadBytes)} (${percent(share(unwrittenReadBytes, readBytes))})`;
  return `${bytes} of what is read was not written before; see replay --fill-reads`;
}

function flushesText({ flushes, fuaWrites, writes }: TraceFigures, holds: TraceContents): string {
  if (!holds.flush && !holds.fua) return 'not recorded in this format; choose --flush-policy for a replay';
  const flushText = holds.flush
    ? flushes === 0
      ? 'none'
      : `${countOf(flushes, 'flush', 'flushes')}, one for ${rate(writes / flushes)} writes`
    : 'flushes are not recorded in this format';
  return `${flushText}; ${holds.fua ? countOf(fuaWrites, 'FUA write') : 'FUA is not recorded in this format'}`;
}

/** Entries of a list of sizes that are shown. */
const POWERS_SHOWN = 6;

/** The most frequent ones, in order of size. */
function powersText(powers: readonly PowerCount[]): string {
  const total = powers.reduce((sum, { reads, writes }) => sum + reads + writes, 0);
  if (total === 0) return 'none';
  const shown = powers
    .toSorted((a, b) => b.reads + b.writes - (a.reads + a.writes))
    .slice(0, POWERS_SHOWN)
    .toSorted((a, b) => a.bytes - b.bytes);
  const texts = shown.map(
    ({ bytes, reads, writes }) => `${formatSize(bytes)} ${percent((reads + writes) / total)}`,
  );
  return [...texts, ...(powers.length > POWERS_SHOWN ? ['…'] : [])].join(', ');
}

function footprintText({ footprintBytes, writtenBytes, footprintBlock, endOffset }: TraceFigures): string {
  const unit = footprintBlock > 512 ? ` (to ${formatSize(footprintBlock)})` : '';
  const touched = `${humanSize(footprintBytes)} touched, ${humanSize(writtenBytes)} of it written${unit}`;
  return `${touched}; the last request ends at ${humanSize(endOffset)}`;
}

function allocatingText({ allocatingWrites, writes, clusterSize, clusters }: TraceFigures): string {
  const first = `${percent(share(allocatingWrites, writes))} of writes come first to a cluster of ${formatSize(clusterSize)}`;
  return `${first}; ${countOf(clusters, 'cluster')} in all`;
}

function leftOutRows({
  skippedCount,
  failedCount,
  otherVolumeCount,
  isCut,
  cutBytes,
  passedOver,
  adjusted,
}: UnsizedTrace): [string, string][] {
  const texts = [
    ...(skippedCount > 0
      ? [countOf(skippedCount, 'invalid line or record', 'invalid lines or records')]
      : []),
    ...(failedCount > 0 ? [`${countOf(failedCount, 'request')} that failed or got no reply`] : []),
    ...(otherVolumeCount > 0 ? [`${countOf(otherVolumeCount, 'request')} of other volumes`] : []),
    ...(isCut ? [`${countOf(cutBytes, 'byte')} of an incomplete last line or record`] : []),
  ];
  return [
    ...(texts.length === 0 ? [] : [['skipped', texts.join(', ')] satisfies [string, string]]),
    ...(passedOver.length === 0 ? [] : [['passed over', talliedText(passedOver)] satisfies [string, string]]),
    ...(adjusted.length === 0 ? [] : [['adjusted', talliedText(adjusted)] satisfies [string, string]]),
  ];
}

function picture({ virtualSize }: UnsizedTrace, { summary, figures }: Shown, terminal: Terminal): string {
  const { durationNs, requests } = figures;
  const isTimed = durationNs > 0;
  return tracePicture({
    grid: isTimed ? summary.byTime : summary.byNumber,
    height: virtualSize,
    width: isTimed ? durationNs + 1 : requests,
    widthText: isTimed ? shortDuration(durationNs) : (requests - 1).toLocaleString('en-US'),
    axis: isTimed ? 'time' : 'requests',
    columns: terminal.width,
    colour: terminal.hasColour,
    paint: terminal.paint,
  });
}

function share(part: number, whole: number): number | null {
  return whole === 0 ? null : part / whole;
}

function percent(part: number | null): string {
  if (part === null) return '–';
  const figure = part * 100;
  return `${figure > 0 && figure < 0.1 ? '<0.1' : figure.toFixed(figure < 10 && figure > 0 ? 1 : 0)}%`;
}

function rate(figure: number): string {
  return figure >= 100 ? Math.round(figure).toLocaleString('en-US') : figure.toPrecision(2);
}

function sizeText(bytes: number): string {
  return `${humanSize(bytes)} (${bytes.toLocaleString('en-US')} bytes)`;
}
