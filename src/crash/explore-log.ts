/** A log explored, and each kind of finding shortened to an example. */

import { Qcow2BenchError } from '../core/error.ts';
import type { Crashes } from './crashes.ts';
import { exploreTimed, targetsOf, type CellFindings, type TimedOptions } from './explore-cell.ts';
import { Surveyor, type BadState } from './explore.ts';
import { partOf, recordingOfRun, syncsOf, type LogRun } from './log-run.ts';
import type { Recording } from './recording.ts';
import { judgeAgain, shows, withFewerLosses, type Target } from './shrink.ts';
import { timelineOf } from './timeline.ts';

/** Parts of the log that are tried at most, to shorten an example. */
const PARTS_MAX = 12;

export interface LogExample {
  /** A hazard's name, or the kind of the violation. */
  readonly what: string;
  readonly isHazard: boolean;
  /** Of the log, the part that shows it. */
  readonly run: LogRun;
  readonly crashes: Crashes;
  readonly timeline: readonly string[];
}

export interface LogFindings extends Pick<CellFindings, 'exploration' | 'seconds'> {
  readonly recording: Recording;
  readonly examples: readonly LogExample[];
}

/** @throws Qcow2BenchError of the image before the log, if it cannot be opened */
export async function exploreLog(
  run: LogRun,
  options: TimedOptions,
  nowNs: () => bigint,
): Promise<LogFindings> {
  const recording = await recordingOfRun(run);
  const found = await exploreTimed(recording, options, nowNs);
  const examples: LogExample[] = [];
  for (const target of targetsOf(found.exploration)) {
    const { hazards, bad } = found.exploration;
    const state = target.kind === 'hazard' ? hazards.get(target.hazard)?.example : bad[0];
    if (state === undefined) continue;
    const whole = { run, recording, state, target };
    const part = (await shorterRun(whole)) ?? whole;
    const { crashes, findings } = await withFewerLosses(part, part.target);
    const what = target.kind === 'hazard' ? target.hazard : target.finding.kind;
    const timeline = await timelineOf({ crashes, findings }, await Surveyor.of(part.recording));
    examples.push({ what, isHazard: target.kind === 'hazard', run: part.run, crashes, timeline });
  }
  return { ...found, recording, examples };
}

interface StateOfRun {
  readonly run: LogRun;
  readonly recording: Recording;
  readonly state: BadState;
  readonly target: Target;
}

/**
 * A part of the log that shows the same: it ends with the crash, and begins at the latest flush before
 * it that can be. `undefined` if only the whole log shows it.
 */
async function shorterRun({ run, state, target }: StateOfRun): Promise<StateOfRun | undefined> {
  const { entries } = run;
  const syncs = syncsOf(entries);
  const [{ epoch }] = state.crashes;
  const end = (syncs[epoch] ?? entries.length - 1) + 1;
  const flushes = syncs.slice(0, epoch).filter((index) => entries[index]?.kind === 'flush');
  for (let tried = 0, back = 1; tried < PARTS_MAX && flushes.length > 0; tried++, back *= 2) {
    const flush = flushes.at(-back);
    if (flush === undefined) break;
    const found = await stateOfPart(run, { from: flush + 1, end, state, target });
    if (found !== undefined) return found;
  }
  return stateOfPart(run, { from: 0, end, state, target });
}

/** The same state of a part, if it shows the same there. */
async function stateOfPart(
  run: LogRun,
  {
    from,
    end,
    state,
    target,
  }: { readonly from: number; readonly end: number; readonly state: BadState; readonly target: Target },
): Promise<StateOfRun | undefined> {
  const passed = syncsOf(run.entries.slice(0, from)).length;
  const [first, ...later] = state.crashes;
  const crashes: Crashes = [{ ...first, epoch: first.epoch - passed }, ...later];
  try {
    const part = await partOf(run, from, end);
    const recording = await recordingOfRun(part);
    const judged = await judgeAgain(recording, crashes, () => {
      throw new Qcow2BenchError('crash-case-outdated', 'the part has other pending operations');
    });
    const shown = targetIn(judged, target);
    return shown === undefined ? undefined : { run: part, recording, state: judged.state, target: shown };
  } catch (error) {
    // In the middle of a change an image may not open.
    if (error instanceof Qcow2BenchError) return undefined;
    throw error;
  }
}

/** The same in the part; a violation may be seen at another moment, as further writes go elsewhere. */
function targetIn(judged: Awaited<ReturnType<typeof judgeAgain>>, target: Target): Target | undefined {
  if (target.kind === 'hazard') return shows(judged, target) ? target : undefined;
  if (judged.hazards !== undefined) return undefined;
  const finding = judged.findings.find(({ kind }) => kind === target.finding.kind);
  return finding === undefined ? undefined : { kind: 'violation', finding };
}
