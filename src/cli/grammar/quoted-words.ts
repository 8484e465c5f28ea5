/** A command as it is copied into a shell. */

/** The program with its words, quoted where a shell needs it. */
export function quotedWords(words: readonly string[]): string {
  return ['qcow2-bench', ...words.map(quoted)].join(' ');
}

function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}
