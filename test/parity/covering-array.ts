/**
 * Covering arrays: few rows over many axes such that every pair of values of two axes occurs
 * together in some row. Most faults need one or two features to meet, and a product of all features
 * would never end.
 *
 * Greedy, as in AETG: a row begins with a pair that is still open and takes, axis by axis, the
 * value that closes most; the best of a few such rows is kept.
 *
 * Invariants: every row is allowed; a pair is left out only if no allowed row has it; the same seed
 * gives the same rows on every machine.
 */

import { Random } from '../../src/core/random.ts';

export type AxisValue = string | number;
export type Axes = Readonly<Record<string, readonly AxisValue[]>>;
export type Row<A extends Axes> = { readonly [Axis in keyof A]: A[Axis][number] };

export interface CoveringOptions<A extends Axes> {
  readonly seed: number;
  /**
   * Whether a row may still be completed: axes that have no value yet are left out, and what is
   * missing is never a reason to refuse.
   */
  readonly allowed?: ((row: Partial<Row<A>>) => boolean) | undefined;
  /**
   * At least so many rows: those beyond the first cover are another cover, made of other rows.
   * Default 1.
   */
  readonly rows?: number | undefined;
}

/** Rows tried for each that is kept. */
const CANDIDATES = 12;

type Partly = Record<string, AxisValue>;
interface Pair {
  readonly axis: string;
  readonly value: AxisValue;
  readonly otherAxis: string;
  readonly otherValue: AxisValue;
}

/** Rows that cover all pairs, and again if more rows are asked for. */
export function coveringArray<const A extends Axes>(axes: A, options: CoveringOptions<A>): readonly Row<A>[] {
  const cover = new Cover(axes, options.allowed as ((row: Partly) => boolean) | undefined, options.seed);
  const rows: Partly[] = [];
  let before: number;
  do {
    before = rows.length;
    const open = cover.allPairs();
    while (open.size > 0) {
      const row = cover.nextRow(open);
      if (row !== undefined) rows.push(row);
    }
    // A cover without rows: nothing is allowed.
  } while (rows.length < (options.rows ?? 1) && rows.length > before);
  return rows as Row<A>[];
}

/** Every pair that a row holds, as text that is the same whatever the order of its axes. */
export function pairsOf(row: Readonly<Record<string, AxisValue>>): readonly string[] {
  const cells = Object.entries(row).sort(([left], [right]) => (left < right ? -1 : 1));
  return cells.flatMap(([axis, value], index) =>
    cells.slice(index + 1).map(([otherAxis, otherValue]) => pairKey({ axis, value, otherAxis, otherValue })),
  );
}

function pairKey({ axis, value, otherAxis, otherValue }: Pair): string {
  const cell = (name: string, content: AxisValue): string => `${name}=${String(content)}`;
  return [cell(axis, value), cell(otherAxis, otherValue)].sort().join(' ');
}

class Cover {
  readonly #axes: Axes;
  readonly #names: readonly string[];
  readonly #allowed: (row: Partly) => boolean;
  readonly #random: Random;

  constructor(axes: Axes, allowed: ((row: Partly) => boolean) | undefined, seed: number) {
    this.#axes = axes;
    this.#names = Object.keys(axes);
    this.#allowed = allowed ?? (() => true);
    this.#random = new Random(seed);
  }

  allPairs(): Map<string, Pair> {
    const pairs = new Map<string, Pair>();
    this.#names.forEach((axis, index) => {
      for (const otherAxis of this.#names.slice(index + 1)) {
        for (const value of this.#axes[axis] ?? []) {
          for (const otherValue of this.#axes[otherAxis] ?? []) {
            const pair = { axis, value, otherAxis, otherValue };
            pairs.set(pairKey(pair), pair);
          }
        }
      }
    });
    return pairs;
  }

  /**
   * A row that closes some of `open`, taken out of it; `undefined` if one of them turned out to be
   * impossible.
   */
  nextRow(open: Map<string, Pair>): Partly | undefined {
    const pairs = [...open.values()];
    let best: { readonly row: Partly; readonly closes: readonly string[] } | undefined;
    for (let candidate = 0; candidate < CANDIDATES; candidate++) {
      const pair = pairs[this.#random.below(pairs.length)] as Pair;
      const row = this.#complete(
        { [pair.axis]: pair.value, [pair.otherAxis]: pair.otherValue },
        this.#random.shuffle(this.#names.filter((axis) => axis !== pair.axis && axis !== pair.otherAxis)),
        open,
      );
      if (row === undefined) {
        open.delete(pairKey(pair));
        return undefined;
      }
      const closes = pairsOf(row).filter((key) => open.has(key));
      if (closes.length > (best?.closes.length ?? 0)) best = { row, closes };
    }
    for (const key of best?.closes ?? []) open.delete(key);
    return best?.row;
  }

  /**
   * Gives every axis of `rest` a value, the most useful first, going back where none is allowed. It
   * looks ahead: where an axis has no value left, whatever is chosen for the others would be in
   * vain.
   */
  #complete(row: Partly, rest: readonly string[], open: ReadonlyMap<string, Pair>): Partly | undefined {
    if (!this.#allowed(row) || !rest.every((axis) => this.#hasValue(axis, row))) return undefined;
    const [axis, ...others] = rest;
    if (axis === undefined) return inOrder(row, this.#names);
    for (const value of this.#byUse(axis, row, open)) {
      const completed = this.#complete({ ...row, [axis]: value }, others, open);
      if (completed !== undefined) return completed;
    }
    return undefined;
  }

  #hasValue(axis: string, row: Partly): boolean {
    return (this.#axes[axis] ?? []).some((value) => this.#allowed({ ...row, [axis]: value }));
  }

  /**
   * The axis's values, those first that close most open pairs with what the row has; chance among
   * equals.
   */
  #byUse(axis: string, row: Partly, open: ReadonlyMap<string, Pair>): readonly AxisValue[] {
    const uses = this.#random.shuffle([...(this.#axes[axis] ?? [])]).map((value) => ({
      value,
      closes: Object.entries(row).filter(([otherAxis, otherValue]) =>
        open.has(pairKey({ axis, value, otherAxis, otherValue })),
      ).length,
    }));
    return uses.sort((left, right) => right.closes - left.closes).map(({ value }) => value);
  }
}

function inOrder(row: Partly, names: readonly string[]): Partly {
  return Object.fromEntries(names.map((name) => [name, row[name] as AxisValue]));
}
