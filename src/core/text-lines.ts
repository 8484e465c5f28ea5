/** Texts in lines of a limited width. */

const ELLIPSIS = '…';

/**
 * A text in lines of at most `width` characters, broken between words. A word that is longer than a
 * line is cut into lines: a workload may have any name.
 *
 * @param heading starts the first line.
 * @param indent characters that all lines leave free for the heading.
 */
export function wrapped(text: string, width: number, heading = '', indent = heading.length): string[] {
  const lines: string[] = [];
  let line = '';
  const room = Math.max(1, width - indent);
  const words = text
    .split(' ')
    .flatMap((word) => word.match(new RegExp(`.{1,${String(room)}}`, 'gu')) ?? ['']);
  for (const word of words) {
    if (line !== '' && line.length + 1 + word.length > room) {
      lines.push(line);
      line = '';
    }
    line += line === '' ? word : ` ${word}`;
  }
  lines.push(line);
  return lines.map((each, index) => (index === 0 ? heading : '').padEnd(indent) + each);
}

/** The text, or its start and an ellipsis where it is longer than `width`. */
export function shortened(text: string, width: number): string {
  return text.length <= width ? text : text.slice(0, Math.max(0, width - 1)) + ELLIPSIS;
}

/** Rows in columns that are as wide as their texts, two spaces apart; `numeric` ones to the right. */
export function aligned(
  rows: readonly (readonly string[])[],
  { numeric = [], indent = 0 }: { readonly numeric?: readonly number[]; readonly indent?: number } = {},
): string[] {
  const columns = Math.max(0, ...rows.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  return rows.map((row) => {
    const texts = row.map((text, column) => {
      const width = widths[column] ?? 0;
      return numeric.includes(column) ? text.padStart(width) : text.padEnd(width);
    });
    return (' '.repeat(indent) + texts.join('  ')).trimEnd();
  });
}
