/** Explores the cells that the options select, from options to exit code. */

import { dirname } from 'node:path';

import { existsSync } from '../../core/host-fs.ts';
import { countOf } from '../../core/number-text.ts';
import { crashesOfCase, planOfCase, refuseCase, type CrashCase } from '../../crash/crash-case.ts';
import {
  cellKey,
  type CellIdentity,
  progressText,
  readProgress,
  storedCell,
  type CellFigures,
  type KnownCell,
} from '../../crash/crash-progress.ts';
import { BUILTIN_ENGINE, recordPlan } from '../../crash/explore-cell.ts';
import { lazyPrice, refcountPairs, type LazyPrice } from '../../crash/price.ts';
import { FaultInjector, faultText, type Fault } from '../../crash/faults.ts';
import { LOG_CASE_SCHEMA, readCase, runOfLogCase, type LogCase } from '../../crash/log-case.ts';
import { recordingOfRun } from '../../crash/log-run.ts';
import type { Recording } from '../../crash/recording.ts';
import { judgeAgain } from '../../crash/shrink.ts';
import { timelineOf } from '../../crash/timeline.ts';
import { checkDirectory } from '../../device/output-directory.ts';
import { replaceFile } from '../../result/atomic-file.ts';
import { cellName } from '../../result/cell.ts';
import type { Cell } from '../../result/schema.ts';
import { crashCellName, crashJson, crashText, type ExploredCell } from '../terminal/crash-text.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { Interrupted, Interruption } from '../terminal/interruption.ts';
import { SourceDigests } from '../../bench/request-digest.ts';
import { ProgressBar } from '../terminal/progress-bar.ts';
import type { Terminal } from '../terminal/terminal.ts';
import { PROCESS_CLOCK } from './clock.ts';
import {
  optionsText,
  planCrashCells,
  unsupportedCell,
  type CrashArgs,
  type CrashCell,
} from './crash-cells.ts';
import { CrashThread } from './crash-threads.ts';
import { exploreCrashCell } from './explore-crash-cell.ts';
import { logCell } from './log-session.ts';
import { loggedQemu } from './logged-engine.ts';
import { saveExample } from './saved-example.ts';
import { UsageError } from '../terminal/usage-error.ts';

const NS_PER_MINUTE = 60e9;

/** Explores every cell and prints what was found. */
export async function crashSession(args: CrashArgs, terminal: Terminal): Promise<number> {
  if (args.faults && args.engine !== BUILTIN_ENGINE) {
    throw new UsageError('--faults is for the builtin engine: leave out --engine');
  }
  if (args['keep-logs'] !== undefined && args.engine === BUILTIN_ENGINE) {
    throw new UsageError('--keep-logs applies only to the engine qemu: add --engine qemu');
  }
  if (args['qemu-bin-dir'] !== undefined && args.engine === BUILTIN_ENGINE) {
    throw new UsageError('--qemu-bin-dir applies only to the engine qemu: add --engine qemu');
  }
  const planned = await planCrashCells(args);
  if (args.examples !== undefined) checkDirectory(args.examples);
  if (args['keep-logs'] !== undefined) checkDirectory(args['keep-logs']);
  if (args.resume !== undefined) checkDirectory(dirname(args.resume));
  using bar = new ProgressBar(terminal.errors);
  using interruption = new Interruption(terminal, () => bar.clear());
  const startNs = PROCESS_CLOCK.nowNs();
  const search = new CrashSearch(planned, args, { bar, interruption });
  let isInterrupted = false;
  try {
    await search.run();
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
    isInterrupted = true;
  }
  bar.clear();
  const cells = search.explored();
  const prices = isInterrupted ? [] : await pricesOf(planned, args);
  const saved = args.examples === undefined ? [] : savedExamples(cells, args.examples);
  const answer = {
    cells,
    prices,
    saved,
    seed: args.seed,
    elapsedSeconds: Number(PROCESS_CLOCK.nowNs() - startNs) / 1e9,
  };
  terminal.print(args.json ? JSON.stringify(crashJson(answer), null, 2) : crashText(answer, terminal));
  if (isInterrupted) {
    const goOn = args.resume === undefined ? '' : '; the same command goes on from there';
    terminal.warn(
      `interrupted: ${String(cells.length)} of ${countOf(planned.length, 'cell')} explored${goOn}`,
    );
    return EXIT.interrupted;
  }
  return cells.some((cell) => isViolated(cell)) ? EXIT.verdict : EXIT.good;
}

/** The cells in their order, as many at once as there are jobs. */
class CrashSearch {
  readonly #planned: readonly CrashCell[];
  readonly #args: CrashArgs;
  readonly #bar: ProgressBar;
  readonly #interruption: Interruption;
  readonly #startNs = PROCESS_CLOCK.nowNs();
  readonly #cells: (ExploredCell | undefined)[] = [];
  /** Share of each cell that is done. */
  readonly #shares: number[] = [];
  readonly #shown = new Set<string>();
  readonly #progress: Progress | undefined;
  #next = 0;

  constructor(
    planned: readonly CrashCell[],
    args: CrashArgs,
    { bar, interruption }: { readonly bar: ProgressBar; readonly interruption: Interruption },
  ) {
    this.#planned = planned;
    this.#args = args;
    this.#bar = bar;
    this.#interruption = interruption;
    this.#progress = args.resume === undefined ? undefined : new Progress(args.resume, args);
  }

  async run(): Promise<void> {
    const jobs = Math.min(this.#args.jobs, this.#planned.length);
    // An error in one thread ends the others.
    using threads = new DisposableStack();
    await Promise.all(
      Array.from({ length: jobs }, () =>
        this.#work(jobs > 1 ? threads.use(new CrashThread(this.#args)) : undefined),
      ),
    );
  }

  /** What is explored so far; each hazard has its example in the first cell that shows it. */
  explored(): readonly ExploredCell[] {
    const shown = new Set<string>();
    return this.#cells
      .filter((cell) => cell !== undefined)
      .map((cell) => {
        const { examples } = cell;
        if (examples === undefined) return cell;
        const kept = examples.filter(({ what, isHazard }) => !isHazard || !shown.has(what));
        for (const { what } of kept) shown.add(what);
        return { ...cell, examples: kept };
      });
  }

  async #work(thread: CrashThread | undefined): Promise<void> {
    for (let index = this.#next++; index < this.#planned.length; index = this.#next++) {
      const each = this.#planned[index] as CrashCell;
      const { plan, steps } = each;
      const { cell } = plan;
      const skipped =
        unsupportedCell(each) ?? (this.#hasTime() ? undefined : 'the time given by --minutes is over');
      this.#cells[index] =
        skipped === undefined
          ? { cell, steps, ...(await this.#explore(index, each, thread)) }
          : { cell, steps, skipped };
      this.#shares[index] = 1;
    }
  }

  async #explore(
    index: number,
    { plan, steps }: CrashCell,
    thread: CrashThread | undefined,
  ): Promise<CellFigures> {
    const known = await this.#progress?.find({ plan, steps });
    if (known !== undefined) {
      this.#note(known);
      return known;
    }
    const { signal } = this.#interruption;
    const name = crashCellName({ cell: plan.cell, steps });
    const onTried = (tried: number): void => {
      this.#shares[index] = tried / this.#args.states;
      const done = this.#shares.reduce((sum, share) => sum + share, 0);
      if (!signal.aborted) this.#bar.show(name, done / this.#planned.length);
    };
    const turn = (tried: number): ReturnType<Interruption['turn']> => {
      onTried(tried);
      return this.#interruption.turn();
    };
    const shown = new Set(this.#shown);
    const options = { turn, shown, signal };
    const findings = await (thread === undefined
      ? exploreCrashCell({ plan, steps }, this.#args, options)
      : thread.explore({ index, shown }, { onTried, signal }));
    this.#note(findings);
    await this.#progress?.add({ plan, steps }, findings);
    return findings;
  }

  #note({ examples }: CellFigures): void {
    for (const { what } of examples) this.#shown.add(what);
  }

  #hasTime(): boolean {
    const { minutes } = this.#args;
    return minutes === undefined || Number(PROCESS_CLOCK.nowNs() - this.#startNs) < minutes * NS_PER_MINUTE;
  }
}

/** Of cells that differ in their refcounts alone; a suite is about what is kept. */
async function pricesOf(planned: readonly CrashCell[], args: CrashArgs): Promise<readonly LazyPrice[]> {
  if (args.suite !== undefined) return [];
  const plans = planned
    .filter((each) => each.steps.length === 0 && unsupportedCell(each) === undefined)
    .map(({ plan }) => plan)
    .filter(({ cell }) => cell.engine === BUILTIN_ENGINE);
  const prices: LazyPrice[] = [];
  for (const pair of refcountPairs(plans)) {
    const price = await lazyPrice(pair, args.requests);
    if (price !== undefined) prices.push(price);
  }
  return prices;
}

/** The file of `--resume`: replaced as a whole after each cell, so it is whole after any end. */
class Progress {
  readonly #path: string;
  readonly #options: string;
  readonly #known: ReadonlyMap<string, KnownCell>;
  readonly #cells: KnownCell['stored'][];
  /** A workload's file may have been changed since. */
  readonly #digests: SourceDigests;

  constructor(path: string, args: CrashArgs) {
    this.#path = path;
    this.#options = optionsText(args);
    this.#digests = new SourceDigests(args.requests);
    this.#known = existsSync(path) ? readProgress(path, this.#options) : new Map();
    this.#cells = Array.from(this.#known.values(), ({ stored }) => stored);
  }

  async find(each: CrashCell): Promise<CellFigures | undefined> {
    return this.#known.get(cellKey(await this.#identity(each)))?.figures;
  }

  async add(each: CrashCell, figures: CellFigures): Promise<void> {
    this.#cells.push(storedCell(await this.#identity(each), figures));
    replaceFile(this.#path, progressText(this.#options, this.#cells), { durable: false });
  }

  async #identity({ plan, steps }: CrashCell): Promise<CellIdentity> {
    return { cell: plan.cell, steps, requests: await this.#digests.of(plan.source, plan.seed) };
  }
}

function savedExamples(cells: readonly ExploredCell[], directory: string): readonly string[] {
  return cells.flatMap(({ examples = [] }) => examples.map(({ file }) => saveExample(file, directory)));
}

/** Runs the case of a file again. */
export async function reproduceCase(
  path: string,
  { json, 'qemu-bin-dir': binDirectory }: Pick<CrashArgs, 'json' | 'qemu-bin-dir'>,
  terminal: Terminal,
): Promise<number> {
  const file = readCase(path);
  const { cell, recording, fault } = await runAgain(file, path, binDirectory);
  const { state, hazards, surveyor } = await judgeAgain(recording, crashesOfCase(file), (crash, pending) =>
    refuseCase(file, { crash, pending, path }),
  );
  const isViolation = hazards === undefined;
  const timeline = [
    ...(fault === undefined ? [] : [faultText(fault)]),
    ...(await timelineOf(state, surveyor)),
  ];
  const isFound = state.findings.length > 0;
  if (json) terminal.print(JSON.stringify({ what: file.what, isFound, isViolation, timeline }, null, 2));
  else {
    const answer = isFound
      ? terminal.paint.yellow(`reproduced: ${file.what}`)
      : terminal.paint.green(`no longer found: ${file.what}`);
    terminal.print([cellName(cell), ...timeline.map((line) => `  ${line}`), answer].join('\n'));
  }
  return isFound ? EXIT.verdict : EXIT.good;
}

/** What an example recorded: the requests are served again, or it is all in the file. */
async function runAgain(
  file: CrashCase | LogCase,
  path: string,
  binDirectory: string | undefined,
): Promise<{ readonly cell: Cell; readonly recording: Recording; readonly fault?: Fault | undefined }> {
  if (file.schema === LOG_CASE_SCHEMA) {
    const recording = await recordingOfRun(await runOfLogCase(file, path));
    return { cell: logCell(recording.subject, file.log), recording };
  }
  const { cell, requests, fault } = file;
  const inject = fault === undefined ? undefined : new FaultInjector(fault);
  using qemu = cell.engine === BUILTIN_ENGINE ? undefined : await loggedQemu({ binDirectory });
  const recording = await recordPlan(planOfCase(file, path), { requests, inject, foreign: qemu?.engine });
  return { cell, recording, fault };
}

function isViolated({ cell, exploration, faults }: ExploredCell): boolean {
  // A mode without syncs promises nothing.
  if (cell.cache === 'unsafe' || exploration === undefined) return false;
  return exploration.badStates + (faults?.violations ?? 0) > 0;
}
