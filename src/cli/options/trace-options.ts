/** The options that say which trace is read and how: the same wherever a command takes a trace. */

import type { InferredOptionTypes } from 'yargs';

import { formatSize } from '../../core/size.ts';
import type { OpenTraceOptions } from '../../workload/trace/trace-reader.ts';
import { BLOCK_ACTIONS } from '../../workload/trace/block-action.ts';
import { SECTOR_SIZE } from '../../workload/request.ts';
import { TRACE_FORMATS } from '../../workload/trace/trace-formats.ts';
import { flag, inGroup, optional, preset } from './option-kinds.ts';
import { choice, size, text } from './option-values.ts';
import { badOption } from '../terminal/usage-error.ts';

export const TRACE_OPTIONS = inGroup('Trace:', {
  'trace-format': optional(
    `Trace format; default: detected from the content (${TRACE_FORMATS.join(', ')})`,
    choice('trace-format', TRACE_FORMATS),
  ),
  action: preset(
    `Event of a request to take from blktrace and blkparse: ${BLOCK_ACTIONS.join(', ')}, or auto (the first of these that the trace has)`,
    choice('action', ['auto', ...BLOCK_ACTIONS] as const),
    'auto',
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
  describe: 'Trace file (plain, .gz or .zst), the blktrace name before .blktrace.0, or a bundled recording',
} as const;

export function traceReading(args: TraceArgs): OpenTraceOptions {
  const { 'trace-format': format, action, volume, size, 'skip-bad': skipBad, recover } = args;
  return { format, action: action === 'auto' ? undefined : action, volume, size, skipBad, recover };
}

function deviceSize(option: string): (given: string) => number {
  const read = size(option);
  return (given) => {
    const bytes = read(given);
    if (bytes > 0 && bytes % SECTOR_SIZE === 0) return bytes;
    throw badOption(option, given, `multiples of ${formatSize(SECTOR_SIZE)} above 0`);
  };
}
