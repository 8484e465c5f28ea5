/**
 * The program's outputs: answers go to standard output, everything else (progress, notes, errors)
 * to standard error, so that a pipe gets answers alone.
 *
 * Invariants: foreign text is escaped here on its way out (`core/visible-text`), so that only the
 * program's own colours reach a terminal as escape sequences; colours only where a terminal shows
 * them, unless NO_COLOR or FORCE_COLOR say otherwise; a reader that went away (`| head`) ends no
 * work and is no error; any other failure of standard output is the error of the command.
 */

import { randomUUID } from 'node:crypto';
import { fstatSync, writeSync } from 'node:fs';

import { Qcow2BenchError, systemCode } from '../../core/error.ts';
import { visibleLines } from '../../core/visible-text.ts';
import { meaningOf } from './system-failure.ts';

const STYLES = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  magenta: [35, 39],
  cyan: [36, 39],
} as const;

/** Functions that put a text into a style. Styles do not nest. */
export type Paint = Readonly<Record<keyof typeof STYLES, (text: string) => string>>;

export interface Terminal {
  /** What the program was called with, after its name. */
  readonly argv: readonly string[];
  /**
   * A text of the answer, of one line or several, on standard output; a line feed is added at its
   * end.
   */
  print(text: string): void;
  /** A line beside the answer, on standard error. */
  warn(text: string): void;
  /** For progress: what is written there is not escaped. */
  readonly errors: NodeJS.WriteStream;
  /** For the answer alone. */
  readonly paint: Paint;
  readonly hasColour: boolean;
  /** Columns; 100 if there is no terminal. */
  readonly width: number;
  /**
   * Resolves when all answers are out.
   *
   * @throws Qcow2BenchError `output-failed` if one could not be written.
   */
  finish(): Promise<void>;
}

const WIDTH_WITHOUT_TERMINAL = 100;

export function openTerminal(argv: readonly string[], environment: NodeJS.ProcessEnv): Terminal {
  const { stdout, stderr } = process;
  const hasColour = wantsColour(environment, stdout);
  // Marks the beginning of an escape sequence until the text around it is escaped: no foreign text
  // can hold it.
  const mark = randomUUID();
  const answers = answersTo(stdout);
  // There is no place left to report it.
  stderr.on('error', () => undefined);
  return {
    argv,
    print: (text) => answers.write(`${visibleLines(text).replaceAll(mark, '\u001b[')}\n`),
    warn: (text) => stderr.write(`${visibleLines(text)}\n`),
    errors: stderr,
    paint: paintWith(hasColour ? mark : undefined),
    hasColour,
    width: stdout.isTTY ? stdout.columns : WIDTH_WITHOUT_TERMINAL,
    finish: () => answers.finish(),
  };
}

function paintWith(mark: string | undefined): Paint {
  const styles = Object.entries(STYLES).map(([name, [on, off]]) => [
    name,
    (text: string) => (mark === undefined ? text : `${mark}${String(on)}m${text}${mark}${String(off)}m`),
  ]);
  // The names are those of STYLES.
  return Object.fromEntries(styles) as Paint;
}

/** As https://no-color.org and https://force-color.org have it: set, and not empty. */
export function wantsColour(environment: NodeJS.ProcessEnv, stream: { readonly isTTY?: boolean }): boolean {
  const { NO_COLOR: no, FORCE_COLOR: force, TERM: kind } = environment;
  if (no !== undefined && no !== '') return false;
  if (force !== undefined && force !== '') return force !== '0';
  return stream.isTTY === true && kind !== 'dumb';
}

/** What the types do not say: standard streams have a descriptor, whatever is behind them. */
type Output = NodeJS.WriteStream & { readonly fd: number };

interface Answers {
  write(text: string): void;
  finish(): Promise<void>;
}

/** Standard output, with its first failure kept until the end. */
function answersTo(stream: Output): Answers {
  let failure: Error | undefined;
  stream.on('error', (error: Error) => {
    failure ??= error;
  });
  let isWritten = false;
  const isFile = isRegularFile(stream.fd);
  return {
    write: (text) => {
      // After a failure the file has a gap: nothing more goes there.
      if (failure !== undefined) return;
      isWritten = true;
      if (!isFile) {
        stream.write(text);
        return;
      }
      try {
        writeWhole(stream.fd, Buffer.from(text));
      } catch (error) {
        failure = error instanceof Error ? error : new Error(String(error));
      }
    },
    finish: async () => {
      if (stream.writableLength > 0) await new Promise<void>((resolve) => stream.write('', () => resolve()));
      // A failed write is reported in a separate event, after the write.
      if (isWritten) await new Promise(setImmediate);
      if (failure === undefined || systemCode(failure) === 'EPIPE') return;
      throw new Qcow2BenchError(
        'output-failed',
        `cannot write to standard output: ${meaningOf(failure)}`,
        {},
        failure,
      );
    },
  };
}

/**
 * Node's stream does one system call for a text, and drops the rest where a full disk takes a part
 * of it.
 */
function writeWhole(fd: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.byteLength;) done += writeSync(fd, bytes, done);
}

function isRegularFile(fd: number): boolean {
  try {
    return fstatSync(fd).isFile();
  } catch {
    return false;
  }
}
