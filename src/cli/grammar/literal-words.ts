/**
 * Words of the command line that are arguments whatever they begin with: all after `--`, `-` by
 * itself, and the negative sizes of `resize`.
 *
 * Invariant: they reach yargs, which fills arguments only from what comes before `--`, with a mark
 * in front that no word of a command line can hold; it is taken off again before a command or a
 * message gets them.
 */

const END_OF_OPTIONS = '--';
/** Standard input; yargs takes it for an empty word. After an option it may be its value. */
const DASH = '-';
const MARK = '\0';

/** The words with `--` taken out, and all after it and every lone `-` marked. */
export function withLiteralWords(words: readonly string[]): readonly string[] {
  const end = words.indexOf(END_OF_OPTIONS);
  const before = end < 0 ? words : words.slice(0, end);
  return [
    ...before.map((word, at) =>
      word === DASH && before[at - 1]?.startsWith('-') !== true ? literalWord(word) : word,
    ),
    ...(end < 0 ? [] : words.slice(end + 1).map(literalWord)),
  ];
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
