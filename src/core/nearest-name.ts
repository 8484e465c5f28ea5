/** The name that a user who wrote another one probably meant. */

/** One letter in this many may be wrong; of a short name one. */
const LETTERS_PER_MISTAKE = 3;
/** Longer texts are no misspelt names; this bounds the work. */
const LENGTH_MAX = 64;

/** A shorter beginning of a name fits too many. */
const BEGINNING_MIN = 3;

/**
 * The nearest of `names`, if it is near enough to be meant: few letters wrong, missing, added or
 * swapped, or the only one that begins as the given one does.
 */
export function nearestName(given: string, names: readonly string[]): string | undefined {
  if (given.length > LENGTH_MAX) return undefined;
  let nearest: string | undefined;
  let fewest = Math.max(1, Math.floor(given.length / LETTERS_PER_MISTAKE)) + 1;
  for (const name of names) {
    const mistakes = mistakesBetween(given.toLowerCase(), name.toLowerCase());
    if (mistakes >= fewest) continue;
    fewest = mistakes;
    nearest = name;
  }
  return nearest ?? begunName(given.toLowerCase(), names);
}

function begunName(given: string, names: readonly string[]): string | undefined {
  if (given.length < BEGINNING_MIN) return undefined;
  const begun = names.filter((name) => name.toLowerCase().startsWith(given));
  return begun.length === 1 ? begun[0] : undefined;
}

/** ` (did you mean 'stride'?)`, or nothing where no name is near. */
export function didYouMean(given: string, names: readonly string[]): string {
  const name = nearestName(given, names);
  return name === undefined ? '' : ` (did you mean '${name}'?)`;
}

/**
 * Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours, row by
 * row.
 */
function mistakesBetween(one: string, other: string): number {
  let beforeLast: readonly number[] = [];
  let last: readonly number[] = Array.from({ length: other.length + 1 }, (_, column) => column);
  for (let row = 1; row <= one.length; row++) {
    const next = [row];
    for (let column = 1; column <= other.length; column++) {
      const isSame = one[row - 1] === other[column - 1];
      const isSwap =
        row > 1 && column > 1 && one[row - 1] === other[column - 2] && one[row - 2] === other[column - 1];
      next.push(
        Math.min(
          at(last, column) + 1,
          at(next, column - 1) + 1,
          at(last, column - 1) + (isSame ? 0 : 1),
          isSwap ? at(beforeLast, column - 2) + 1 : Infinity,
        ),
      );
    }
    beforeLast = last;
    last = next;
  }
  return at(last, other.length);
}

function at(row: readonly number[], column: number): number {
  return row[column] ?? Infinity;
}
