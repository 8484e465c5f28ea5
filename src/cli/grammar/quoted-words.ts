/** A command as it is copied into a shell. */

import { shellWord } from '../../core/shell-word.ts';

/** The program with its words, quoted where a shell needs it. */
export function quotedWords(words: readonly string[]): string {
  return ['qcow2-bench', ...words.map(shellWord)].join(' ');
}
