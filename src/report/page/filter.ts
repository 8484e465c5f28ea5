/**
 * The filter of a page, in the manner of Playwright's report: words that all must match.
 *
 *     cache:none format:qcow2 !unsafe "boot from"
 *
 * `axis:value` keeps the cells with that value on the axis; several of one axis, or `axis:a,b`, keep
 * each. A word without an axis is searched for in every value of a cell. `!` excludes.
 *
 * A value is compared whole if an axis has it, else as a part: `cluster-size:4KiB` is not 64KiB, and
 * `cache:write` is writethrough and writeback.
 */

/** An axis as a filter needs it. */
export interface FilterAxis {
  readonly name: string;
  readonly values: readonly string[];
}

interface Term {
  /** `undefined`: any of them. */
  readonly axis: FilterAxis | undefined;
  readonly values: readonly string[];
  readonly isExcluded: boolean;
}

export interface Filter {
  readonly terms: readonly Term[];
  /** What is wrong with the text, a sentence each. */
  readonly problems: readonly string[];
}

export function parseFilter(text: string, axes: readonly FilterAxis[]): Filter {
  const terms: Term[] = [];
  const problems: string[] = [];
  for (const { isExcluded, name, value } of wordsOf(text)) {
    const axis = axes.find((each) => each.name === name?.toLowerCase());
    if (name !== undefined && axis === undefined) {
      problems.push(`No axis ${name}: here are ${axes.map((each) => each.name).join(', ')}.`);
      continue;
    }
    const values = axis === undefined ? [value.toLowerCase()] : value.toLowerCase().split(',');
    const given = values.filter((each) => each !== '');
    if (given.length > 0) terms.push({ axis, values: given, isExcluded });
  }
  return { terms, problems };
}

/** @param valueOf the value of a cell on an axis; `undefined` if its format does not have the axis. */
export function matches(
  { terms }: Filter,
  axes: readonly FilterAxis[],
  valueOf: (axis: FilterAxis) => string | undefined,
): boolean {
  const isMet = ({ axis, values }: Term): boolean => {
    if (axis !== undefined) return values.some((value) => isValue(axis, valueOf(axis), value));
    const [part = ''] = values;
    return axes.some((each) => valueOf(each)?.toLowerCase().includes(part) === true);
  };
  const excluded = terms.filter((term) => term.isExcluded);
  if (excluded.some(isMet)) return false;
  // Several terms of one axis: any of them.
  const groups = Map.groupBy(
    terms.filter((term) => !term.isExcluded),
    (term) => term.axis ?? term,
  );
  return [...groups.values()].every((group) => group.some(isMet));
}

function isValue({ values }: FilterAxis, own: string | undefined, wanted: string): boolean {
  if (own === undefined) return false;
  const isWhole = values.some((value) => value.toLowerCase() === wanted);
  return isWhole ? own.toLowerCase() === wanted : own.toLowerCase().includes(wanted);
}

/** The filter with a term of an axis added or, if it has that one, removed. */
export function toggled(text: string, axis: string, value: string): string {
  const term = termText(axis, value);
  const words = wordsIn(text);
  const others = words.filter((word) => word !== term);
  return (others.length < words.length ? others : [...words, term]).join(' ');
}

export function hasTerm(text: string, axis: string, value: string): boolean {
  return wordsIn(text).includes(termText(axis, value));
}

export function termText(axis: string, value: string): string {
  return `${axis}:${/[\s",!]/.test(value) ? `"${value.replaceAll('"', '')}"` : value}`;
}

/** `!`, an axis with its colon, a text in quotes or without. */
const WORD = /!?(?:[\w-]+:)?(?:"[^"]*"?|[^\s"]+)/g;
const PARTS = /^(!?)(?:([\w-]+):)?(.*)$/s;

function wordsIn(text: string): readonly string[] {
  return [...text.matchAll(WORD)].map(([word]) => word);
}

function* wordsOf(
  text: string,
): Generator<{ readonly isExcluded: boolean; readonly name: string | undefined; readonly value: string }> {
  for (const [word] of text.matchAll(WORD)) {
    const [, mark, name, rest = ''] = PARTS.exec(word) ?? [];
    yield { isExcluded: mark === '!', name, value: rest.replaceAll('"', '') };
  }
}
