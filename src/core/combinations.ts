/** Combinations of values: one of each list. */

/**
 * A list of values for each property; a property that is absent or `undefined` is absent from the
 * combinations.
 */
export type Choices<Point extends object> = {
  readonly [Name in keyof Point]: readonly Point[Name][] | undefined;
};

/** How many combinations `combinations` gives. */
export function combinationCount<Point extends object>(choices: Choices<Point>): number {
  return listsOf(choices).reduce((count, [, values]) => count * values.length, 1);
}

/**
 * Every combination of one value of each list, in the order of the lists and their values: the last
 * list varies fastest. Without lists there is one combination, without properties.
 */
export function* combinations<Point extends object>(choices: Choices<Point>): Generator<Point, undefined> {
  yield* combine<Point>(listsOf(choices), []);
}

type List = readonly [name: string, values: readonly unknown[]];

function listsOf(choices: object): readonly List[] {
  const lists: readonly (readonly [string, readonly unknown[] | undefined])[] = Object.entries(choices);
  return lists.flatMap(([name, values]): readonly List[] => (values === undefined ? [] : [[name, values]]));
}

function* combine<Point extends object>(
  [list, ...others]: readonly List[],
  chosen: readonly (readonly [string, unknown])[],
): Generator<Point, undefined> {
  if (list === undefined) {
    // One value of each list that was given.
    yield Object.fromEntries(chosen) as Point;
    return undefined;
  }
  const [name, values] = list;
  for (const value of values) yield* combine<Point>(others, [...chosen, [name, value]]);
  return undefined;
}
