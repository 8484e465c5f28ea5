/**
 * Words of the command line that are arguments whatever they begin with: all after `--`, and the
 * negative sizes of `resize`.
 *
 * Invariant: they reach yargs, which fills arguments only from what comes before `--`, with a mark
 * in front that no word of a command line can hold; it is taken off again before a command or a
 * message gets them.
 */

const END_OF_OPTIONS = '--';
const MARK = '\0';

/** The words with `--` taken out and all after it marked. */
export function withLiteralWords(words: readonly string[]): readonly string[] {
  const end = words.indexOf(END_OF_OPTIONS);
  return end < 0 ? words : [...words.slice(0, end), ...words.slice(end + 1).map(literalWord)];
}

export function literalWord(word: string): string {
  return MARK + word;
}

export function isLiteral(word: string): boolean {
  return word.startsWith(MARK);
}

/** A text of yargs, or one value, without marks. */
export function withoutMarks(text: string): string {
  return text.replaceAll(MARK, '');
}

/** The words with more options, which go before `--`. */
export function withOptions(words: readonly string[], ...options: readonly string[]): readonly string[] {
  const end = words.indexOf(END_OF_OPTIONS);
  return end < 0 ? [...words, ...options] : words.toSpliced(end, 0, ...options);
}
