/**
 * The identity and the names of a cell.
 *
 * Invariant: `cellKey` is injective: two cells have the same key exactly if all their coordinates
 * agree, whatever characters a workload's name has.
 */

import { FORMAT_FACTS } from './vocabulary.ts';
import {
  COORDINATES,
  coordinateNames,
  UNNAMED_PROFILE,
  type Coordinate,
  type CoordinateName,
} from './coordinates.ts';
import type { Cell, CountedCell } from './schema.ts';
import type { Format, QemuProfileName, RefcountMode } from './vocabulary.ts';

const ALL = coordinateNames(() => true);
const COUNTED = coordinateNames(({ affectsCounts }) => affectsCounts);
/** What sets a cell apart beside workload, variant and cache mode. */
export const SETUP_NAMES = coordinateNames(({ isPlace = false }) => !isPlace);

/**
 * A cell in the order of the table, without what its format does not have and without optional
 * defaults: cells that mean the same are equal.
 */
export function canonicalCell(cell: Cell): Cell {
  const entries = ALL.map((name) => [name, inFormat(name, cell[name], cell.format)] as const);
  const given = entries.filter(([name, value]) => !isOptional(name) || !isDefault(name, value));
  // Every coordinate that is not optional is there.
  return Object.fromEntries(given) as Cell;
}

/** What a format has of the value of a coordinate. */
export function inFormat(name: CoordinateName, value: unknown, format: Format): unknown {
  const { inFormat: projected } = rulesOf(name);
  return value === undefined || value === null || projected === undefined ? value : projected(value, format);
}

/** A string that identifies the cell within a result. */
export function cellKey(cell: Cell): string {
  return keyOf(cell, ALL);
}

/** A string that identifies what the cell *counts*. */
export function countingKey(cell: CountedCell): string {
  return keyOf(cell, COUNTED);
}

/**
 * The coordinates on which counts depend, in the order of the table, so that equal cells have equal
 * texts.
 */
export function countedCell(cell: Cell): CountedCell {
  const entries = COUNTED.map((name) => [name, cell[name]] as const);
  // All coordinates of the type, as the table says which these are.
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined)) as CountedCell;
}

/**
 * The name of a format with its refcount mode, as people say it: `raw`, `qcow2 eager`, `qcow2
 * lazy`, `QED`.
 */
export function variantName(options: {
  readonly format: Format;
  readonly refcounts: RefcountMode | null;
}): string {
  const { title } = FORMAT_FACTS[options.format];
  return options.refcounts === null ? title : `${title} ${options.refcounts}`;
}

/** Which QEMU the cell followed. */
export function profileOf({ like }: Pick<Cell, 'like'>): QemuProfileName {
  return like ?? UNNAMED_PROFILE;
}

/** One line that names the cell to a reader; defaults, and where times were taken, are left out. */
export function cellName(cell: Omit<Cell, 'device'>): string {
  const setup = SETUP_NAMES.filter((name) => name !== 'device' && !isUsual(cell, name));
  const texts = setup.map((name) => coordinateText(cell, name));
  return joined([cell.workload, variantName(cell), cell.cache, ...texts]);
}

/**
 * Names for cells of one list: as `cellName`, without what all cells of the list have in common,
 * but for workload, format and cache mode.
 */
export function namesAmong(cells: readonly CountedCell[]): (cell: CountedCell) => string {
  const varying = SETUP_NAMES.filter((name) => name !== 'device' && varies(cells, name));
  return (cell) => {
    const texts = varying.filter((name) => !isUsual(cell, name)).map((name) => coordinateText(cell, name));
    return joined([cell.workload, variantName(cell), cell.cache, ...texts]);
  };
}

/** The cell's values of `names`, as a title; a value that is absent is named too. */
export function setupTitle(cell: Cell, names: readonly CoordinateName[]): string {
  return joined(names.map((name) => coordinateText(cell, name) || (rulesOf(name).absentText ?? '')));
}

/** The value of a coordinate in words; `''` where there is none. */
function coordinateText(cell: Partial<Cell>, name: CoordinateName): string {
  const value = valueOf(cell, name);
  return value === undefined ? '' : rulesOf(name).text(value);
}

function isUsual(cell: Partial<Cell>, name: CoordinateName): boolean {
  const { usual, default: ofAbsent } = rulesOf(name);
  return valueOf(cell, name) === (usual ?? ofAbsent);
}

/** Whether cells whose formats have the coordinate differ in it. */
function varies(cells: readonly CountedCell[], name: CoordinateName): boolean {
  const values = cells.map((cell) => valueOf(cell, name));
  const example = values.find((value) => value !== undefined && value !== null);
  const own = values.filter((_, index) => {
    const { format } = cells[index] ?? {};
    return format !== undefined && (inFormat(name, example, format) ?? null) !== null;
  });
  return new Set(own.map((value) => JSON.stringify(ordered(value) ?? null))).size > 1;
}

function keyOf(cell: Partial<Cell>, names: readonly CoordinateName[]): string {
  const given = names.filter((name) => !isDefault(name, cell[name]));
  return JSON.stringify(given.map((name) => [name, ordered(cell[name])]));
}

function isDefault(name: CoordinateName, value: unknown): boolean {
  return value === undefined || value === rulesOf(name).default;
}

function isOptional(name: CoordinateName): boolean {
  return rulesOf(name).schema.safeParse(undefined).success;
}

/** The value given, or the default; `undefined` too where the format has no such coordinate. */
function valueOf(cell: Partial<Cell>, name: CoordinateName): unknown {
  return cell[name] ?? rulesOf(name).default;
}

function rulesOf(name: CoordinateName): Coordinate {
  return COORDINATES[name];
}

function joined(texts: readonly string[]): string {
  return texts.filter((text) => text !== '').join(' · ');
}

/** An object in an order that does not depend on how it was made. */
function ordered(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const entries: readonly (readonly [string, unknown])[] = Object.entries(value);
  return entries.toSorted(([a], [b]) => (a < b ? -1 : 1));
}
