/** The cells that advice is based on, run for one workload or trace. */

import { modelName } from '../../device/device-model.ts';
import { groupedText } from '../../core/number-text.ts';
import { ADVICE_CELLS } from '../../study/advice.ts';
import { studyTable, type StudyTable } from '../../study/table.ts';
import { findSource, type WorkloadSource } from '../../workload/library.ts';
import { TRANSFER_BYTES_MAX } from '../../workload/split-requests.ts';
import { replaySource, type ReplaySourceArgs } from '../files/replay-source.ts';
import { studyArgs, type StudyCellArgs } from '../options/study-options.ts';
import { traceReading, type TraceArgs } from '../options/trace-options.ts';
import type { Terminal } from '../terminal/terminal.ts';
import { UsageError } from '../terminal/usage-error.ts';
import { runSession } from './matrix-session.ts';

export interface Advised {
  readonly source: WorkloadSource;
  readonly table: StudyTable;
  /** What the figures are of, in sentences. */
  readonly sure: readonly string[];
}

/**
 * `undefined` if it was interrupted.
 *
 * @throws as `runSession` and `replaySource`.
 */
export async function advise(
  {
    workload,
    requests,
    given,
    trace,
    fillReads,
  }: {
    readonly workload: string;
    readonly requests: number;
    readonly given: StudyCellArgs;
    readonly trace: TraceArgs;
    readonly fillReads: ReplaySourceArgs['fill-reads'];
  },
  terminal: Terminal,
): Promise<Advised | undefined> {
  refuseOtherDevices(given.device);
  const found = await findSource(workload, { ...traceReading(trace), limit: requests });
  if (found.kind !== 'recording' && fillReads === 'on') {
    throw new UsageError(`--fill-reads on: ${workload} is no trace`);
  }
  const replay =
    found.kind === 'recording'
      ? await replaySource({ ...replayArgs(workload, requests, trace), 'fill-reads': fillReads })
      : undefined;
  const source = replay?.source ?? found;
  const args = studyArgs(ADVICE_CELLS, { ...given, requests }, workload);
  const ended = await runSession(
    {
      args,
      sources: [source],
      words: terminal.argv,
      watchesGrowth: true,
      remarksOf: replay?.remarksOf,
    },
    terminal,
  );
  if (ended.kind === 'interrupted') return undefined;
  const table = studyTable(ended.result);
  const [first] = table.rows;
  const guest = first?.records.find(({ counts }) => counts !== null)?.counts?.guest;
  const served =
    guest === undefined ? 0 : guest.reads + guest.writes + guest.flushes + guest.discards + guest.writeZeroes;
  const remarks = new Set(table.rows.flatMap(({ records }) => records.flatMap(({ fallbacks }) => fallbacks)));
  return {
    source,
    table,
    sure: [
      `Syncs, bytes and space are exact counts of ${groupedText(served)} requests.`,
      'Times are of device models; what differs by less than 5 % counts as equal, and the plainer setting is taken.',
      ...[...remarks].map((remark) => `${remark.charAt(0).toUpperCase()}${remark.slice(1)}.`),
    ],
  };
}

/** Settings are ordered by exact times. */
function refuseOtherDevices(given: unknown): void {
  const devices: readonly unknown[] = Array.isArray(given) ? given : [];
  const names = devices.filter((device) => typeof device === 'string');
  const other = names.find((device) => modelName(device) === undefined);
  if (other === undefined) return;
  throw new UsageError(`--device ${other}: advice needs modelled devices, model:NAME (see list)`);
}

/** A replay as fast as possible, of the trace as it is. */
function replayArgs(trace: string, requests: number, args: TraceArgs): Omit<ReplaySourceArgs, 'fill-reads'> {
  return {
    ...args,
    trace,
    requests,
    image: undefined,
    timing: undefined,
    'flush-policy': undefined,
    remap: undefined,
    'max-transfer': TRANSFER_BYTES_MAX,
    verify: false,
  };
}
