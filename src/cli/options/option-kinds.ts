/**
 * The kinds of options there are, as yargs takes them: each says what it reads, so that the parsed
 * value has its type. Values are read by us alone; yargs hands over their text.
 */

import { choice, listOf, valuesOf, type ReadValue } from './option-values.ts';

/** An option with a value that we read. */
export interface ValueOption<T> {
  readonly type: 'string';
  readonly requiresArg: true;
  readonly describe: string;
  readonly coerce: (given: string | readonly string[]) => T;
}

export interface PresetOption<T> extends ValueOption<T> {
  readonly default: string;
  /** The default as help shows it. */
  readonly defaultDescription: string;
}

/** An option that may be left out; it is `undefined` then. */
export function optional<T>(describe: string, read: ReadValue<T>): ValueOption<T | undefined> {
  return { type: 'string', requiresArg: true, describe, coerce: lastOf(read) };
}

/** An option with a default, written as a user would. */
export function preset<T>(describe: string, read: ReadValue<T>, value: string): PresetOption<T> {
  return {
    type: 'string',
    requiresArg: true,
    describe,
    coerce: lastOf(read),
    default: value,
    defaultDescription: value,
  };
}

/** An option that one command takes one value of, and another a list. */
export interface OptionKind<T> {
  readonly describe: string;
  readonly read: ReadValue<T>;
}

export function kind<T>(describe: string, read: ReadValue<T>): OptionKind<T> {
  return { describe, read };
}

type ValueOf<Kind> = Kind extends OptionKind<infer T> ? T : never;

/** Options that may be left out, one value each. */
export function singles<Kinds extends Readonly<Record<string, OptionKind<unknown>>>>(
  kinds: Kinds,
): { readonly [Name in keyof Kinds]: ValueOption<ValueOf<Kinds[Name]> | undefined> } {
  const options = Object.entries(kinds).map(([name, { describe, read }]) => [name, optional(describe, read)]);
  // Each option reads what its kind reads.
  return Object.fromEntries(options) as {
    readonly [Name in keyof Kinds]: ValueOption<ValueOf<Kinds[Name]> | undefined>;
  };
}

/** The same options, with lists separated by commas. */
export function lists<Kinds extends Readonly<Record<string, OptionKind<unknown>>>>(
  kinds: Kinds,
): { readonly [Name in keyof Kinds]: ValueOption<readonly ValueOf<Kinds[Name]>[] | undefined> } {
  const listKinds = Object.entries(kinds).map(([name, { describe, read }]) => [
    name,
    kind(describe, listOf(name, read)),
  ]);
  // Each option reads a list of what its kind reads.
  return singles(Object.fromEntries(listKinds) as Readonly<Record<string, OptionKind<unknown>>>) as {
    readonly [Name in keyof Kinds]: ValueOption<readonly ValueOf<Kinds[Name]>[] | undefined>;
  };
}

/** An option with a list of names; default: all of them. */
export function listOption<T extends string>(
  option: string,
  names: readonly T[],
): PresetOption<readonly T[]> {
  const read = listOf(option, choice(option, names));
  return { ...preset(names.join(', '), read, names.join(',')), defaultDescription: 'all' };
}

/**
 * The same, where what was left out has to be distinguished from what was given; a command fills in
 * the default.
 */
export function withDefault<T>(
  option: ValueOption<T>,
  defaultDescription: string,
): ValueOption<T> & { readonly defaultDescription: string } {
  return { ...option, defaultDescription };
}

/** As `listOption`, but `undefined` if it is left out. */
export function openList<T extends string>(
  option: string,
  names: readonly T[],
  defaultDescription = 'all',
): ValueOption<readonly T[] | undefined> {
  return withDefault(optional(names.join(', '), listOf(option, choice(option, names))), defaultDescription);
}

/** Of an option that is given several times the last one counts. */
function lastOf<T>(read: ReadValue<T>): (given: string | readonly string[]) => T {
  const readLast = (given: string | readonly string[]): T =>
    read(typeof given === 'string' ? given : (given.at(-1) ?? ''));
  return Object.assign(readLast, valuesOf(read));
}

/** An option that may be given several times: all its values, in their order. */
export function repeated<T>(
  describe: string,
  read: ReadValue<T>,
): ValueOption<readonly T[]> & { readonly default: readonly string[] } {
  return {
    type: 'string',
    requiresArg: true,
    describe,
    default: [],
    coerce: Object.assign(
      (given: string | readonly string[]) => (typeof given === 'string' ? [given] : given).map(read),
      valuesOf(read),
    ),
  };
}

/** An option that is on or off; off unless it is given. */
export function flag(describe: string): {
  readonly type: 'boolean';
  readonly default: false;
  readonly describe: string;
} {
  return { type: 'boolean', default: false, describe };
}

/** The options under a heading of their own in the help. */
export function inGroup<Options extends Readonly<Record<string, object>>>(
  heading: string,
  options: Options,
): Options {
  const grouped = Object.entries(options).map(([name, option]) => [name, { ...option, group: heading }]);
  // The same names and kinds; only the heading was added.
  return Object.fromEntries(grouped) as Options;
}
