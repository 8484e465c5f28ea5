/** The options that say which trace is read and how: the same wherever a command takes a trace. */

import type { InferredOptionTypes } from 'yargs';

import { Qcow2BenchError } from '../../core/error.ts';
import { formatSize } from '../../core/size.ts';
import type { OpenTraceOptions } from '../../workload/trace/trace-reader.ts';
import { parseColumns, type ColumnLayout } from '../../workload/trace/column-layout.ts';
import { BLOCK_ACTIONS } from '../../workload/trace/block-action.ts';
import { SECTOR_SIZE } from '../../workload/request.ts';
import { TRACE_FORMATS } from '../../workload/trace/trace-formats.ts';
import { flag, inGroup, optional, preset } from './option-kinds.ts';
import { choice, size, text } from './option-values.ts';
import { badOption, UsageError } from '../terminal/usage-error.ts';

export const TRACE_OPTIONS = inGroup('Trace:', {
  'trace-format': optional(
    `Trace format; default: detected from the content (${TRACE_FORMATS.join(', ')})`,
    choice('trace-format', TRACE_FORMATS),
  ),
  columns: optional(
    'Columns of a text, as time=1:s,op=2,offset=3:sectors,length=4 (numbers, -1 for the last, or names of the first line; volume=, only=COLUMN:WORD, separator=tab|comma|semicolon|blanks)',
    columns,
  ),
  action: preset(
    `Event of a request to take from blktrace, blkparse and ftrace: ${BLOCK_ACTIONS.join(', ')}, or auto (the first of these that the trace has)`,
    choice('action', ['auto', ...BLOCK_ACTIONS] as const),
    'auto',
  ),
  align: optional(
    'Widen requests to multiples of this size (512, 4096), and count them; default: unaligned requests are invalid lines',
    choice('align', ['512', '4096'] as const),
  ),
  volume: optional('Volume to read from a trace with several', text('volume')),
  size: optional(
    "Size of the device; default: as recorded, or the trace's footprint rounded up to MiB",
    deviceSize('size'),
  ),
  'skip-bad': flag('Skip invalid lines and report how many, instead of failing'),
  recover: flag('Read a truncated trace up to its last complete line or record'),
});

export type TraceArgs = InferredOptionTypes<typeof TRACE_OPTIONS>;

/** The positional argument that goes with the options. */
export const TRACE_ARGUMENT = {
  type: 'string',
  demandOption: true,
  describe:
    'Trace file (plain, .gz or .zst), a directory of files of one trace, the blktrace name before .blktrace.0, or a bundled recording',
} as const;

export function traceReading(args: TraceArgs): OpenTraceOptions {
  const { 'trace-format': format, action, align, columns, volume, size, 'skip-bad': skipBad, recover } = args;
  if (columns !== undefined && format !== undefined && format !== 'columns') {
    throw new UsageError(`--columns is the format columns: omit --trace-format ${format}`);
  }
  if (columns === undefined && format === 'columns') {
    throw new UsageError(
      '--trace-format columns needs --columns, as in --columns time=1:s,op=2,offset=3,length=4',
    );
  }
  return {
    format,
    columns,
    action: action === 'auto' ? undefined : action,
    align: align === undefined ? undefined : Number(align),
    volume,
    size,
    skipBad,
    recover,
  };
}

function columns(given: string): ColumnLayout {
  try {
    return parseColumns(given);
  } catch (error) {
    if (error instanceof Qcow2BenchError) throw new UsageError(error.message);
    throw error;
  }
}

function deviceSize(option: string): (given: string) => number {
  const read = size(option);
  return (given) => {
    const bytes = read(given);
    if (bytes > 0 && bytes % SECTOR_SIZE === 0) return bytes;
    throw badOption(option, given, `multiples of ${formatSize(SECTOR_SIZE)} above 0`);
  };
}
