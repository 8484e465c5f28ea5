/**
 * A crash after a crash: what opens or repairs a crash state is a run of its own, which a further
 * crash can end.
 *
 * Invariant: what was promised to the guest is what had been promised at the first crash.
 */

import { epochsOf, type Epoch } from './epochs.ts';
import type { Inspector, Recovery } from './inspect.ts';
import type { PageFiles } from './pages.ts';
import type { Recording } from './recording.ts';
import { Recorder } from './recorder.ts';
import { StateView, type Fate } from './state-view.ts';

/** One crash: what it ended, when, and what became of the pending operations. */
export interface Crash {
  readonly of: 'run' | Recovery;
  readonly epoch: number;
  /** Of the pending operations of the epoch. */
  readonly fates: readonly Fate[];
}

/** From the first crash, of the run, to the one that left the state. */
export type Crashes = readonly [Crash, ...Crash[]];

/** What a user does with the state, from the opening to the close. */
export async function recordRecovery(
  inspector: Inspector,
  view: StateView,
  recovery: Recovery,
): Promise<Recording> {
  const recorder = new Recorder();
  await inspector.recover(view, recovery, recorder);
  const { operations, syncs, events } = recorder;
  const base = filesOf(view);
  return {
    subject: inspector.subject,
    base,
    operations,
    syncs,
    requests: [],
    endsAt: events,
    isClosed: true,
  };
}

function filesOf(view: StateView): PageFiles {
  const files = view.epoch.base.clone();
  for (const number of view.touched.keys()) files.put(number, view.page(number));
  for (const file of files.sizes.keys()) files.sizes[file] = view.size(file);
  return files;
}

/** The moments of a recovery at which a crash can leave most. */
export function* recoveryEpochs(recording: Recording, before: StateView): Generator<Epoch, undefined> {
  for (const epoch of epochsOf(recording)) yield { ...epoch, at: before.epoch.at };
  return undefined;
}

/**
 * The state that crashes left of a recording.
 *
 * @returns how many operations are pending at the first crash that does not fit, if one does not
 */
export async function stateAfter(
  recording: Recording,
  inspector: Inspector,
  crashes: Crashes,
): Promise<StateView | { readonly crash: Crash; readonly pending: number | undefined }> {
  const [first, ...later] = crashes;
  let view = viewAt(epochsOf(recording), first);
  for (const crash of later) {
    if (!(view instanceof StateView) || crash.of === 'run') return view;
    view = viewAt(recoveryEpochs(await recordRecovery(inspector, view, crash.of), view), crash);
  }
  return view;
}

function viewAt(
  epochs: Iterable<Epoch>,
  crash: Crash,
): StateView | { readonly crash: Crash; readonly pending: number | undefined } {
  for (const epoch of epochs) {
    if (epoch.number !== crash.epoch) continue;
    if (epoch.pending.length !== crash.fates.length) return { crash, pending: epoch.pending.length };
    const view = new StateView(epoch);
    for (const [place, fate] of crash.fates.entries()) {
      if (epoch.pending[place]?.isSettled === false) view.setFate(place, fate);
    }
    return view;
  }
  return { crash, pending: undefined };
}
