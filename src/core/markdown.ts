/**
 * Markdown that is safe to paste: names from files make no markup, and a text has a limit.
 */

/** Under the 64 KiB of a comment on GitHub; a step summary may be longer. */
export const MARKDOWN_BYTES_MAX = 60_000;

/** A name may contain what Markdown takes for a cell border, a line, a mention or markup. */
export function escapeMarkdown(text: string): string {
  return text
    .replaceAll(/[\\|`*_<>[\]#~]/g, '\\$&')
    .replaceAll('@', '@\u2060')
    .replaceAll(/\s+/g, ' ');
}

/** Lines of a table; the first column to the left, the others to the right. */
export function markdownRows(
  head: readonly string[],
  rows: readonly (readonly string[])[],
): readonly string[] {
  const rule = head.map((_, column) => (column === 0 ? '---' : '---:'));
  return [head, rule, ...rows.map((row) => row.map(escapeMarkdown))].map(
    (cells) => `| ${cells.join(' | ')} |`,
  );
}

/**
 * The lines as one text, ended by a line feed. What exceeds the limit is left out and counted; a
 * `<details>` that is open there is closed.
 */
export function boundedMarkdown(lines: readonly string[], bytesMax = MARKDOWN_BYTES_MAX): string {
  const kept: string[] = [];
  let bytes = RESERVE_BYTES;
  let open = 0;
  for (const [index, line] of lines.entries()) {
    bytes += Buffer.byteLength(line) + 1;
    if (bytes > bytesMax) {
      const ends = Array.from({ length: open }, () => ['', '</details>']).flat();
      const left = (lines.length - index).toLocaleString('en-US');
      return `${[...kept, ...ends, '', `… and ${left} more lines.`].join('\n')}\n`;
    }
    if (line.startsWith('<details')) open++;
    if (line === '</details>') open--;
    kept.push(line);
  }
  return `${kept.join('\n').trimEnd()}\n`;
}

/** For what ends a text that was cut. */
const RESERVE_BYTES = 100;
