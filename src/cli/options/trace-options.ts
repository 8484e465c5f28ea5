/** The options that say which trace is read and how: the same wherever a command takes a trace. */

import type { InferredOptionTypes } from 'yargs';

import { formatSize } from '../../core/size.ts';
import type { OpenTraceOptions } from '../../workload/trace/trace-reader.ts';
import { SECTOR_SIZE } from '../../workload/request.ts';
import { TRACE_FORMATS } from '../../workload/trace/trace-formats.ts';
import { flag, inGroup, optional } from './option-kinds.ts';
import { choice, size, text } from './option-values.ts';
import { badOption } from '../terminal/usage-error.ts';

export const TRACE_OPTIONS = inGroup('Trace:', {
  'trace-format': optional(
    `Default: told from the content (${TRACE_FORMATS.join(', ')})`,
    choice('trace-format', TRACE_FORMATS),
  ),
  volume: optional('Which device to read, of a trace of several', text('volume')),
  size: optional(
    'Size of the device; default: what the trace says, or its footprint up to whole MiB',
    deviceSize('size'),
  ),
  'skip-bad': flag('Leave out what breaks a rule, and say how much, instead of stopping'),
  recover: flag('Read a trace that was cut short up to its last whole line or record'),
});

export type TraceArgs = InferredOptionTypes<typeof TRACE_OPTIONS>;

/** The positional argument that goes with the options. */
export const TRACE_ARGUMENT = {
  type: 'string',
  demandOption: true,
  describe:
    'A trace file, plain, .gz or .zst; of blktrace, the name before .blktrace.0; or the name of a recording that ships',
} as const;

export function traceReading(args: TraceArgs): OpenTraceOptions {
  const { 'trace-format': format, volume, size, 'skip-bad': skipBad, recover } = args;
  return { format, volume, size, skipBad, recover };
}

function deviceSize(option: string): (given: string) => number {
  const read = size(option);
  return (given) => {
    const bytes = read(given);
    if (bytes > 0 && bytes % SECTOR_SIZE === 0) return bytes;
    throw badOption(option, given, `multiples of ${formatSize(SECTOR_SIZE)} above 0`);
  };
}
