/**
 * Which cells of two results belong together.
 *
 * Invariants:
 * - Cells of which all coordinates agree belong together. Of the rest, cells that differ only in
 *   what distinguishes all of the one result from all of the other: where one has `engine=qemu`
 *   throughout and the other `engine=builtin`, the engine is what is compared.
 * - A cell matches at most one. What matches none is listed, never dropped.
 * - Different workloads never match: nothing of them could be compared.
 */

import { COORDINATES, coordinateNames, type CoordinateName } from '../result/coordinates.ts';
import type { Cell } from '../result/schema.ts';

/** A coordinate in which all cells that are left of one result differ from all of the other. */
export interface Distinction {
  readonly name: CoordinateName;
  /** As a cell's name has it. */
  readonly before: string;
  readonly after: string;
}

export interface Matched<T> {
  readonly pairs: readonly (readonly [before: T, after: T])[];
  readonly onlyBefore: readonly T[];
  readonly onlyAfter: readonly T[];
  /** In what pairs differ that do not agree in everything. */
  readonly distinctions: readonly Distinction[];
}

const COUNTED: readonly CoordinateName[] = coordinateNames(({ affectsCounts }) => affectsCounts);
const ALL: readonly CoordinateName[] = coordinateNames(() => true);

/** Cells whose counts are compared: coordinates on which no count depends do not matter. */
export function matchCounted<T>(
  before: readonly T[],
  after: readonly T[],
  cellOf: (item: T) => CellPart,
): Matched<T> {
  return match({ before, after, cellOf, names: COUNTED });
}

/** Cells whose times are compared: where times were taken matters too. */
export function matchTimed<T>(
  before: readonly T[],
  after: readonly T[],
  cellOf: (item: T) => CellPart,
): Matched<T> {
  return match({ before, after, cellOf, names: ALL });
}

/** Cells by their value of a coordinate, in the order of their first. */
export function splitBy<T extends { readonly cell: CellPart }>(
  records: readonly T[],
  name: CoordinateName,
): readonly { readonly value: string; readonly items: readonly T[] }[] {
  const groups = Map.groupBy(records, ({ cell }) => JSON.stringify(valueOf(cell, name)));
  return [...groups.values()].map((items) => ({
    value: textOf(
      items.map(({ cell }) => cell),
      name,
    ),
    items,
  }));
}

/** A cell, with or without what only times depend on. */
type CellPart = Partial<Cell>;

interface MatchParts<T> {
  readonly before: readonly T[];
  readonly after: readonly T[];
  readonly cellOf: (item: T) => CellPart;
  readonly names: readonly CoordinateName[];
}

function match<T>(parts: MatchParts<T>): Matched<T> {
  const exact = matchOn(parts);
  const { onlyBefore: before, onlyAfter: after } = exact;
  const distinctions = distinctionsOf(before.map(parts.cellOf), after.map(parts.cellOf));
  if (distinctions.length === 0) return exact;
  const names = parts.names.filter((name) => !distinctions.some((distinction) => distinction.name === name));
  const rest = matchOn({ ...parts, before, after, names });
  if (rest.pairs.length === 0) return exact;
  const order = new Map(parts.before.map((item, index) => [item, index]));
  const pairs = [...exact.pairs, ...rest.pairs].toSorted(
    ([a], [b]) => (order.get(a) ?? 0) - (order.get(b) ?? 0),
  );
  return { ...rest, pairs, distinctions };
}

function matchOn<T>({ before, after, cellOf, names }: MatchParts<T>): Matched<T> {
  const keyOf = (item: T): string => JSON.stringify(names.map((name) => valueOf(cellOf(item), name)));
  const others = new Map(after.map((item) => [keyOf(item), item]));
  const pairs: (readonly [T, T])[] = [];
  const onlyBefore: T[] = [];
  for (const item of before) {
    const key = keyOf(item);
    const other = others.get(key);
    if (other === undefined) onlyBefore.push(item);
    else pairs.push([item, other]);
    others.delete(key);
  }
  return { pairs, onlyBefore, onlyAfter: [...others.values()], distinctions: [] };
}

/** In the order of the table of coordinates. */
function distinctionsOf(before: readonly CellPart[], after: readonly CellPart[]): readonly Distinction[] {
  return ALL.flatMap((name) => {
    if (name === 'workload') return [];
    const [own, other] = [onlyValue(before, name), onlyValue(after, name)];
    if (own === undefined || other === undefined || own === other) return [];
    return [{ name, before: textOf(before, name), after: textOf(after, name) }];
  });
}

/** The value that all cells have, as a string; `undefined` if they differ, or there is no cell. */
function onlyValue(cells: readonly CellPart[], name: CoordinateName): string | undefined {
  const values = new Set(cells.map((cell) => JSON.stringify(valueOf(cell, name))));
  return values.size === 1 ? [...values][0] : undefined;
}

function textOf(cells: readonly CellPart[], name: CoordinateName): string {
  const value = cells[0]?.[name] ?? COORDINATES[name].default;
  if (value === undefined || value === null) return COORDINATES[name].absentText ?? 'none';
  return COORDINATES[name].text(value);
}

/** An object's properties in an order of their own; an absent value as its default. */
function valueOf(cell: CellPart, name: CoordinateName): unknown {
  const value = cell[name] ?? COORDINATES[name].default ?? null;
  if (typeof value !== 'object' || value === null) return value;
  return Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
}
