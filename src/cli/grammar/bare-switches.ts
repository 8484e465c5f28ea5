/**
 * Options that take `on` or `off`, or a list of both, and mean `on` where no such value follows
 * them: `--extended-l2`, `--extended-l2 off,on`.
 */

export const BARE_SWITCHES: readonly string[] = ['discard-no-unref', 'extended-l2', 'overlap'];

const ON_OFF = /^(?:on|off)(?:,(?:on|off))*$/;

/** The words with `on` where a switch has no value, so that the next word is not taken for it. */
export function withSwitchValues(words: readonly string[]): readonly string[] {
  return words.map((word, index) => {
    const isBare =
      word.startsWith('--') && BARE_SWITCHES.includes(word.slice(2)) && !ON_OFF.test(words[index + 1] ?? '');
    return isBare ? `${word}=on` : word;
  });
}
