/**
 * The axes of a study by the names of the options that give their values: `cache`, `cluster-size`,
 * `preallocation`. `variant` is format and refcounts in one; `workload` has no option of its own in
 * a cell.
 *
 * Invariant: the text of a value is the one that the option takes, so that a study names values as
 * the command line does.
 */

import { formatSize } from '../core/size.ts';
import { variantName } from '../result/cell.ts';
import { COORDINATES, coordinateNames, type Coordinate } from '../result/coordinates.ts';
import type { Cell } from '../result/schema.ts';
import { DEFAULT_COMMIT_POLICY, FORMAT_FACTS } from '../result/vocabulary.ts';

/** The value of an axis that a cell does not have: clusters of raw. */
export const NO_VALUE = '–';

const NAMED: Readonly<Record<string, (cell: Cell) => unknown>> = {
  variant: variantName,
  commit: ({ format, commit = DEFAULT_COMMIT_POLICY }) =>
    FORMAT_FACTS[format].commitPolicies === undefined ? NO_VALUE : commit,
  'backing-depth': ({ backing, backingDepth }) => backingDepth ?? (backing === undefined ? 0 : 1),
};
/** Coordinates that are not axes of a study, as a device is where times were taken, or are above. */
const LEFT_OUT: readonly string[] = ['engine', 'device', 'backing', 'backingDepth', 'commit'];
const SIZES: readonly string[] = ['cluster-size', 'max-transfer'];
/** What an absent value means, where it is no `default`. */
const DEFAULTS: Readonly<Record<string, string>> = {
  'cluster-size': NO_VALUE,
  refcounts: NO_VALUE,
  discard: 'unmap',
  preallocation: 'off',
  'extended-l2': 'off',
  'discard-no-unref': 'off',
  'data-file': 'none',
  compat: '1.1',
  'refcount-bits': '16',
  'compression-type': 'zlib',
  'host-fs': 'directory',
  'node-size': '4096',
  overlap: 'off',
  payload: 'pattern',
};

type ReadAxis = (cell: Cell) => unknown;
type AxisValue = string | number | boolean | null | undefined;

const AXES: ReadonlyMap<string, ReadAxis> = new Map([
  ...Object.entries(NAMED),
  ...coordinateNames(() => true)
    .filter((name) => !LEFT_OUT.includes(name))
    .flatMap((name): [string, ReadAxis][] => {
      const { parts }: Coordinate = COORDINATES[name];
      if (parts === undefined) return [[kebab(name), (cell) => cell[name]]];
      return Object.keys(parts).map((part) => [
        kebab(part),
        (cell) => new Map<string, unknown>(Object.entries(cell[name] ?? {})).get(part),
      ]);
    }),
]);

/** The names of all axes. */
export const AXIS_NAMES: readonly string[] = [...AXES.keys()];

/** The cell's value on the axis, as its option takes it. */
export function axisValue(cell: Cell, axis: string): string {
  // Coordinates, and parts of those that are objects, are values of these kinds.
  const value = AXES.get(axis)?.(cell) as AxisValue;
  if (value === undefined || value === null) return DEFAULTS[axis] ?? 'default';
  if (typeof value === 'boolean') return value ? 'on' : 'off';
  if (typeof value === 'string') return value;
  const isSize = SIZES.includes(axis) || axis.includes('cache-');
  return isSize ? formatSize(value) : String(value);
}

/**
 * The axes on which the cells differ, in the order of the table. That a format has no clusters is no
 * difference of its own.
 */
export function varyingAxes(cells: readonly Cell[]): readonly string[] {
  const names = AXIS_NAMES.filter((axis) => {
    const values = new Set(cells.map((cell) => axisValue(cell, axis)));
    values.delete(NO_VALUE);
    return values.size > 1;
  });
  // Format and refcounts are one axis, unless only one of them varies.
  const isOne = names.includes('format') && names.includes('refcounts');
  return names.filter((axis) => (isOne ? axis !== 'format' && axis !== 'refcounts' : axis !== 'variant'));
}

function kebab(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
