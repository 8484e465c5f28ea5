/**
 * Which states there are, how many, and which of them are tried.
 *
 * The states of an epoch are the subsets of its pending operations, and with `torn` also those in
 * which a write is there in part, or a file's new size without what made it, or the other way
 * round. A space within the budget is tried as a whole, in an order in which each state differs
 * from the one before it by one operation; of a larger one a sample is taken.
 *
 * Invariant: the states depend on the recording, the model, the budget and the seed alone.
 */

import { Random } from '../core/random.ts';
import { epochsOf, type Epoch } from './epochs.ts';
import type { Recording } from './recording.ts';
import { changesSize, randomTear, sectorsOf, StateView } from './state-view.ts';

/** What a device may do to operations between two syncs. */
export interface CrashModel {
  /** What a device writes as a whole: sectors of this many bytes, or any write. */
  readonly atomic: 512 | 4096 | 'write';
  /** A sector that was being written may hold neither the old nor the new bytes. */
  readonly garbage: boolean;
  /** `issue`: operations reach the disk in the order in which they were issued. */
  readonly order: 'any' | 'issue';
}

export const STRONGEST_MODEL: CrashModel = { atomic: 512, garbage: false, order: 'any' };

export interface SpaceOptions {
  readonly model: CrashModel;
  /** States to try at most. */
  readonly budget: number;
  readonly seed: number;
}

/** How many states there are, and how many of them are tried. */
export interface SpaceSize {
  /** Each pending operation there or not. */
  readonly whole: bigint;
  /** All that the model allows, those included. */
  readonly all: bigint;
  readonly epochs: number;
}

/** How many states the recording has. */
export function spaceSize(recording: Recording, model: CrashModel): SpaceSize {
  let whole = 0n;
  let all = 0n;
  let epochs = 0;
  for (const epoch of epochsOf(recording)) {
    const open = epoch.pending.filter(({ isSettled }) => !isSettled);
    epochs++;
    whole += wholeStates(open.length, model);
    all += allStates(epoch, model);
  }
  return { whole, all, epochs };
}

function wholeStates(open: number, { order }: CrashModel): bigint {
  return order === 'any' ? 1n << BigInt(open) : BigInt(open + 1);
}

function allStates({ pending, base }: Epoch, { atomic, garbage, order }: CrashModel): bigint {
  let product = 1n;
  let sum = 1n;
  for (const each of pending) {
    if (each.isSettled) continue;
    let fates = 2n;
    if (each.operation.op === 'write' && atomic !== 'write') {
      fates = (garbage ? 3n : 2n) ** BigInt(sectorsOf(each.operation, atomic));
    }
    // The size may be there without the bytes, or they without it.
    if (changesSize(each, base)) fates = each.operation.op === 'truncate' ? fates : fates * 2n;
    product *= fates;
    sum += fates - 1n;
  }
  return order === 'any' ? product : sum;
}

/** What is to be tried of one epoch. */
export interface EpochShare {
  /** Whole subsets. */
  readonly whole: number;
  readonly isExhausted: boolean;
  readonly torn: number;
}

/**
 * Divides the budget among the epochs: small ones are tried as a whole, what is left goes to the
 * others in equal parts, and what is left then to torn states.
 */
export function divideBudget(recording: Recording, { model, budget }: SpaceOptions): readonly EpochShare[] {
  const sizes: { readonly whole: number; readonly torn: number }[] = [];
  for (const epoch of epochsOf(recording)) {
    const open = epoch.pending.filter(({ isSettled }) => !isSettled).length;
    const whole = Number(wholeStates(open, model));
    sizes.push({ whole, torn: Number(allStates(epoch, model)) - whole });
  }
  const whole = shares(
    sizes.map((size) => size.whole),
    budget,
  );
  const left = budget - whole.reduce((sum, each) => sum + each, 0);
  const torn = shares(
    sizes.map((size) => size.torn),
    left,
  );
  return sizes.map((size, index) => {
    const share = whole[index] ?? 0;
    return { whole: share, isExhausted: share === size.whole, torn: torn[index] ?? 0 };
  });
}

/** Gives each its size, or an equal part of what the smaller ones leave. */
function shares(sizes: readonly number[], budget: number): readonly number[] {
  const order = [...sizes.keys()].toSorted((a, b) => (sizes[a] as number) - (sizes[b] as number));
  const given = sizes.map(() => 0);
  let left = budget;
  for (const [done, index] of order.entries()) {
    const share = Math.min(sizes[index] as number, Math.floor(left / (order.length - done)));
    given[index] = share;
    left -= share;
  }
  return given;
}

/** Leads a view through the states of its epoch; every call but the first changes it. */
export function* statesOf(
  epoch: Epoch,
  share: EpochShare,
  { model, seed }: SpaceOptions,
): Generator<StateView, undefined> {
  const view = new StateView(epoch);
  const open = [...epoch.pending.keys()].filter((place) => epoch.pending[place]?.isSettled === false);
  const random = new Random(seed * 1_000_003 + epoch.number);
  if (model.order === 'issue') yield* prefixes(view, open, share);
  else if (share.isExhausted) yield* subsets(view, open);
  else yield* samples(view, open, share.whole, random);
  yield* torn(view, open, share.torn, { model, random });
  return undefined;
}

/** Every subset, each next to the one before it (Gray's code). */
function* subsets(view: StateView, open: readonly number[]): Generator<StateView, undefined> {
  yield view;
  const end = 2 ** open.length;
  for (let number = 1; number < end; number++) {
    let bit = 0;
    while (Math.floor(number / 2 ** bit) % 2 === 0) bit++;
    flip(view, open[bit] as number);
    yield view;
  }
  return undefined;
}

function* prefixes(
  view: StateView,
  open: readonly number[],
  share: EpochShare,
): Generator<StateView, undefined> {
  yield view;
  const step = share.isExhausted ? 1 : Math.ceil(open.length / Math.max(1, share.whole - 1));
  for (const [index, place] of open.entries()) {
    view.set(place, true);
    if (index % step === 0 || index === open.length - 1) yield view;
  }
  return undefined;
}

/** Above so many operations a sample is a short walk from the last, and now and then a new start. */
const WALK_FROM = 32;
const WALK_LENGTH = 16;

function* samples(
  view: StateView,
  open: readonly number[],
  count: number,
  random: Random,
): Generator<StateView, undefined> {
  for (let number = 0; number < count; number++) {
    if (open.length <= WALK_FROM || number % WALK_LENGTH === 0) jump(view, open, random);
    else {
      const flips = 1 + random.below(8);
      for (let n = 0; n < flips; n++) flip(view, open[random.below(open.length)] as number);
    }
    yield view;
  }
  return undefined;
}

/** Subsets in which one or two operations are there in part. */
function* torn(
  view: StateView,
  open: readonly number[],
  count: number,
  { model, random }: { readonly model: CrashModel; readonly random: Random },
): Generator<StateView, undefined> {
  const partial = open.filter((place) => canBePartial(view, place, model));
  if (partial.length === 0) return undefined;
  const parted = new Set<number>();
  for (let number = 0; number < count; number++) {
    for (const place of parted) view.set(place, random.chance(0.5));
    parted.clear();
    if (model.order === 'any' && (open.length <= WALK_FROM || number % WALK_LENGTH === 0)) {
      jump(view, open, random);
    } else if (model.order === 'issue') {
      const last = random.below(partial.length);
      for (const place of open) view.set(place, place < (partial[last] as number));
      part(view, partial[last] as number, { model, random });
      yield view;
      continue;
    } else flip(view, open[random.below(open.length)] as number);
    const parts = 1 + random.below(2);
    for (let n = 0; n < parts; n++) {
      const place = partial[random.below(partial.length)] as number;
      part(view, place, { model, random });
      parted.add(place);
    }
    yield view;
  }
  return undefined;
}

function canBePartial({ epoch }: StateView, place: number, { atomic }: CrashModel): boolean {
  const pending = epoch.pending[place];
  if (pending === undefined) return false;
  if (pending.operation.op === 'write' && atomic !== 'write' && sectorsOf(pending.operation, atomic) > 1) {
    return true;
  }
  return pending.operation.op !== 'truncate' && changesSize(pending, epoch.base);
}

/** Tears a write, or parts its bytes from the size that it gives the file. */
function part(
  view: StateView,
  place: number,
  { model, random }: { readonly model: CrashModel; readonly random: Random },
): void {
  const pending = view.epoch.pending[place];
  if (pending === undefined) return;
  const { atomic, garbage } = model;
  const sizes = pending.operation.op !== 'truncate' && changesSize(pending, view.epoch.base);
  const tear =
    atomic === 'write' ? undefined : randomTear(pending.operation, { sectorBytes: atomic, garbage }, random);
  if (tear !== undefined && !(sizes && random.chance(0.4))) {
    view.setFate(place, { kept: true, sizeKept: true, tear });
  } else if (sizes) {
    const kept = random.chance(0.5);
    view.setFate(place, { kept, sizeKept: !kept, tear: undefined });
  }
}

function jump(view: StateView, open: readonly number[], random: Random): void {
  const share = random.fraction();
  for (const place of open) {
    const kept = random.chance(share);
    if (view.fates[place]?.kept !== kept) view.set(place, kept);
  }
}

function flip(view: StateView, place: number): void {
  view.set(place, view.fates[place]?.kept !== true);
}
