/** Which command the words of a command line name, and how its help names it. */

import { didYouMean } from '../core/nearest-name.ts';
import { COMMANDS } from './command-list.ts';
import type { CommandGroup, ListedCommand } from './grammar/command.ts';
import { isLiteral } from './grammar/literal-words.ts';
import { oneOf, UsageError } from './terminal/usage-error.ts';

export const PROGRAM = 'qcow2-bench';
const HELP = 'help';

export interface NamedCommand {
  /** With the word of its group. */
  readonly name: string;
  readonly listed: ListedCommand;
  readonly group: string | undefined;
}

/** The command that the words name; a group by itself is none. */
export function commandOf(words: readonly string[]): NamedCommand | undefined {
  const [first, second] = plainWords(words);
  const found = COMMANDS.find(({ usage }) => nameOf(usage) === first);
  if (first === undefined || found === undefined) return undefined;
  if (!('commands' in found)) return { name: first, listed: found, group: undefined };
  const listed = found.commands.find(({ usage }) => nameOf(usage) === second);
  return listed && { name: `${first} ${nameOf(listed.usage)}`, listed, group: first };
}

/** `--help`, or `-h`, which may be one of several letters. */
export function asksForHelp(word: string): boolean {
  return word === '--help' || /^-[^-]*h/.test(word);
}

export function asksForVersion(word: string): boolean {
  return word === '--version';
}

/** The group that the words name without naming one of its commands. */
function groupOf(words: readonly string[]): CommandGroup | undefined {
  const [first] = plainWords(words);
  const found = COMMANDS.find(({ usage }) => usage === first);
  return found !== undefined && 'commands' in found && commandOf(words) === undefined ? found : undefined;
}

/** `help run` is `run --help`. */
export function withoutHelpWord(words: readonly string[]): readonly string[] {
  return words[0] === HELP ? ['--help', ...words.slice(1)] : words;
}

/**
 * @throws UsageError unless the words name a command, or ask for the help of the program or a
 *   group.
 */
export function requireCommand(words: readonly string[]): void {
  const [first, second] = plainWords(words);
  const group = groupOf(words);
  if (first === undefined && words.some(isLiteral)) {
    const names = COMMANDS.map(({ usage }) => nameOf(usage));
    throw new UsageError(`no command is named before --; expected ${oneOf(names)}`);
  }
  const asksForWords = words.some((word) => asksForHelp(word) || asksForVersion(word));
  if (group !== undefined) {
    const names = group.commands.map(({ usage }) => nameOf(usage));
    const rest = `expected ${oneOf(names)}`;
    if (second !== undefined) {
      throw new UsageError(`unknown command '${group.usage} ${second}'${didYouMean(second, names)}; ${rest}`);
    }
    if (!asksForWords) throw new UsageError(`${group.usage} needs a command; ${rest}`);
  } else if (first !== undefined && commandOf(words) === undefined) {
    const names = COMMANDS.map(({ usage }) => nameOf(usage));
    throw new UsageError(
      `unknown command '${first}'${didYouMean(first, [...names, HELP])}; expected ${oneOf(names)}`,
    );
  }
}

/** `replay TRACE [options]`. */
export function usageText({ usage }: ListedCommand, group?: string): string {
  return `${group === undefined ? '' : `${group} `}${usage
    .replaceAll(/[<>]/g, '')
    .replaceAll('..', '...')
    .replaceAll(/\b(?<= |\[)[a-z]+/g, (name) => name.toUpperCase())} [options]`;
}

export function nameOf(usage: string): string {
  return usage.split(' ')[0] ?? usage;
}

function plainWords(words: readonly string[]): readonly string[] {
  return words.filter((word) => !word.startsWith('-') && !isLiteral(word));
}
