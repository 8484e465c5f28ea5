/** The options that say how a trace is replayed. */

import type { InferredOptionTypes } from 'yargs';

import { formatSize } from '../../core/size.ts';
import { SECTOR_SIZE } from '../../workload/request.ts';
import { TRANSFER_BYTES_MAX } from '../../workload/split-requests.ts';
import { parseFlushPolicy, type FlushPolicy } from '../../workload/flush-policy.ts';
import { REMAPS } from '../../workload/remap.ts';
import { parseReplayTiming, type ReplayTiming } from '../../workload/replay-timing.ts';
import { flag, inGroup, optional, preset } from './option-kinds.ts';
import { choice, size, suggesting } from './option-values.ts';
import { badOption } from '../terminal/usage-error.ts';

export const REPLAY_OPTIONS = inGroup('Replay:', {
  timing: preset(
    'When to issue requests: asap, recorded (at the recorded times), scale=4 (4 times as fast)',
    suggesting(['asap', 'recorded', 'scale=4'], timing),
    'asap',
  ),
  'flush-policy': optional(
    'Flushes to add: every=N writes, interval=MS of trace time, none',
    suggesting(['none', 'every=32', 'interval=100'], flushPolicy),
  ),
  remap: optional(
    'With --size: how to fit a trace of another device: wrap, scale, grow',
    choice('remap', REMAPS),
  ),
  'max-transfer': preset(
    `Split reads and writes that are longer; at most ${formatSize(TRANSFER_BYTES_MAX)}`,
    transferBytes,
    formatSize(TRANSFER_BYTES_MAX),
  ),
  'fill-reads': preset(
    'Write before the run, in a new image, what the trace reads before it writes: on, off, auto (on for traces of other formats than native)',
    choice('fill-reads', ['auto', 'on', 'off'] as const),
    'auto',
  ),
  verify: flag('Check that reads return what was written before'),
});

export type ReplayArgs = InferredOptionTypes<typeof REPLAY_OPTIONS>;

function transferBytes(given: string): number {
  const bytes = size('max-transfer')(given);
  if (bytes > 0 && bytes <= TRANSFER_BYTES_MAX && bytes % SECTOR_SIZE === 0) return bytes;
  const range = `multiples of ${formatSize(SECTOR_SIZE)} up to ${formatSize(TRANSFER_BYTES_MAX)}`;
  throw badOption('max-transfer', given, range);
}

function timing(given: string): ReplayTiming | undefined {
  const read = parseReplayTiming(given.trim());
  if (read !== undefined) return read === 'asap' ? undefined : read;
  throw badOption('timing', given, 'asap, recorded or scale=N with N from 0.001 to 1000000');
}

function flushPolicy(given: string): FlushPolicy {
  const policy = parseFlushPolicy(given.trim());
  if (policy !== undefined) return policy;
  throw badOption('flush-policy', given, 'none, every=N or interval=MS, both whole numbers of at least 1');
}
