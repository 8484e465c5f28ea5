/** Explores the log of another program, from options to exit code. */

import { basename } from 'node:path';

import { Qcow2BenchError } from '../../core/error.ts';
import { countOf } from '../../core/number-text.ts';
import { readBaseImage } from '../../crash/base-image.ts';
import { BUILTIN_ENGINE } from '../../crash/explore-cell.ts';
import { exploreLog, type LogExample } from '../../crash/explore-log.ts';
import { readCrashAcks, type CrashAcks } from '../../crash/log-acks.ts';
import { logCaseOf } from '../../crash/log-case.ts';
import { SEEN_PROMISES, type SeenPromise } from '../../crash/log-run.ts';
import type { Subject } from '../../crash/recording.ts';
import { checkDirectory } from '../../device/output-directory.ts';
import { readWriteLog, type LogEntry, type WriteLog } from '../../crash/write-log.ts';
import { FORMATS, PLAIN_FORMAT, type Format } from '../../core/format-name.ts';
import { DEFAULT_QEMU_PROFILE } from '../../format/qemu-profile.ts';
import { HOST_FILES, hostImage } from '../../image/host-image.ts';
import { canonicalCell } from '../../result/cell.ts';
import type { Cell } from '../../result/schema.ts';
import { crashJson, crashText } from '../terminal/crash-text.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { Interruption } from '../terminal/interruption.ts';
import { ProgressBar } from '../terminal/progress-bar.ts';
import type { Terminal } from '../terminal/terminal.ts';
import { UsageError } from '../terminal/usage-error.ts';
import { PROCESS_CLOCK } from './clock.ts';
import { saveExample } from './saved-example.ts';
import { cellOptions, qemuDirectory, type CrashArgs } from './crash-cells.ts';

export interface LogArgs extends CrashArgs {
  readonly log: string | undefined;
  readonly base: string | undefined;
  readonly acks: string;
  readonly 'all-entries': boolean;
}

/** Explores the log and prints what was found. */
export async function logSession(args: LogArgs, terminal: Terminal): Promise<number> {
  const { log: logPath, base: basePath, acks } = args;
  const format = formatOf(args);
  refuseOptionsOfCells(args);
  if (logPath === undefined || basePath === undefined) {
    throw new UsageError('--log and --base go together: the log, and the image before it');
  }
  const known = isSeen(acks) ? undefined : readAcks(acks, format);
  if (args.examples !== undefined) checkDirectory(args.examples);
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
  using bar = new ProgressBar(terminal.errors);
  using interruption = new Interruption(terminal, () => bar.clear());
  const startNs = PROCESS_CLOCK.nowNs();
  using directory = qemuDirectory(args);
  const { states } = args;
  const { recording, ...found } = await exploreLog(
    { image, entries: log.entries, promised: known ?? (acks as SeenPromise) },
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
  const cell = logCell(recording.subject, basename(logPath));
  const saved =
    args.examples === undefined ? [] : saveExamples(found.examples, args.examples, { logPath, terminal });
  const examples = found.examples.map(({ what, isHazard, timeline }) => ({
    what,
    isHazard,
    file: { what, timeline },
  }));
  const answer = {
    cells: [{ cell, steps: [], ...found, examples }],
    prices: [],
    saved,
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
    'queue-depth': args['queue-depth'].join() !== '1',
    minutes: args.minutes !== undefined,
    jobs: args.jobs > 1,
    engine: args.engine !== BUILTIN_ENGINE,
    'keep-logs': args['keep-logs'] !== undefined,
    faults: args.faults,
    resume: args.resume !== undefined,
  };
  for (const [option, isGiven] of Object.entries(given)) {
    if (isGiven) throw new UsageError(`--${option} is for runs of workloads: leave it out with --log`);
  }
}

function isSeen(acks: string): acks is SeenPromise {
  return SEEN_PROMISES.some((each) => each === acks);
}

/** A new size of a raw disk is a truncate of its file, which is in no log. */
function readAcks(path: string, format: Format): CrashAcks {
  const acks = readCrashAcks(path);
  const index = acks.requests.findIndex(({ op }) => op === 'resize');
  if (format !== PLAIN_FORMAT || index < 0) return acks;
  throw new Qcow2BenchError(
    'resize-not-in-log',
    `request ${String(index)} gives a raw disk a new size, which is not in a log: explore the part before it`,
    { path },
  );
}

/** Each as a new file; one that is too large is left out, with a warning. */
function saveExamples(
  examples: readonly LogExample[],
  directory: string,
  { logPath, terminal }: { readonly logPath: string; readonly terminal: Terminal },
): readonly string[] {
  const log = basename(logPath);
  return examples.flatMap(({ run, ...example }) => {
    try {
      return [saveExample(logCaseOf(run, { ...example, log }), directory)];
    } catch (error) {
      if (!(error instanceof Qcow2BenchError) || error.code !== 'crash-case-too-large') throw error;
      terminal.warn(`the example of ${example.what} is not saved: ${error.message}`);
      return [];
    }
  });
}

/** As results name it. */
export function logCell({ format, refcounts, cache, clusterSize }: Subject, log: string): Cell {
  return canonicalCell({
    engine: 'log',
    workload: log,
    format,
    refcounts: refcounts ?? null,
    cache,
    clusterSize,
    queueDepth: 1,
    device: 'file',
    like: DEFAULT_QEMU_PROFILE,
  });
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
  const what = isSeen(acks) ? promised[acks] : `promised is what ${acks} says`;
  return [`${countOf(read, 'entry', 'entries')} of the log${more}; ${what}`];
}
