/** Explores the log of another program, from options to exit code. */

import { basename } from 'node:path';

import { Qcow2BenchError } from '../../core/error.ts';
import { countOf } from '../../core/number-text.ts';
import { readBaseImage } from '../../crash/base-image.ts';
import { BUILTIN_ENGINE, exploreRecording } from '../../crash/explore-cell.ts';
import { readCrashAcks } from '../../crash/log-acks.ts';
import { recordingOfLog, type Acknowledgements } from '../../crash/log-recording.ts';
import { readWriteLog, type LogEntry, type WriteLog } from '../../crash/write-log.ts';
import { FORMATS, type Format } from '../../format/disk-image.ts';
import { DEFAULT_QEMU_PROFILE } from '../../format/qemu-profile.ts';
import { HOST_FILES, hostImage } from '../../image/host-image.ts';
import { canonicalCell } from '../../result/cell.ts';
import { crashJson, crashText } from '../terminal/crash-text.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { Interruption } from '../terminal/interruption.ts';
import { ProgressBar } from '../terminal/progress-bar.ts';
import type { Terminal } from '../terminal/terminal.ts';
import { UsageError } from '../terminal/usage-error.ts';
import { PROCESS_CLOCK } from './clock.ts';
import { cellOptions, qemuDirectory, type CrashArgs } from './crash-cells.ts';

export interface LogArgs extends CrashArgs {
  readonly log: string | undefined;
  readonly base: string | undefined;
  readonly acks: string;
  readonly 'all-entries': boolean;
}

/** Values of `--acks` that are no file. */
export const LOGGED_ACKS = ['flushes', 'marks'] as const;
type LoggedAcks = (typeof LOGGED_ACKS)[number];

/** Explores the log and prints what was found. */
export async function logSession(args: LogArgs, terminal: Terminal): Promise<number> {
  const { log: logPath, base: basePath, acks } = args;
  const format = formatOf(args);
  refuseOptionsOfCells(args);
  if (logPath === undefined || basePath === undefined) {
    throw new UsageError('--log and --base go together: the log, and the image before it');
  }
  const known = isLoggedAcks(acks) ? undefined : readCrashAcks(acks);
  const log = await readLog(logPath, args['all-entries']);
  if (acks === 'marks' && !log.entries.some(({ kind }) => kind === 'mark')) {
    throw new Qcow2BenchError(
      'log-has-no-marks',
      'the log has no marks: use --acks flushes, or a file of the requests',
      { path: logPath },
    );
  }
  const image = await readBaseImage({
    name: basePath,
    format,
    cache: known?.cache ?? 'writeback',
    files: HOST_FILES,
  });
  const acknowledgements: Acknowledgements = isLoggedAcks(acks)
    ? { from: acks }
    : { from: 'requests', requests: known?.requests ?? [] };
  using bar = new ProgressBar(terminal.errors);
  using interruption = new Interruption(terminal, () => bar.clear());
  const startNs = PROCESS_CLOCK.nowNs();
  const recording = await recordingOfLog(image, log.entries, acknowledgements);
  using directory = qemuDirectory(args);
  const { states } = args;
  const found = await exploreRecording(
    recording,
    {
      ...cellOptions(args),
      qemu: directory?.qemu,
      turn: (tried) => {
        bar.show(basename(logPath), tried / states);
        return interruption.turn();
      },
    },
    () => PROCESS_CLOCK.nowNs(),
  );
  bar.clear();
  const { subject } = recording;
  const cell = canonicalCell({
    engine: 'log',
    workload: basename(logPath),
    format,
    refcounts: subject.refcounts ?? null,
    cache: subject.cache,
    clusterSize: subject.clusterSize,
    queueDepth: 1,
    device: 'file',
    like: DEFAULT_QEMU_PROFILE,
  });
  const answer = {
    cells: [{ cell, steps: [], ...found }],
    prices: [],
    saved: [],
    seed: args.seed,
    elapsedSeconds: Number(PROCESS_CLOCK.nowNs() - startNs) / 1e9,
  };
  if (args.json) terminal.print(JSON.stringify(crashJson(answer), null, 2));
  else terminal.print([...logLines(log, args), crashText(answer, terminal)].join('\n'));
  return found.exploration.badStates > 0 ? EXIT.verdict : EXIT.good;
}

/** Options that say what is run: a log was made already. */
function refuseOptionsOfCells(args: LogArgs): void {
  const given: Readonly<Record<string, boolean>> = {
    workload: args.workload !== undefined,
    suite: args.suite !== undefined,
    steps: args.steps !== undefined,
    refcounts: args.refcounts !== undefined,
    'cluster-size': args['cluster-size'] !== undefined,
    'backing-depth': args['backing-depth'] !== undefined,
    engine: args.engine !== BUILTIN_ENGINE,
    'keep-logs': args['keep-logs'] !== undefined,
    faults: args.faults,
    examples: args.examples !== undefined,
    resume: args.resume !== undefined,
  };
  for (const [option, isGiven] of Object.entries(given)) {
    if (isGiven) throw new UsageError(`--${option} is for runs of workloads: leave it out with --log`);
  }
}

function isLoggedAcks(acks: string): acks is LoggedAcks {
  return LOGGED_ACKS.some((each) => each === acks);
}

function formatOf({ format }: LogArgs): Format {
  const [only, ...others] = format ?? [];
  if (only !== undefined && others.length === 0) return only;
  throw new UsageError(`--log needs one --format: ${FORMATS.join(', ')}`);
}

async function readLog(path: string, isWhole: boolean): Promise<WriteLog> {
  const { storage, name } = hostImage(path);
  const device = storage.open(name, { label: 'log', readOnly: true });
  try {
    return await readWriteLog(device, { isWhole });
  } finally {
    await device.close();
  }
}

/** What of the log was read, and what it says of the guest. */
function logLines({ entries, read, counted }: WriteLog, { acks }: LogArgs): readonly string[] {
  const number = (wanted: LogEntry['kind']): number => entries.filter(({ kind }) => kind === wanted).length;
  const more =
    read > counted ? `, ${countOf(read - counted, 'of them')} behind those that its head counts` : '';
  const promised = {
    flushes: `promised is what the image holds at each of ${countOf(number('flush'), 'flush', 'flushes')}`,
    marks: `promised is what the image holds at each of ${countOf(number('mark'), 'mark')}`,
  };
  const what = isLoggedAcks(acks) ? promised[acks] : `promised is what ${acks} says`;
  return [`${countOf(read, 'entry', 'entries')} of the log${more}; ${what}`];
}
