/** Examples at the end of a help text: each command on a line of its own, ready to be copied. */

const PROGRAM = 'qcow2-bench';

/** @param list the words after the program's name, and what they do. */
export function examples(list: readonly (readonly [words: string, meaning: string])[]): string {
  const lines = list.flatMap(([words, meaning]) => [`  # ${meaning}`, `  ${PROGRAM} ${words}`]);
  return ['Examples:', ...lines].join('\n');
}
