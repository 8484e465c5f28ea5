/** Counts in text. */

/** `1,806`. */
export function groupedText(value: number): string {
  return value.toLocaleString('en-US');
}

/** `1 cell`, `1,806 cells`. */
export function countOf(count: number, noun: string, plural = `${noun}s`): string {
  return `${groupedText(count)} ${count === 1 ? noun : plural}`;
}
