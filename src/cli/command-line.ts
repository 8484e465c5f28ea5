/**
 * From the words of the command line to a command that was called, and from whatever comes of it to
 * an exit code.
 *
 * What help and the version do not need is imported where it is needed: every start would take
 * longer for it.
 *
 * Invariants: nothing is done before every word was understood; a failure is reported in one line,
 * without a stack unless QCOW2_BENCH_DEBUG is set.
 */

import type { ArgumentsCamelCase, Argv } from 'yargs';

import { harnessVersion } from '../bench/harness-version.ts';
import { firstError, Qcow2BenchError } from '../core/error.ts';
import { withSwitchValues } from './grammar/bare-switches.ts';
import type { Command, CommandGroup, ListedCommand } from './grammar/command.ts';
import { COMMANDS } from './command-list.ts';
import { EXIT } from './terminal/exit-code.ts';
import { literalWord, withLiteralWords, withoutMarks } from './grammar/literal-words.ts';
import { overview } from './grammar/overview.ts';
import {
  asksForHelp,
  asksForVersion,
  commandOf,
  PROGRAM,
  requireCommand,
  usageText,
  withoutHelpWord,
} from './named-command.ts';
import { systemFailure } from './terminal/system-failure.ts';
import { openTerminal, type Terminal } from './terminal/terminal.ts';
import { UsageError } from './terminal/usage-error.ts';

/** Codes of errors in the value of an option, which only a look at files can find. */
const USAGE_CODES: readonly string[] = ['unknown-workload', 'unknown-study'];
const HELP_WIDTH_MAX = 100;

/** Runs the program with the words after its name; answers the exit code. */
export async function runCommandLine(
  given: readonly string[],
  environment: NodeJS.ProcessEnv,
): Promise<number> {
  const words = withoutHelpWord(given);
  const terminal = openTerminal(words, environment);
  await traceIfAsked(environment, terminal);
  let code = await runWords(
    withSwitchValues(withNegativeSizes(withLiteralWords(words))),
    terminal,
    environment,
  );
  try {
    await terminal.finish();
  } catch (error) {
    report(error, terminal, environment);
    if (code === EXIT.good) code = EXIT.error;
  }
  return code;
}

/** `QCOW2_BENCH_TRACE=1`: for debugging, loaded only then. */
async function traceIfAsked(
  { QCOW2_BENCH_TRACE: trace }: NodeJS.ProcessEnv,
  terminal: Terminal,
): Promise<void> {
  if (trace === undefined || trace === '') return;
  const { traceSteps } = await import('../bench/step-trace.ts');
  traceSteps((line) => {
    terminal.warn(line);
  });
}

async function runWords(
  words: readonly string[],
  terminal: Terminal,
  environment: NodeJS.ProcessEnv,
): Promise<number> {
  try {
    const called = await understand(words, terminal);
    if (called === undefined) return EXIT.good;
    await noteUnlockedWrites(terminal);
    return await called.command.call(called.args, terminal);
  } catch (error) {
    report(error, terminal, environment);
    if (isUsageError(error)) return usageExitCode(words);
    return isFailedVerification(error) ? EXIT.verdict : EXIT.error;
  }
}

async function noteUnlockedWrites(terminal: Terminal): Promise<void> {
  const { watchUnlockedWrites } = await import('../device/image-lock.ts');
  watchUnlockedWrites((path, reason) => {
    terminal.warn(
      `${PROGRAM}: note: ${path} is not locked (${reason}): make sure that no other process uses it`,
    );
  });
}

function isUsageError(error: unknown): boolean {
  return (
    error instanceof UsageError || (error instanceof Qcow2BenchError && USAGE_CODES.includes(error.code))
  );
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
  requireCommand(words);
  const width = Math.min(HELP_WIDTH_MAX, terminal.width);
  if (asksForProgram(words, asksForHelp)) {
    terminal.print(overview(PROGRAM, COMMANDS, width));
    return undefined;
  }
  if (asksForProgram(words, asksForVersion)) {
    terminal.print(harnessVersion());
    return undefined;
  }
  const { default: yargs } = await import('yargs');
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
    .usage(`${PROGRAM} COMMAND [options]`)
    .strict()
    .demandCommand(1)
    .exitProcess(false)
    .wrap(width)
    .version('version', 'Print the version', harnessVersion())
    .help('help', 'Show this help')
    .alias({ help: 'h' })
    .updateStrings({ 'Options:': 'Other:', 'Positionals:': 'Arguments:' })
    .fail((message, error) => {
      // The types promise an error; yargs gives one only where something threw.
      throw (error as Error | undefined) ?? new UsageError(message);
    });
  const declaring: Declaring = {
    onCall: (command, args) => (called = { command, args }),
    mayShowHelp: words.some((word) => asksForHelp(word) || word.startsWith('--h')),
  };
  for (const listed of COMMANDS) {
    if ('commands' in listed) declareGroup(parser, listed, declaring);
    else declare(parser, listed, declaring);
  }
  try {
    await parser.parseAsync([...words], {}, (_error, _args, output) => {
      if (output !== '') terminal.print(plainHelp(output));
    });
  } catch (error) {
    const { parsingError } = await import('./parsing-error.ts');
    throw await parsingError(error, words);
  }
  return called;
}

/** Whether one of the words asks, and none names a command. */
function asksForProgram(words: readonly string[], asks: (word: string) => boolean): boolean {
  return words.every((word) => word.startsWith('-')) && words.some(asks);
}

/** `resize` takes sizes away, as in `-1GiB`; no option begins with a digit. */
function withNegativeSizes(words: readonly string[]): readonly string[] {
  if (commandOf(words)?.name !== 'resize') return words;
  return words.map((word) => (/^-\d/.test(word) ? literalWord(word) : word));
}

interface Declaring {
  readonly onCall: (command: Command, args: ArgumentsCamelCase) => void;
  /**
   * yargs lays out the help of each command that it calls, even if it shows none: that takes longer
   * than all else up to the call. Where this is false, options are hidden from it.
   */
  readonly mayShowHelp: boolean;
}

function declareGroup(parser: Argv, group: CommandGroup, declaring: Declaring): void {
  const { usage, summary } = group;
  parser.command(usage, summary, (yargs) => {
    yargs.usage(`${PROGRAM} ${usage} COMMAND [options]\n\n${summary}.`).demandCommand(1).epilogue('');
    for (const listed of group.commands) declare(yargs, listed, declaring, usage);
  });
}

/** @param group the word before the command, of one that shares it. */
function declare(
  parser: Argv,
  listed: ListedCommand,
  { onCall, mayShowHelp }: Declaring,
  group?: string,
): void {
  parser.command({
    command: listed.usage,
    describe: listed.summary,
    builder: async (yargs) => {
      const command = await listed.load();
      command.declare(yargs.usage(`${PROGRAM} ${usageText(listed, group)}\n\n${listed.summary}.`));
      if (!mayShowHelp) {
        const { declaredOptions } = await import('./grammar/declared-options.ts');
        for (const name of declaredOptions(command).keys()) yargs.hide(name);
      }
      return yargs;
    },
    handler: async (args) => onCall(await listed.load(), withoutMarksIn(args)),
  });
}

/** Only arguments, which are texts or lists of texts, are marked. */
function withoutMarksIn(args: ArgumentsCamelCase): ArgumentsCamelCase {
  const plain = Object.entries(args).map(([name, value]) => {
    if (Array.isArray(value)) return [name, value.map((each: unknown) => plainValue(each))];
    return [name, plainValue(value)];
  });
  return Object.fromEntries(plain) as ArgumentsCamelCase;
}

function plainValue(value: unknown): unknown {
  return typeof value === 'string' ? withoutMarks(value) : value;
}

/**
 * Help as yargs lays it out, without what says nothing to a reader: every value is text to begin
 * with.
 */
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

function usageExitCode(words: readonly string[]): number {
  return commandOf(words)?.listed.usageExitCode ?? EXIT.usage;
}

/** One line, whatever went wrong. */
function report(error: unknown, terminal: Terminal, environment: NodeJS.ProcessEnv): void {
  const { QCOW2_BENCH_DEBUG: debug } = environment;
  const { message, hint } = described(firstError(error));
  const line = message.replaceAll(/\s*\n\s*/g, ' ').trim();
  terminal.warn(`${PROGRAM}: error: ${line}${hint}`);
  if (debug !== undefined && debug !== '' && error instanceof Error) terminal.warn(stackOf(error));
}

function described(error: unknown): { readonly message: string; readonly hint: string } {
  if (error instanceof Qcow2BenchError || error instanceof UsageError) {
    return { message: error.message, hint: codeText(error) };
  }
  const failure = systemFailure(error);
  if (failure !== undefined) return { message: failure, hint: ' [system-error]' };
  return {
    message: error instanceof Error ? error.message : String(error),
    hint: ' (this is a bug in qcow2-bench; set QCOW2_BENCH_DEBUG=1 for the stack trace)',
  };
}

/**
 * The stable code by which scripts, and a search, know an error: of what a run failed, not that it
 * did.
 */
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
