/**
 * From the words of the command line to a command that was called, and from whatever comes of it to an exit code.
 *
 * Invariants: nothing is done before every word was understood; a failure is told in one line, without a stack
 * unless QCOW2_BENCH_DEBUG is set.
 */

import yargs, { type ArgumentsCamelCase, type Argv } from 'yargs';

import { harnessVersion } from '../bench/environment.ts';
import { Qcow2BenchError } from '../core/error.ts';
import { watchUnlockedWrites } from '../device/image-lock.ts';
import type { Command, CommandGroup, ListedCommand } from './command.ts';
import { COMMANDS } from './command-list.ts';
import { EXIT } from './exit-code.ts';
import { examples } from './examples.ts';
import { openTerminal, type Terminal } from './terminal.ts';
import { oneOf, UsageError } from './usage-error.ts';

const PROGRAM = 'qcow2-bench';
const HELP_WIDTH_MAX = 100;

/** Runs the program with the words after its name; answers the exit code. */
export async function runCommandLine(
  words: readonly string[],
  environment: NodeJS.ProcessEnv,
): Promise<number> {
  const terminal = openTerminal(words, environment);
  watchUnlockedWrites((path, reason) => {
    terminal.note(
      `${PROGRAM}: note: ${path} is not locked, as ${reason}: make sure that no other process uses it`,
    );
  });
  try {
    const called = await understand(words, terminal);
    return called === undefined ? EXIT.good : await called.command.call(called.args, terminal);
  } catch (error) {
    tell(error, terminal, environment);
    if (error instanceof UsageError) return usageExitCode(words);
    return isFailedVerification(error) ? EXIT.verdict : EXIT.error;
  }
}

/** Whether wrong data is what a run failed of. */
function isFailedVerification(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof Qcow2BenchError && cause.code === 'verify-mismatch') return true;
  }
  return false;
}

interface CalledCommand {
  readonly command: Command;
  readonly args: ArgumentsCamelCase;
}

/** The command that was called; `undefined` if help or the version was asked for, and given. */
async function understand(words: readonly string[], terminal: Terminal): Promise<CalledCommand | undefined> {
  let called: CalledCommand | undefined;
  const parser = yargs()
    .scriptName(PROGRAM)
    .locale('en')
    .parserConfiguration({
      'boolean-negation': false,
      'camel-case-expansion': false,
      'dot-notation': false,
      'parse-numbers': false,
      'parse-positional-numbers': false,
    })
    .usage(`${PROGRAM} COMMAND [options]\n\n${PURPOSE}`)
    .strict()
    .demandCommand(1)
    .recommendCommands()
    .exitProcess(false)
    .wrap(Math.min(HELP_WIDTH_MAX, terminal.width))
    .version('version', 'Print the version', harnessVersion())
    .help('help', 'Explain the command')
    .alias({ help: 'h' })
    .updateStrings({ 'Options:': 'Other:', 'Positionals:': 'Arguments:' })
    .epilogue(EPILOGUE)
    .fail((message, error) => {
      // The types promise an error; yargs gives one only where something threw.
      throw (error as Error | undefined) ?? new UsageError(message);
    });
  const onCall: OnCall = (command, args) => (called = { command, args });
  for (const listed of COMMANDS) {
    if ('commands' in listed) declareGroup(parser, listed, onCall);
    else declare(parser, listed, onCall);
  }
  try {
    await parser.parseAsync(withRealMinus(words), {}, (_error, _args, output) => {
      if (output !== '') terminal.answer(plainHelp(output));
    });
  } catch (error) {
    throw asUsageError(error, words);
  }
  return called;
}

/** `resize` takes sizes away: no option begins with a digit, and `-1GiB` is told from options by a real minus sign. */
function withRealMinus(words: readonly string[]): readonly string[] {
  if (commandOf(words)?.name !== 'resize') return words;
  return words.map((word) => (/^-\d/.test(word) ? `\u2212${word.slice(1)}` : word));
}

const PURPOSE =
  'Benchmarks and replays workloads on raw, qcow2 and QED images: counts every metadata write and every sync exactly, and times them.';

const EPILOGUE = [
  examples([
    ['bench', 'The whole suite: exact counts, times, charts, and an answer in words'],
    ['run --workload stride --format qcow2 --cache writethrough', 'One question: eager or lazy refcounts?'],
    ['create disk.qcow2 10GiB --refcounts lazy', 'An image to try things on'],
    ['run --help', 'What a command can do'],
  ]),
  '',
  'Exit codes: 0 good, 1 error, 2 usage, 3 regression, wrong data or parity mismatch, 130 interrupted.',
].join('\n');

type OnCall = (command: Command, args: ArgumentsCamelCase) => void;

function declareGroup(parser: Argv, group: CommandGroup, onCall: OnCall): void {
  const { usage, summary } = group;
  parser.command(usage, summary, (yargs) => {
    yargs.usage(`${PROGRAM} ${usage} COMMAND [options]\n\n${summary}.`).demandCommand(1).epilogue('');
    for (const listed of group.commands) declare(yargs, listed, onCall, usage);
  });
}

/** @param group the word before the command, of one that shares it. */
function declare(parser: Argv, listed: ListedCommand, onCall: OnCall, group?: string): void {
  parser.command({
    command: listed.usage,
    describe: listed.summary,
    builder: async (yargs) => {
      const { declare: declareOptions } = await listed.load();
      return declareOptions(yargs.usage(`${PROGRAM} ${usageText(listed, group)}\n\n${listed.summary}.`));
    },
    handler: async (args) => onCall(await listed.load(), args),
  });
}

/** Help as yargs lays it out, without what says nothing to a reader: every value is text to begin with. */
function plainHelp(output: string): string {
  return output
    .replaceAll(/\s*\[(?:string|boolean|array)\](?: \[default: (?:false|\[\])\])?/g, '')
    .replaceAll(/<\w+(?:\.\.)?>(?: (?:<\w+>|\[\w+\]))* */g, (whole) =>
      whole
        .trimEnd()
        .replaceAll(
          /<(\w+)(\.\.)?>/g,
          (_, name: string, dots?: string) => name + (dots === undefined ? '' : ' …'),
        )
        .toUpperCase()
        .padEnd(whole.length),
    );
}

/** `replay TRACE [options]`. */
function usageText({ usage }: ListedCommand, group?: string): string {
  return `${group === undefined ? '' : `${group} `}${usage
    .replaceAll(/[<>]/g, '')
    .replaceAll('..', '...')
    .replaceAll(/\b(?<= |\[)[a-z]+/g, (name) => name.toUpperCase())} [options]`;
}

/** What parsing throws is the user's to mend, and said in the program's words rather than those of yargs. */
function asUsageError(error: unknown, words: readonly string[]): unknown {
  if (error instanceof UsageError || !(error instanceof Error)) return reworded(error, words);
  // Reading a value throws our own error, of which yargs keeps the message only.
  return error.name === 'YError' ? reworded(new UsageError(error.message), words) : error;
}

function reworded(error: unknown, words: readonly string[]): unknown {
  if (!(error instanceof UsageError)) return error;
  const { message } = error;
  const group = groupOf(words);
  if (group !== undefined) return new UsageError(noCommandOf(group, words));
  const unknown = /^Unknown arguments?: (.+)$/.exec(message)?.[1];
  if (unknown !== undefined) {
    const [name = ''] = unknown.split(', ');
    const isOption = words.some(
      (word) => word.startsWith('-') && word.replace(/^-+/, '').split('=')[0] === name,
    );
    const what = isOption ? `there is no option --${name}` : `'${name}' is one argument too many`;
    const command = commandOf(words);
    if (command === undefined && !isOption) return new UsageError(noCommand(name));
    return new UsageError(`${what}; see ${helpOf(command)}`);
  }
  const lacking = /^Not enough arguments following: (.+)$/.exec(message)?.[1];
  if (lacking !== undefined) {
    const command = commandOf(words);
    return new UsageError(`--${lacking} needs a value; see ${helpOf(command)}`);
  }
  const required = /^Missing required arguments?: (.+)$/.exec(message)?.[1];
  if (required !== undefined) return new UsageError(`--${required.replaceAll(', ', ', --')} must be given`);
  if (message.startsWith('Not enough non-option arguments')) {
    const named = commandOf(words);
    if (named !== undefined) {
      const usage = usageText(named.listed, named.group);
      return new UsageError(`an argument is missing: ${PROGRAM} ${usage}`);
    }
    return new UsageError(`no command is named; it is one of ${oneOf(COMMAND_NAMES)}`);
  }
  const meant = /^Did you mean (.+)\?$/.exec(message)?.[1];
  if (meant !== undefined) {
    const given = words.find((word) => !word.startsWith('-')) ?? '';
    return new UsageError(`there is no command '${given}'; did you mean '${meant}'?`);
  }
  return error;
}

function helpOf(command: NamedCommand | undefined): string {
  return [PROGRAM, command?.name, '--help'].filter(Boolean).join(' ');
}

function noCommandOf({ usage: group, commands }: CommandGroup, words: readonly string[]): string {
  const names = commands.map(({ usage }) => nameOf(usage));
  const [, given] = words.filter((word) => !word.startsWith('-'));
  const which = given === undefined ? `${group} needs a command` : `there is no command '${group} ${given}'`;
  return `${which}; it is one of ${oneOf(names)}`;
}

function noCommand(given: string): string {
  return `there is no command '${given}'; it is one of ${oneOf(COMMAND_NAMES)}`;
}

const COMMAND_NAMES: readonly string[] = COMMANDS.map(({ usage }) => nameOf(usage));

function nameOf(usage: string): string {
  return usage.split(' ')[0] ?? usage;
}

interface NamedCommand {
  /** With the word of its group. */
  readonly name: string;
  readonly listed: ListedCommand;
  readonly group: string | undefined;
}

/** The command that the words name; a group by itself is none. */
function commandOf(words: readonly string[]): NamedCommand | undefined {
  const [first, second] = words.filter((word) => !word.startsWith('-'));
  const found = COMMANDS.find(({ usage }) => nameOf(usage) === first);
  if (first === undefined || found === undefined) return undefined;
  if (!('commands' in found)) return { name: first, listed: found, group: undefined };
  const listed = found.commands.find(({ usage }) => nameOf(usage) === second);
  return listed && { name: `${first} ${nameOf(listed.usage)}`, listed, group: first };
}

/** The group that the words name without naming one of its commands. */
function groupOf(words: readonly string[]): CommandGroup | undefined {
  const first = words.find((word) => !word.startsWith('-'));
  const found = COMMANDS.find(({ usage }) => usage === first);
  return found !== undefined && 'commands' in found && commandOf(words) === undefined ? found : undefined;
}

function usageExitCode(words: readonly string[]): number {
  return commandOf(words)?.listed.usageExitCode ?? EXIT.usage;
}

/** One line, whatever went wrong. */
function tell(error: unknown, terminal: Terminal, environment: NodeJS.ProcessEnv): void {
  const { QCOW2_BENCH_DEBUG: debug } = environment;
  const isExpected = error instanceof Qcow2BenchError || error instanceof UsageError;
  const message = error instanceof Error ? error.message : String(error);
  const line = message.replaceAll(/\s*\n\s*/g, ' ').trim();
  const hint = isExpected
    ? codeText(error)
    : ' (this is a defect of the program; QCOW2_BENCH_DEBUG=1 shows where)';
  terminal.note(`${PROGRAM}: error: ${line}${hint}`);
  if (debug !== undefined && debug !== '' && error instanceof Error) terminal.note(stackOf(error));
}

/** The stable code by which scripts, and a search, know an error: of what a run failed, not that it did. */
function codeText(error: Error): string {
  let code: string | undefined;
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof Qcow2BenchError) code = cause.code;
  }
  return code === undefined ? '' : ` [${code}]`;
}

function stackOf(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${stackOf(error.cause)}` : '';
  return `${error.stack ?? error.message}${cause}`;
}
