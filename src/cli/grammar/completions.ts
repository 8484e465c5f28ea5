/** What may come next on a command line that is being typed: for the completion of shells. */

import type { CommandGroup, ListedCommand } from './command.ts';
import { COMMON_OPTIONS, declaredOptions, type DeclaredOption } from './declared-options.ts';

/**
 * The candidates for the last of `words`, which may be empty; none where a file name or free text
 * goes.
 *
 * @param words what was typed after the name of the program.
 */
export async function completionsOf(
  commands: readonly (ListedCommand | CommandGroup)[],
  words: readonly string[],
): Promise<readonly string[]> {
  const last = words.at(-1) ?? '';
  const before = words.slice(0, -1);
  // Only file names and other free text come after `--`.
  if (before.includes('--')) return [];
  const plain = before.filter((word) => !word.startsWith('-') && word !== 'help');
  const [first, second] = plain;
  const named = commands.find(({ usage }) => nameOf(usage) === first);
  if (named === undefined) return first === undefined ? beginning(last, [...namesOf(commands), 'help']) : [];
  if (!('commands' in named)) return ofCommand(named, before, last);
  const inner = named.commands.find(({ usage }) => nameOf(usage) === second);
  if (inner === undefined) return second === undefined ? beginning(last, namesOf(named.commands)) : [];
  return ofCommand(inner, before, last);
}

async function ofCommand(
  listed: ListedCommand,
  before: readonly string[],
  last: string,
): Promise<readonly string[]> {
  const options = declaredOptions(await listed.load());
  const [, ownName, typed] = /^--([^=]+)=(.*)$/s.exec(last) ?? [];
  if (ownName !== undefined && typed !== undefined) {
    return ofValue(options.get(ownName), typed).map((value) => `--${ownName}=${value}`);
  }
  const previous = options.get((before.at(-1) ?? '').replace(/^--/, ''));
  if (before.at(-1)?.startsWith('--') === true && previous?.takesValue === true) {
    return ofValue(previous, last);
  }
  if (!last.startsWith('-')) return [];
  return beginning(
    last,
    [...options.keys(), ...COMMON_OPTIONS].map((name) => `--${name}`),
  );
}

/** Of a list the part after the last comma is completed, with values that are not in it yet. */
function ofValue(option: DeclaredOption | undefined, typed: string): readonly string[] {
  if (option === undefined) return [];
  if (!option.isList) return beginning(typed, option.values);
  const comma = typed.lastIndexOf(',') + 1;
  const taken = typed.slice(0, comma);
  const open = option.values.filter((value) => !taken.split(',').includes(value));
  return beginning(typed.slice(comma), open).map((value) => taken + value);
}

function beginning(typed: string, names: readonly string[]): readonly string[] {
  return names.filter((name) => name.startsWith(typed));
}

function namesOf(commands: readonly { readonly usage: string }[]): readonly string[] {
  return commands.map(({ usage }) => nameOf(usage));
}

function nameOf(usage: string): string {
  return usage.split(' ')[0] ?? usage;
}
