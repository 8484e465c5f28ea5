/**
 * Tries the crash states of a recording.
 *
 * Invariants:
 * - States with the same bytes are tried once in each epoch: what was promised at its end holds for
 *   all of it.
 * - A state is judged by its own bytes, whether or not its outcome was found by inspecting another.
 */

import { SECTOR_SIZE } from '../core/alignment.ts';
import type { Pending } from '../core/pending.ts';
import { recordRecovery, recoveryEpochs, type Crash, type Crashes } from './crashes.ts';
import { epochsOf, type Epoch } from './epochs.ts';
import { Expectation } from './expectation.ts';
import type { Finding } from './findings.ts';
import { curesOf, hazardOf, type Evidence, type Hazard } from './hazards.ts';
import { furtherWrites, Inspector, RECOVERIES, type Outcome } from './inspect.ts';
import { Judge } from './judge.ts';
import { OutcomeTree, type Leaf } from './outcome-tree.ts';
import { furtherPlaces, startOf } from './start.ts';
import type { Recording } from './recording.ts';
import {
  divideBudget,
  spaceSize,
  statesOf,
  type EpochShare,
  type SpaceOptions,
  type SpaceSize,
} from './state-space.ts';
import type { Fate, StateView } from './state-view.ts';

/** A state that does not keep what was promised. */
export interface BadState {
  readonly crashes: Crashes;
  readonly findings: readonly Finding[];
}

/** States whose every finding has a name. */
export interface HazardFound {
  readonly states: number;
  /** The one with the fewest operations lost or torn. */
  readonly example: BadState;
}

export interface Exploration {
  readonly space: SpaceSize;
  /** States that were tried, and how many of them differ. */
  readonly tried: number;
  readonly distinct: number;
  /** Whether every subset of whole operations was tried. */
  readonly isExhausted: boolean;
  /** Of those tried, the subsets of whole operations. */
  readonly triedWhole: number;
  readonly inspected: number;
  readonly later: LaterStates;
  /** States that a second judge has looked at. */
  readonly askedSecond: number;
  readonly badStates: number;
  readonly losses: Losses;
  /** The first ones. */
  readonly bad: readonly BadState[];
  /** States with findings, of which each has a name; a state with several names counts for each. */
  readonly hazards: ReadonlyMap<Hazard, HazardFound>;
  /** States that hold something else within a discard that was not durable. */
  readonly inDiscard: number;
  /** What opening a state that had to be repaired read: bytes, at most and in all; states. */
  readonly repairs: { readonly states: number; readonly bytesMax: number };
}

/** States after a crash of what opens or repairs a state; not counted among the others. */
export interface LaterStates {
  /** Openings and repairs that wrote something, of states with different outcomes. */
  readonly recoveries: number;
  readonly space: SpaceSize;
  readonly tried: number;
  readonly isExhausted: boolean;
}

/** What violations lose of what was promised. */
export interface Losses {
  /** States in which the image can be read and sectors hold something else. */
  readonly states: number;
  /** Bytes of the disk that hold something else, at most in a state, and in all of them. */
  readonly bytesMax: number;
  readonly bytesSum: number;
  /** States in which the image cannot be read at all. */
  readonly unreadable: number;
}

export interface ExploreOptions extends SpaceOptions {
  /** Crashes in a row, of which the later ones end what opens or repairs a state. Default 1. */
  readonly nested?: number | undefined;
  /** Called now and then with the states tried so far; rejecting ends the exploration. */
  readonly turn?: ((tried: number) => Pending) | undefined;
  /** How many bad states are kept. Default 100. */
  readonly keep?: number | undefined;
  /** Judges one state in so many, in which nothing was found, once more. */
  readonly second?: SecondJudge | undefined;
  /** Ends the exploration after a state. */
  readonly isEnough?: ((state: JudgedState) => boolean) | undefined;
}

export interface SecondJudge {
  readonly every: number;
  readonly judge: (view: StateView, surveyor: Surveyor) => Promise<readonly Finding[]>;
}

export interface JudgedState {
  readonly crashes: Crashes;
  readonly view: StateView;
  readonly outcome: Outcome;
  readonly findings: readonly Finding[];
  /** The hazards that they are; `undefined` if the state is a violation. */
  readonly hazards: ReadonlySet<Hazard> | undefined;
}

const NO_NAMES: ReadonlySet<Hazard> = new Set();
const KEPT_BAD_STATES = 100;
const TURN_STATES = 64;
/** States of one opening or repair that are tried at most. */
const RECOVERY_STATES = 64;
/** Contents that are remembered in an epoch; beyond, equal states are tried again. */
const SEEN_MAX = 8_000_000;

/** Tries the states that the options ask for. */
export async function explore(recording: Recording, options: ExploreOptions): Promise<Exploration> {
  return new Explorer(recording, await Surveyor.of(recording), options).run();
}

/** All that is needed to judge states of a recording. */
export class Surveyor {
  readonly recording: Recording;
  readonly expectation: Expectation;
  readonly judge: Judge;
  readonly tree = new OutcomeTree();
  readonly inspector: Inspector;

  static async of(recording: Recording): Promise<Surveyor> {
    const start = await startOf(recording);
    return new Surveyor(recording, new Expectation(recording, start), furtherPlaces(recording));
  }

  private constructor(recording: Recording, expectation: Expectation, sectors: readonly number[]) {
    const writes = furtherWrites(sectors);
    this.recording = recording;
    this.expectation = expectation;
    this.judge = new Judge(expectation, { writes, clusterSize: recording.subject.clusterSize });
    this.inspector = new Inspector(recording.subject, writes);
  }

  /** The outcome of a state; at once if it is known. */
  outcomeOf(view: StateView): Leaf | Promise<Leaf> {
    return this.tree.find(view) ?? this.#inspect(view);
  }

  /** All that is known of a state, whatever was judged before. */
  async judged(view: StateView): Promise<Omit<JudgedState, 'crashes'>> {
    const leaf = await this.outcomeOf(view);
    const { findings } = this.judge.judge(view, leaf, [...view.touched.keys()]);
    const hazards = findings.length === 0 ? NO_NAMES : await this.namesOf(view, leaf.outcome, findings);
    return { view, outcome: leaf.outcome, findings, hazards };
  }

  /** The hazards that all findings are; nothing if one is none. */
  async namesOf(
    view: StateView,
    outcome: Outcome,
    findings: readonly Finding[],
  ): Promise<ReadonlySet<Hazard> | undefined> {
    const names = new Set<Hazard>();
    const open = unnamed(findings, this.#evidence(view, outcome), names);
    if (open.length === 0) return names;
    for (const { hazard, places } of curesOf(open, this.#evidence(view, outcome))) {
      if ((await this.#findingsWith(view, places, names)) === 0) return names.add(hazard);
    }
    return undefined;
  }

  /** How many findings have no name if these operations are there too. */
  async #findingsWith(view: StateView, places: ReadonlySet<number>, names: Set<Hazard>): Promise<number> {
    const before = view.fates.slice();
    for (const place of places) view.set(place, true);
    const changed = view.takeChanged();
    const leaf = await this.outcomeOf(view);
    const { findings } = this.judge.judge(view, leaf, changed);
    const left = unnamed(findings, this.#evidence(view, leaf.outcome), names).length;
    for (const place of places) view.setFate(place, before[place] as Fate);
    return left;
  }

  #evidence(view: StateView, outcome: Outcome): Evidence {
    const { expectation, inspector } = this;
    return { subject: inspector.subject, expectation, view, outcome };
  }

  async #inspect(view: StateView): Promise<Leaf> {
    const reads = new Set<number>();
    const outcome = await this.inspector.inspect(view, (number) => reads.add(number));
    return this.tree.add(view, reads, outcome);
  }
}

interface Tally {
  tried: number;
  triedWhole: number;
  distinct: number;
  isExhausted: boolean;
}

/** What is tried: states of the run, or of what follows an earlier crash. */
interface Trial {
  readonly recording: Recording;
  readonly options: SpaceOptions;
  /** What it is, and the crashes before. */
  readonly of: Crash['of'];
  readonly earlier: readonly Crash[];
  readonly epochs: Iterable<Epoch>;
}

class Explorer {
  readonly #recording: Recording;
  readonly #surveyor: Surveyor;
  readonly #options: ExploreOptions;
  readonly #run: Tally = { tried: 0, triedWhole: 0, distinct: 0, isExhausted: true };
  readonly #later: Tally = { tried: 0, triedWhole: 0, distinct: 0, isExhausted: true };
  #asked = 0;
  #recoveries = 0;
  /** Later states that one state of the run may lead to, at any depth. */
  #laterMax = 0;
  #laterSpace: SpaceSize = { whole: 0n, all: 0n, epochs: 0 };
  #badStates = 0;
  readonly #losses = { states: 0, bytesMax: 0, bytesSum: 0, unreadable: 0 };
  #inDiscard = 0;
  #repaired = 0;
  #repairBytesMax = 0;
  #isOver = false;
  readonly #recovered = new Set<Leaf>();
  readonly #bad: BadState[] = [];
  readonly #hazards = new Map<Hazard, HazardFound>();

  constructor(recording: Recording, surveyor: Surveyor, options: ExploreOptions) {
    this.#recording = recording;
    this.#surveyor = surveyor;
    this.#options = options;
  }

  async run(): Promise<Exploration> {
    const recording = this.#recording;
    const options = this.#options;
    await this.#try({ recording, options, of: 'run', earlier: [], epochs: epochsOf(recording) }, this.#run);
    return {
      space: spaceSize(recording, options.model),
      tried: this.#run.tried,
      distinct: this.#run.distinct,
      isExhausted: this.#run.isExhausted,
      triedWhole: this.#run.triedWhole,
      inspected: this.#surveyor.tree.size,
      later: {
        recoveries: this.#recoveries,
        space: this.#laterSpace,
        tried: this.#later.tried,
        isExhausted: this.#later.isExhausted,
      },
      askedSecond: this.#asked,
      badStates: this.#badStates,
      losses: this.#losses,
      bad: this.#bad,
      hazards: this.#hazards,
      inDiscard: this.#inDiscard,
      repairs: { states: this.#repaired, bytesMax: this.#repairBytesMax },
    };
  }

  async #try(trial: Trial, tally: Tally): Promise<void> {
    const shares = divideBudget(trial.recording, trial.options);
    tally.isExhausted &&= shares.every(({ isExhausted }) => isExhausted);
    for (const epoch of trial.epochs) {
      const share = shares[epoch.number];
      if (share === undefined || share.whole + share.torn === 0) continue;
      tally.triedWhole += share.whole;
      await this.#tryEpoch(trial, { epoch, share }, tally);
      if (this.#isOver) break;
    }
  }

  async #tryEpoch(
    trial: Trial,
    { epoch, share }: { readonly epoch: Epoch; readonly share: EpochShare },
    tally: Tally,
  ): Promise<void> {
    const { turn, isEnough } = this.#options;
    const seen = new Set<number>();
    let leaf: Leaf | undefined;
    for (const view of statesOf(epoch, share, trial.options)) {
      tally.tried++;
      if (turn !== undefined && (this.#run.tried + this.#later.tried) % TURN_STATES === 0) {
        await turn(this.#run.tried);
      }
      const { hash } = view;
      if (seen.has(hash)) continue;
      if (seen.size < SEEN_MAX) seen.add(hash);
      tally.distinct++;
      const changed = view.takeChanged();
      if (leaf === undefined || isRead(leaf, changed)) {
        const found = this.#surveyor.outcomeOf(view);
        leaf = found instanceof Promise ? await found : found;
      }
      const verdict = this.#surveyor.judge.judge(view, leaf, changed);
      if (verdict.inDiscard > 0) this.#inDiscard++;
      const findings = this.#isForSecond(verdict.findings) ? await this.#askSecond(view) : verdict.findings;
      this.#noteRepair(leaf.outcome);
      if (findings.length === 0) {
        if (isEnough?.(judgedState(trial, view, { leaf, findings, names: NO_NAMES })) === true) {
          this.#isOver = true;
        } else if (this.#isToRecover(trial, leaf)) await this.#tryRecoveries(trial, view, leaf);
      } else {
        const names = await this.#surveyor.namesOf(view, leaf.outcome, findings);
        const judged = judgedState(trial, view, { leaf, findings, names });
        this.#noteFindings(judged);
        if (isEnough?.(judged) === true) this.#isOver = true;
      }
      if (this.#isOver) return;
    }
  }

  #isForSecond(findings: readonly Finding[]): boolean {
    const { second } = this.#options;
    const distinct = this.#run.distinct + this.#later.distinct;
    return second !== undefined && findings.length === 0 && distinct % second.every === 0;
  }

  #askSecond(view: StateView): Promise<readonly Finding[]> {
    this.#asked++;
    return this.#options.second?.judge(view, this.#surveyor) ?? Promise.resolve([]);
  }

  /**
   * What follows depends on the outcome alone: one state of each is enough. There are no more later
   * states than states of the run so far, so that they are of the whole run.
   */
  #isToRecover({ earlier }: Trial, leaf: Leaf): boolean {
    const { nested = 1 } = this.#options;
    if (earlier.length + 1 >= nested || this.#recovered.has(leaf)) return false;
    return this.#later.tried < (earlier.length === 0 ? this.#run.tried : this.#laterMax);
  }

  async #tryRecoveries(trial: Trial, view: StateView, leaf: Leaf): Promise<void> {
    this.#recovered.add(leaf);
    const { model, seed } = this.#options;
    if (trial.earlier.length === 0) {
      this.#laterMax = this.#later.tried + 2 * RECOVERIES.length * RECOVERY_STATES;
    }
    const states = Math.max(1, RECOVERY_STATES >> (2 * trial.earlier.length));
    const earlier = [...trial.earlier, crashOf(trial, view)];
    for (const of of RECOVERIES) {
      const recording = await recordRecovery(this.#surveyor.inspector, view, of);
      if (recording.operations.length === 0) continue;
      this.#recoveries++;
      const { whole, all, epochs } = spaceSize(recording, model);
      const sum = this.#laterSpace;
      this.#laterSpace = { whole: sum.whole + whole, all: sum.all + all, epochs: sum.epochs + epochs };
      const options = { model, budget: states, seed: seed + this.#recoveries };
      await this.#try(
        { recording, options, of, earlier, epochs: recoveryEpochs(recording, view) },
        this.#later,
      );
      if (this.#isOver) return;
    }
  }

  #noteLoss(findings: readonly Finding[]): void {
    const losses = this.#losses;
    const early = findings.filter(({ moment }) => moment === 'before-repair');
    if (early.some(({ kind }) => kind === 'unreadable')) losses.unreadable++;
    const sectors = new Set(early.filter(({ kind }) => kind === 'wrong-data').map(({ sector }) => sector));
    if (sectors.size === 0) return;
    losses.states++;
    losses.bytesMax = Math.max(losses.bytesMax, sectors.size * SECTOR_SIZE);
    losses.bytesSum += sectors.size * SECTOR_SIZE;
  }

  #noteRepair({ repairBytes }: Outcome): void {
    if (repairBytes === 0) return;
    this.#repaired++;
    this.#repairBytesMax = Math.max(this.#repairBytesMax, repairBytes);
  }

  #noteFindings({ crashes, findings, hazards: names }: JudgedState): void {
    const state = { crashes, findings };
    if (names === undefined) {
      this.#badStates++;
      this.#noteLoss(findings);
      if (this.#bad.length < (this.#options.keep ?? KEPT_BAD_STATES)) this.#bad.push(state);
      return;
    }
    for (const name of names) {
      const before = this.#hazards.get(name);
      const example =
        before !== undefined && lossOf(before.example) <= lossOf(state) ? before.example : state;
      this.#hazards.set(name, { states: (before?.states ?? 0) + 1, example });
    }
  }
}

/**
 * The findings that have no name of their own; the names of the others are added. The same data in
 * the same sector have one name at all moments: what was written since may have moved them.
 */
function unnamed(findings: readonly Finding[], evidence: Evidence, names: Set<Hazard>): readonly Finding[] {
  const named = new Set<string>();
  const open = findings.filter((finding) => {
    const name = hazardOf(finding, evidence);
    if (name === undefined) return true;
    names.add(name);
    named.add(dataOf(finding));
    return false;
  });
  return open.filter((finding) => finding.sector === undefined || !named.has(dataOf(finding)));
}

function dataOf({ sector, token, snapshot }: Finding): string {
  return JSON.stringify([snapshot, sector, token]);
}

function crashOf({ of }: Trial, { epoch, fates }: StateView): Crash {
  return { of, epoch: epoch.number, fates: fates.slice() };
}

/** Its crashes are read when they are asked for: of most states nothing is to be kept. */
function judgedState(
  trial: Trial,
  view: StateView,
  {
    leaf,
    findings,
    names,
  }: {
    readonly leaf: Leaf;
    readonly findings: readonly Finding[];
    readonly names: ReadonlySet<Hazard> | undefined;
  },
): JudgedState {
  return {
    get crashes(): Crashes {
      const [first, ...later] = [...trial.earlier, crashOf(trial, view)];
      return [first, ...later];
    },
    view,
    outcome: leaf.outcome,
    findings,
    hazards: names,
  };
}

function isRead({ reads }: Leaf, changed: readonly number[]): boolean {
  for (const number of changed) if (reads.has(number)) return true;
  return false;
}

/** How many operations are not wholly there, and how many crashes there were. */
function lossOf({ crashes }: BadState): number {
  const lost = crashes.flatMap(({ fates }) =>
    fates.filter(({ kept, sizeKept, tear }) => !kept || !sizeKept || tear !== undefined),
  );
  return lost.length + crashes.length;
}
