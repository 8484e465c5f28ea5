/**
 * The words of the command line and the working directory as the system has them. Node decodes both
 * as UTF-8 and puts U+FFFD for every byte that is not: such names would open no file, or another
 * one.
 *
 * Invariant: what Node decoded without loss is left as it is; where the system has no `/proc`, all
 * of it is.
 */

import { isDecodedWhole, nulTerminated, readFileSync, readlinkSync } from '../core/host-fs.ts';

/** The words after the program's name. */
export function hostWords(argv: readonly string[]): readonly string[] {
  const words = argv.slice(2);
  if (words.every(isDecodedWhole)) return words;
  try {
    return lastWords(readFileSync('/proc/self/cmdline'), words.length);
  } catch {
    return words;
  }
}

/** The last `count` words of a command line whose words each end with a NUL. */
export function lastWords(commandLine: Uint8Array, count: number): readonly string[] {
  const words = nulTerminated(commandLine);
  return words.slice(words.length - count);
}

/** Makes `process.cwd`, from which `node:path` resolves, keep the bytes of the directory's name. */
export function keepDirectoryBytes(): void {
  if (isDecodedWhole(process.cwd())) return;
  try {
    const directory = readlinkSync('/proc/self/cwd');
    process.cwd = () => directory;
  } catch {
    // Without /proc the directory keeps the name that Node gives it.
  }
}
