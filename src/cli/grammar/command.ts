/**
 * What a command of the program is: its options, and the work behind them.
 *
 * Invariant: the list of commands names them and says what they do without loading them, so that
 * help and errors come at once; a command's file, and what it needs, is loaded when it is called.
 */

import type { ArgumentsCamelCase, Argv } from 'yargs';

import { checkFiles, type FileUse } from '../options/file-uses.ts';
import type { Terminal } from '../terminal/terminal.ts';

export interface Command {
  /** Declares options and arguments, and gives the parsed ones to `call`. */
  readonly declare: (yargs: Argv) => Argv;
  /** Does the work; answers the exit code. */
  readonly call: (args: ArgumentsCamelCase, terminal: Terminal) => Promise<number>;
}

/** A command whose work gets its options with their types. */
export function defineCommand<Options>(command: {
  readonly options: (yargs: Argv) => Argv<Options>;
  /** Every file that the options and arguments name; checked before `run`. */
  readonly files: (args: Options) => readonly FileUse[];
  readonly run: (args: Options, terminal: Terminal) => Promise<number>;
}): Command {
  return {
    declare: (yargs) => command.options(yargs),
    call: async (given, terminal) => {
      const overwrite = given['overwrite'] === true || given['force'] === true;
      // What yargs parsed by `options` has the type that `options` declares.
      const args = Object.assign(given as ArgumentsCamelCase & Options, { overwrite });
      await checkFiles(command.files(args), { overwrite });
      return command.run(args, terminal);
    },
  };
}

/** A command as the help of the whole program lists it. */
export interface ListedCommand {
  /** Of the first of several commands: their heading. */
  readonly heading?: string;
  /** Name and positional arguments, as yargs takes them. */
  readonly usage: string;
  /** One line. */
  readonly summary: string;
  /** What a misuse exits with, where that is not 2. */
  readonly usageExitCode?: number;
  readonly load: () => Promise<Command>;
}

/** Commands that share their first word. */
export interface CommandGroup {
  readonly heading?: string;
  /** That word. */
  readonly usage: string;
  readonly summary: string;
  readonly commands: readonly ListedCommand[];
}
