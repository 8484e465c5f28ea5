/**
 * The trace formats, in one table: what each holds, how a file of it is recognised, and who parses
 * it.
 *
 * Invariants: recognition looks at the first bytes alone, and no two formats recognise the same
 * bytes. Formats of lines are recognised by their parsers, so that what is recognised can be read;
 * where lines mean different things in several formats, or their unit is a guess, the user says
 * which it is. What a format does not hold is never made up: without flushes in the file there are
 * none in the stream.
 */

import { Qcow2BenchError } from '../../core/error.ts';
import { AlibabaParser } from './alibaba.ts';
import { BlkparseParser } from './blkparse.ts';
import { BlktraceParser, isBlktrace } from './blktrace.ts';
import { isSnoop, LAYOUTS, snoopLayout, type ColumnLayout } from './column-layout.ts';
import { ColumnsParser } from './columns.ts';
import { DmLogWritesParser, isDmLogWrites } from './dm-log-writes.ts';
import { EtwParser } from './etw.ts';
import { FIO_FIRST_LINES, FioIologParser, isFioIolog } from './fio-iolog.ts';
import { FiuParser } from './fiu.ts';
import { FtraceParser } from './ftrace.ts';
import { MsrParser } from './msr.ts';
import { isNativeTrace, NativeTraceParser } from './native.ts';
import { isNbdServerLog, NbdServerLogParser } from './nbd-server-log.ts';
import { NbdkitLogParser } from './nbdkit-log.ts';
import { isQemuSimpletrace, QemuSimpletraceParser } from './qemu-simpletrace.ts';
import { QemuTraceLogParser } from './qemu-trace-log.ts';
import { SystorParser } from './systor17.ts';
import { TencentParser } from './tencent.ts';
import { parserTakes } from './parser-trial.ts';
import type { RequestCollector } from './request-collector.ts';
import { headOf, type TraceHead } from './trace-head.ts';
import type { TraceParser } from './trace-parser.ts';
import { isVscsiTrace, VscsiParser } from './vscsi.ts';

/** What the records of a format say. */
export interface TraceContents {
  readonly read: boolean;
  readonly flush: boolean;
  readonly fua: boolean;
  readonly discard: boolean;
  readonly writeZeroes: boolean;
  /** The unit in which times are written down. */
  readonly times: 'ns' | '100 ns' | 'us' | 'ms' | 's' | 'none';
  /** The size of the device. */
  readonly size: boolean;
  /** What distinguishes volumes, where a file may hold several. */
  readonly volume: string | undefined;
}

export interface TraceFormatEntry {
  readonly title: string;
  readonly holds: TraceContents;
  /**
   * Requests by which one may be after its place in time; 0 where the file's order is that of
   * issue.
   */
  readonly orderWindow: number;
  /** Whether times count from elsewhere than the beginning of the trace. */
  readonly rebases: boolean;
  /**
   * The line with which another log may begin in the same file. Such logs, and several files, are
   * read side by side, as if they had begun together; without it, times that count from the
   * beginning of a file have no common clock.
   */
  readonly logStart?: string;
  /** Whether the format has several events of a request, of which one is taken. */
  readonly hasActions?: boolean;
  /** Whether a file that begins so is of the format; left out, the parser decides. */
  readonly recognises?: (head: TraceHead) => boolean;
  /**
   * What the first line must have, in addition to what the parser takes, to be of no other format;
   * without it the file may be of this format, and the user has to say so.
   */
  readonly isCertain?: (firstLine: string) => boolean;
  readonly parser: (
    collector: RequestCollector,
    head: Uint8Array,
    /** What the user says of the columns; only for the format `columns`. */
    columns?: ColumnLayout,
  ) => TraceParser;
}

/** Enough for the buffers of all CPUs of a large machine, or for answers that came out of order. */
const ORDER_WINDOW = 16_384;

const READS_AND_WRITES = {
  read: true,
  flush: false,
  fua: false,
  discard: false,
  writeZeroes: false,
  size: false,
} as const;

const EVERYTHING = {
  read: true,
  flush: true,
  fua: true,
  discard: true,
  writeZeroes: true,
  size: true,
} as const;

/** In the order of issue, with times from the beginning of the trace. */
const IN_ORDER = { orderWindow: 0, rebases: false } as const;
/** Nearly in the order of issue, with times from elsewhere. */
const NEARLY_IN_ORDER = { orderWindow: ORDER_WINDOW, rebases: true } as const;

const MISSING_COLUMNS = 'the format columns needs --columns, as in --columns time=1:s,op=2,offset=3,length=4';

const first = ({ lines }: TraceHead): string => lines[0] ?? '';

const TABLE = {
  native: {
    title: "qcow2-bench's own text format",
    holds: { ...EVERYTHING, times: 'ns', volume: undefined },
    ...IN_ORDER,
    recognises: (head) => isNativeTrace(first(head)),
    parser: (collector) => new NativeTraceParser(collector),
  },
  'fio-v2': {
    title: 'fio iolog, version 2',
    holds: { ...READS_AND_WRITES, flush: true, discard: true, times: 'ms', volume: 'file' },
    ...IN_ORDER,
    recognises: (head) => isFioIolog(first(head), 2),
    parser: (collector) => new FioIologParser(collector, 2),
  },
  'fio-v3': {
    title: 'fio iolog, version 3',
    holds: { ...READS_AND_WRITES, flush: true, discard: true, times: 'us', volume: 'file' },
    ...IN_ORDER,
    logStart: FIO_FIRST_LINES[3],
    recognises: (head) => isFioIolog(first(head), 3),
    parser: (collector) => new FioIologParser(collector, 3),
  },
  blktrace: {
    title: 'blktrace, binary, one file a CPU',
    holds: { ...READS_AND_WRITES, flush: true, fua: true, discard: true, times: 'ns', volume: 'device' },
    ...NEARLY_IN_ORDER,
    hasActions: true,
    recognises: ({ bytes }) => isBlktrace(bytes),
    parser: (collector, head) => new BlktraceParser(collector, head),
  },
  blkparse: {
    title: "blkparse's text, and ftrace's blk tracer",
    holds: { ...READS_AND_WRITES, flush: true, fua: true, discard: true, times: 'ns', volume: 'device' },
    ...NEARLY_IN_ORDER,
    hasActions: true,
    parser: (collector) => new BlkparseParser(collector),
  },
  msr: {
    title: 'Microsoft Research Cambridge, CSV',
    holds: { ...READS_AND_WRITES, times: '100 ns', volume: 'host and disk' },
    ...NEARLY_IN_ORDER,
    isCertain: (line) => /^(?:\d{17,19}|Timestamp),/.test(line),
    parser: (collector) => new MsrParser(collector),
  },
  alibaba: {
    title: 'Alibaba Cloud 2020, CSV',
    holds: { ...READS_AND_WRITES, times: 'us', volume: 'device' },
    ...NEARLY_IN_ORDER,
    isCertain: (line) => /(?:,\d{16}|,timestamp)$/.test(line),
    parser: (collector) => new AlibabaParser(collector),
  },
  tencent: {
    title: 'Tencent Cloud Block Storage 2018, CSV',
    holds: { ...READS_AND_WRITES, times: 's', volume: 'volume' },
    ...NEARLY_IN_ORDER,
    isCertain: (line) => /^(?:\d{10}|Timestamp),/.test(line),
    parser: (collector) => new TencentParser(collector),
  },
  systor17: {
    title: "SYSTOR '17 virtual desktops, CSV",
    holds: { ...READS_AND_WRITES, times: 'us', volume: 'LUN' },
    ...NEARLY_IN_ORDER,
    parser: (collector) => new SystorParser(collector),
  },
  fiu: {
    title: 'Florida International University (SRT), text',
    holds: { ...READS_AND_WRITES, times: 'ns', volume: 'device' },
    ...NEARLY_IN_ORDER,
    parser: (collector) => new FiuParser(collector),
  },
  vscsi: {
    title: 'CloudPhysics vscsi, binary, versions 1 and 2',
    holds: { ...READS_AND_WRITES, times: 'us', volume: undefined },
    ...NEARLY_IN_ORDER,
    recognises: ({ bytes }) => isVscsiTrace(bytes),
    parser: (collector, head) => new VscsiParser(collector, head),
  },
  'dm-log-writes': {
    title: "dm-log-writes, and QEMU's blklogwrites",
    holds: {
      ...READS_AND_WRITES,
      read: false,
      flush: true,
      fua: true,
      discard: true,
      times: 'none',
      volume: undefined,
    },
    ...IN_ORDER,
    recognises: ({ bytes }) => isDmLogWrites(bytes),
    parser: (collector) => new DmLogWritesParser(collector),
  },
  ftrace: {
    title: "the kernel's block events as text: ftrace, trace-cmd, perf script",
    holds: { ...READS_AND_WRITES, flush: true, fua: true, discard: true, times: 'us', volume: 'device' },
    ...NEARLY_IN_ORDER,
    hasActions: true,
    parser: (collector) => new FtraceParser(collector),
  },
  biosnoop: {
    title: 'biosnoop of bcc and libbpf-tools',
    holds: { ...READS_AND_WRITES, flush: true, fua: true, discard: true, times: 'us', volume: 'disk' },
    ...NEARLY_IN_ORDER,
    recognises: ({ lines }) => isSnoop('biosnoop', lines),
    parser: (collector, head) => new ColumnsParser(collector, snoopLayout('biosnoop', headOf(head).lines)),
  },
  iosnoop: {
    title: 'iosnoop of perf-tools',
    holds: { ...READS_AND_WRITES, flush: true, fua: true, discard: true, times: 'us', volume: 'device' },
    ...NEARLY_IN_ORDER,
    recognises: ({ lines }) => isSnoop('iosnoop', lines),
    parser: (collector, head) => new ColumnsParser(collector, snoopLayout('iosnoop', headOf(head).lines)),
  },
  etw: {
    title: 'Windows disk events, dumped by xperf',
    holds: { ...READS_AND_WRITES, flush: true, times: 'us', volume: 'disk' },
    ...NEARLY_IN_ORDER,
    recognises: (head) => first(head).trim() === 'BeginHeader',
    parser: (collector) => new EtwParser(collector),
  },
  spc: {
    title: 'UMass trace repository (SPC), CSV',
    holds: { ...READS_AND_WRITES, times: 'us', volume: 'application storage unit' },
    ...NEARLY_IN_ORDER,
    isCertain: (line) => /^\d+,\d+,\d+,[RWrw],\d+\.\d+(?:,|$)/.test(line),
    parser: (collector) => new ColumnsParser(collector, LAYOUTS.spc),
  },
  k5cloud: {
    title: 'Fujitsu K5 cloud, CSV',
    holds: { ...READS_AND_WRITES, times: 'us', volume: 'volume' },
    ...NEARLY_IN_ORDER,
    isCertain: (line) => /^\w+,\d+(?:\.\d+)?,[RW],\d+,\d+$/.test(line),
    parser: (collector) => new ColumnsParser(collector, LAYOUTS.k5cloud),
  },
  disksim: {
    title: "DiskSim's text",
    holds: { ...READS_AND_WRITES, times: 'ms', volume: 'device' },
    ...NEARLY_IN_ORDER,
    isCertain: () => false,
    parser: (collector) => new ColumnsParser(collector, LAYOUTS.disksim),
  },
  mqsim: {
    title: "MQSim's text",
    holds: { ...READS_AND_WRITES, times: 'ns', volume: 'device' },
    ...NEARLY_IN_ORDER,
    isCertain: () => false,
    parser: (collector) => new ColumnsParser(collector, LAYOUTS.mqsim),
  },
  columns: {
    title: 'any text of columns, named by --columns',
    holds: { ...EVERYTHING, size: false, times: 'ns', volume: 'the column' },
    ...NEARLY_IN_ORDER,
    recognises: () => false,
    parser: (collector, _head, columns) => {
      if (columns === undefined) throw new Qcow2BenchError('bad-columns', MISSING_COLUMNS);
      return new ColumnsParser(collector, columns);
    },
  },
  'nbd-server-log': {
    title: "nbd-server's transaction log",
    holds: { ...EVERYTHING, size: false, times: 'none', volume: undefined },
    ...IN_ORDER,
    recognises: ({ bytes }) => isNbdServerLog(bytes),
    parser: (collector) => new NbdServerLogParser(collector),
  },
  'nbdkit-log': {
    title: "nbdkit's log filter",
    holds: { ...EVERYTHING, times: 'us', volume: 'export' },
    ...IN_ORDER,
    parser: (collector) => new NbdkitLogParser(collector),
  },
  'qemu-trace-log': {
    title: "QEMU's trace log of blk_co_*",
    holds: { ...READS_AND_WRITES, fua: true, writeZeroes: true, times: 'us', volume: 'block backend' },
    orderWindow: 0,
    rebases: true,
    parser: (collector) => new QemuTraceLogParser(collector),
  },
  'qemu-simpletrace': {
    title: "QEMU's simple trace backend, binary",
    holds: { ...READS_AND_WRITES, fua: true, writeZeroes: true, times: 'ns', volume: 'block backend' },
    ...NEARLY_IN_ORDER,
    recognises: ({ bytes }) => isQemuSimpletrace(bytes),
    parser: (collector, head) => new QemuSimpletraceParser(collector, head),
  },
} as const satisfies Readonly<Record<string, TraceFormatEntry>>;

export type TraceFormat = keyof typeof TABLE;

export const TRACE_FORMATS = Object.keys(TABLE) as readonly TraceFormat[];

export function traceFormat(format: TraceFormat): TraceFormatEntry {
  return TABLE[format];
}

/**
 * The formats that a file may be of that begins so. More than one, or one that is not certain, is
 * for the user to decide.
 */
export function recogniseTrace(head: TraceHead): {
  readonly formats: readonly TraceFormat[];
  readonly isCertain: boolean;
} {
  const possible = TRACE_FORMATS.filter((format) => {
    const { recognises, parser } = traceFormat(format);
    return recognises === undefined ? parserTakes(parser, head) : recognises(head);
  });
  const certain = possible.filter((format) => traceFormat(format).isCertain?.(first(head)) ?? true);
  return certain.length === 1
    ? { formats: certain, isCertain: true }
    : { formats: possible, isCertain: false };
}
