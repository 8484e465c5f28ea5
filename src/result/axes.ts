/**
 * The axes along which the cells of a result vary, with the words for their values: formats, cache
 * modes, and every coordinate of a setup, those that are objects by property.
 *
 * Invariant: two cells with the same text on every axis, and the same workload, have the same
 * counting coordinates.
 */

import { setupTitle, variantName } from './cell.ts';
import { COORDINATES, coordinateNames, type Coordinate, type CoordinateName } from './coordinates.ts';
import type { Cell } from './schema.ts';

export interface Axis {
  /** As filters write it: `cluster-size`. */
  readonly name: string;
  /** In a word or two: `Cluster size`. */
  readonly title: string;
  /** The coordinate that the values are of, and which of its properties. */
  readonly coordinate: CoordinateName;
  readonly part?: string;
  /** The cell's value in words, also where it is absent: `64KiB`, `preallocation off`. */
  readonly textOf: (cell: Cell) => string;
}

/** Depth means nothing without a backing file: they are one axis. */
const CHAIN: readonly CoordinateName[] = ['backing', 'backingDepth'];
/** A peer repeats the cells of the builtin engine; on the workload no value depends. */
const LEFT_OUT: readonly CoordinateName[] = ['engine', 'workload', ...CHAIN];

export const FORMAT_AXIS: Axis = {
  name: 'variant',
  title: COORDINATES.format.title,
  coordinate: 'format',
  textOf: variantName,
};
export const CACHE_AXIS: Axis = {
  name: 'cache',
  title: COORDINATES.cache.title,
  coordinate: 'cache',
  textOf: ({ cache }) => `cache=${cache}`,
};

/** All of them, in the order of the table; the workload has its own place. */
export const AXES: readonly Axis[] = [
  FORMAT_AXIS,
  CACHE_AXIS,
  ...coordinateNames(({ isPlace = false, affectsCounts }) => !isPlace && affectsCounts)
    .filter((name) => !LEFT_OUT.includes(name))
    .flatMap(axesOfCoordinate),
  {
    name: 'backing',
    title: 'Backing chain',
    coordinate: 'backing',
    textOf: (cell) => setupTitle(cell, CHAIN),
  },
];

/**
 * The axes that vary among cells, in the order of the table. Those of a setup vary only if cells of
 * one workload, format and cache mode have more than one value: that raw has no clusters is no
 * axis, nor that one workload has a backing file.
 */
export function varyingAxes(cells: readonly Cell[]): readonly Axis[] {
  const hasSeveral = ({ textOf }: Axis, among: readonly Cell[]): boolean =>
    new Set(among.map(textOf)).size > 1;
  const places = Map.groupBy(cells, (cell) =>
    JSON.stringify([cell.workload, FORMAT_AXIS.textOf(cell), CACHE_AXIS.textOf(cell)]),
  );
  return AXES.filter((axis) =>
    axis === FORMAT_AXIS || axis === CACHE_AXIS
      ? hasSeveral(axis, cells)
      : [...places.values()].some((among) => hasSeveral(axis, among)),
  );
}

function axesOfCoordinate(name: CoordinateName): readonly Axis[] {
  const coordinate: Coordinate = COORDINATES[name];
  const { title, parts } = coordinate;
  if (parts === undefined) {
    return [
      {
        name: nameOf(name),
        title,
        coordinate: name,
        textOf: (cell) => setupTitle(cell, [name]),
      },
    ];
  }
  return Object.entries(parts).map(([key, part]) => ({
    name: nameOf(key),
    title: part.title,
    coordinate: name,
    part: key,
    textOf: (cell) => {
      const value = new Map<string, unknown>(Object.entries(cell[name] ?? {})).get(key);
      return (value === undefined ? '' : part.text(value)) || part.absentText;
    },
  }));
}

/** `clusterSize` as options are written: `cluster-size`. */
function nameOf(property: string): string {
  return property.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
