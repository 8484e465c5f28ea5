/**
 * Where the program speaks: answers go to standard output, everything else (progress, notes, errors) to standard
 * error, so that a pipe gets answers alone.
 *
 * Invariants: colours only where a terminal shows them, unless NO_COLOR or FORCE_COLOR say otherwise; a reader
 * that went away (`| head`) ends no work and is no error.
 */

import { createColors } from 'picocolors';

type Colours = ReturnType<typeof createColors>;

export interface Terminal {
  /** What the program was called with, after its name. */
  readonly words: readonly string[];
  /** A text of the answer, with a line feed at its end added. */
  answer(text: string): void;
  /** A line beside the answer. */
  note(text: string): void;
  readonly errors: NodeJS.WriteStream;
  /** For the answer. */
  readonly paint: Colours;
  readonly hasColour: boolean;
  /** Columns; 100 where no terminal tells. */
  readonly width: number;
}

const WIDTH_WITHOUT_TERMINAL = 100;

export function openTerminal(words: readonly string[], environment: NodeJS.ProcessEnv): Terminal {
  const { stdout, stderr } = process;
  for (const stream of [stdout, stderr]) stream.on('error', ignoreGoneReader);
  const hasColour = wantsColour(environment, stdout);
  return {
    words,
    answer: (text) => stdout.write(`${text}\n`),
    note: (text) => stderr.write(`${text}\n`),
    errors: stderr,
    paint: createColors(hasColour),
    hasColour,
    width: stdout.isTTY ? stdout.columns : WIDTH_WITHOUT_TERMINAL,
  };
}

/** As https://no-color.org and https://force-color.org have it: set, and not empty. */
export function wantsColour(environment: NodeJS.ProcessEnv, stream: { readonly isTTY?: boolean }): boolean {
  const { NO_COLOR: no, FORCE_COLOR: force, TERM: kind } = environment;
  if (no !== undefined && no !== '') return false;
  if (force !== undefined && force !== '') return force !== '0';
  return stream.isTTY === true && kind !== 'dumb';
}

function ignoreGoneReader(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error;
}
