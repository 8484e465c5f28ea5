/** Errors of the command line itself: they name the option, what was given, and what is allowed. */

/** A usage error: one line, exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The error of the value of an option, or of an argument, whose name is then in capitals. */
export function badOption(option: string, given: string, allowed: string): UsageError {
  const name = /^[A-Z]/.test(option) ? option : `--${option}`;
  return new UsageError(`${name}: invalid value '${given}'; expected ${allowed}`);
}

/** The error of a size, which names the option or the argument beside the text. */
export function badSize(option: string, error: Error): UsageError {
  const name = /^[A-Z]/.test(option) ? option : `--${option}`;
  return new UsageError(`${name}: ${error.message}`);
}

/** `a, b or c`. */
export function oneOf(names: readonly string[]): string {
  if (names.length < 2) return names.join('');
  return `${names.slice(0, -1).join(', ')} or ${names.at(-1) ?? ''}`;
}
