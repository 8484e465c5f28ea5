/**
 * Tries the crash states of a recording.
 *
 * Invariants:
 * - States with the same bytes are tried once in each epoch: what was promised at its end holds for
 *   all of it.
 * - A state is judged by its own bytes, whether or not its outcome was found by inspecting another.
 */

import type { Pending } from '../core/pending.ts';
import { epochsOf, type Epoch } from './epochs.ts';
import { Expectation } from './expectation.ts';
import type { Finding } from './findings.ts';
import { curesOf, hazardOf, type Evidence, type Hazard } from './hazards.ts';
import { furtherWrites, Inspector, type Outcome } from './inspect.ts';
import { Judge } from './judge.ts';
import { OutcomeTree, type Leaf } from './outcome-tree.ts';
import { furtherPlaces, startOf } from './start.ts';
import type { Recording } from './recording.ts';
import { divideBudget, spaceSize, statesOf, type SpaceOptions, type SpaceSize } from './state-space.ts';
import type { Fate, StateView } from './state-view.ts';

/** A state that does not keep what was promised. */
export interface BadState {
  readonly epoch: number;
  /** Of the pending operations of the epoch. */
  readonly fates: readonly Fate[];
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
  readonly badStates: number;
  /** The first ones. */
  readonly bad: readonly BadState[];
  /** States with findings, of which each has a name; a state with several names counts for each. */
  readonly hazards: ReadonlyMap<Hazard, HazardFound>;
  /** States that hold something else within a discard that was not durable. */
  readonly inDiscard: number;
  /** What opening a state that had to be repaired read: bytes, at most and in all; states. */
  readonly repairs: { readonly states: number; readonly bytesMax: number };
}

export interface ExploreOptions extends SpaceOptions {
  /** Called now and then with the states tried so far; rejecting ends the exploration. */
  readonly turn?: ((tried: number) => Pending) | undefined;
  /** How many bad states are kept. Default 100. */
  readonly keep?: number | undefined;
  /** Ends the exploration after a state. */
  readonly isEnough?: ((state: JudgedState) => boolean) | undefined;
}

export interface JudgedState {
  readonly view: StateView;
  readonly outcome: Outcome;
  readonly findings: readonly Finding[];
  /** The hazards that they are; `undefined` if the state is a violation. */
  readonly hazards: ReadonlySet<Hazard> | undefined;
}

const NO_NAMES: ReadonlySet<Hazard> = new Set();
const KEPT_BAD_STATES = 100;
const TURN_STATES = 64;
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
  async judged(view: StateView): Promise<JudgedState> {
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

class Explorer {
  readonly #recording: Recording;
  readonly #surveyor: Surveyor;
  readonly #options: ExploreOptions;
  #tried = 0;
  #triedWhole = 0;
  #distinct = 0;
  #badStates = 0;
  #inDiscard = 0;
  #repaired = 0;
  #repairBytesMax = 0;
  #isOver = false;
  readonly #bad: BadState[] = [];
  readonly #hazards = new Map<Hazard, HazardFound>();

  constructor(recording: Recording, surveyor: Surveyor, options: ExploreOptions) {
    this.#recording = recording;
    this.#surveyor = surveyor;
    this.#options = options;
  }

  async run(): Promise<Exploration> {
    const { model } = this.#options;
    const shares = divideBudget(this.#recording, this.#options);
    for (const epoch of epochsOf(this.#recording)) {
      const share = shares[epoch.number];
      if (share === undefined || share.whole + share.torn === 0) continue;
      this.#triedWhole += share.whole;
      await this.#tryEpoch(epoch, share);
      if (this.#isOver) break;
    }
    return {
      space: spaceSize(this.#recording, model),
      tried: this.#tried,
      distinct: this.#distinct,
      isExhausted: shares.every(({ isExhausted }) => isExhausted),
      triedWhole: this.#triedWhole,
      inspected: this.#surveyor.tree.size,
      badStates: this.#badStates,
      bad: this.#bad,
      hazards: this.#hazards,
      inDiscard: this.#inDiscard,
      repairs: { states: this.#repaired, bytesMax: this.#repairBytesMax },
    };
  }

  async #tryEpoch(epoch: Epoch, share: NonNullable<ReturnType<typeof divideBudget>[number]>): Promise<void> {
    const { turn, isEnough } = this.#options;
    const seen = new Set<number>();
    let leaf: Leaf | undefined;
    for (const view of statesOf(epoch, share, this.#options)) {
      this.#tried++;
      if (turn !== undefined && this.#tried % TURN_STATES === 0) await turn(this.#tried);
      const { hash } = view;
      if (seen.has(hash)) continue;
      if (seen.size < SEEN_MAX) seen.add(hash);
      this.#distinct++;
      const changed = view.takeChanged();
      if (leaf === undefined || isRead(leaf, changed)) {
        const found = this.#surveyor.outcomeOf(view);
        leaf = found instanceof Promise ? await found : found;
      }
      const { findings, inDiscard } = this.#surveyor.judge.judge(view, leaf, changed);
      if (inDiscard > 0) this.#inDiscard++;
      this.#noteRepair(leaf.outcome);
      const names =
        findings.length === 0 ? NO_NAMES : await this.#surveyor.namesOf(view, leaf.outcome, findings);
      if (findings.length > 0) this.#noteFindings(view, names, findings);
      if (isEnough?.({ view, outcome: leaf.outcome, findings, hazards: names }) === true) {
        this.#isOver = true;
        return;
      }
    }
  }

  #noteRepair({ repairBytes }: Outcome): void {
    if (repairBytes === 0) return;
    this.#repaired++;
    this.#repairBytesMax = Math.max(this.#repairBytesMax, repairBytes);
  }

  #noteFindings(view: StateView, names: ReadonlySet<Hazard> | undefined, findings: readonly Finding[]): void {
    const state = { epoch: view.epoch.number, fates: view.fates.slice(), findings };
    if (names === undefined) {
      this.#badStates++;
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

function isRead({ reads }: Leaf, changed: readonly number[]): boolean {
  for (const number of changed) if (reads.has(number)) return true;
  return false;
}

/** How many operations are not wholly there. */
function lossOf({ fates }: BadState): number {
  return fates.filter(({ kept, sizeKept, tear }) => !kept || !sizeKept || tear !== undefined).length;
}
