/** Translates yargs' parsing errors to our own messages. */

import { didYouMean } from '../core/nearest-name.ts';
import { COMMANDS } from './command-list.ts';
import { COMMON_OPTIONS, declaredOptions } from './grammar/declared-options.ts';
import { withoutMarks } from './grammar/literal-words.ts';
import { commandOf, nameOf, PROGRAM, usageText, type NamedCommand } from './named-command.ts';
import { oneOf, UsageError } from './terminal/usage-error.ts';

/** The error to report for one that parsing threw. */
export async function parsingError(error: unknown, words: readonly string[]): Promise<unknown> {
  if (error instanceof UsageError) return reworded(error, words);
  // Reading a value throws our own error, of which yargs keeps the message only.
  const isOfYargs = error instanceof Error && error.name === 'YError';
  return isOfYargs ? reworded(new UsageError(error.message), words) : error;
}

async function reworded(error: UsageError, words: readonly string[]): Promise<UsageError> {
  const { message } = error;
  const command = commandOf(words);
  const unknown = /^Unknown arguments?: (.+)$/s.exec(message)?.[1];
  if (unknown !== undefined) return unknownArgument(unknown, words, command);
  const lacking = /^Not enough arguments following: (.+)$/s.exec(message)?.[1];
  if (lacking !== undefined) return new UsageError(`--${lacking} needs a value; see ${helpOf(command)}`);
  const required = /^Missing required arguments?: (.+)$/s.exec(message)?.[1];
  if (required !== undefined) return new UsageError(`--${required.replaceAll(', ', ', --')} is required`);
  if (!message.startsWith('Not enough non-option arguments')) return error;
  if (command === undefined) {
    const names = COMMANDS.map(({ usage }) => nameOf(usage));
    return new UsageError(`no command given; expected ${oneOf(names)}`);
  }
  return new UsageError(`an argument is missing: ${PROGRAM} ${usageText(command.listed, command.group)}`);
}

async function unknownArgument(
  unknown: string,
  words: readonly string[],
  command: NamedCommand | undefined,
): Promise<UsageError> {
  // An option with a name of its own holds no comma; yargs joins several by commas.
  const [name = ''] = unknown.split(', ');
  const isOption = words.some((word) => word.startsWith('-') && optionName(word) === name);
  const see = `see ${helpOf(command)}`;
  if (!isOption) return new UsageError(`'${withoutMarks(name)}' is an extra argument; ${see}`);
  const hint = didYouMean(`--${name}`, await optionsOf(command));
  return new UsageError(`unknown option --${name}${hint}; ${see}`);
}

async function optionsOf(command: NamedCommand | undefined): Promise<readonly string[]> {
  const own = command === undefined ? [] : declaredOptions(await command.listed.load()).keys();
  return [...own, ...COMMON_OPTIONS].map((name) => `--${name}`);
}

function optionName(word: string): string | undefined {
  return word.replace(/^-+/, '').split('=')[0];
}

function helpOf(command: NamedCommand | undefined): string {
  return [PROGRAM, command?.name, '--help'].filter(Boolean).join(' ');
}
