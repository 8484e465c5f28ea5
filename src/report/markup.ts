/**
 * Text to HTML. Names of workloads and paths come from files and command lines: whatever goes into
 * a page goes through here.
 */

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Text for element content and quoted attributes. */
export function escapeHtml(text: string): string {
  return text.replaceAll(/[&<>"']/g, (character) => ENTITIES[character] ?? character);
}

export interface TableColumn {
  readonly title: string;
  readonly numeric?: boolean;
}

/** A table; the first cell of a row is its heading. */
export function htmlTable(options: {
  readonly caption: string;
  readonly columns: readonly TableColumn[];
  readonly rows: readonly (readonly string[])[];
}): string {
  const kind = (column: number): string => (options.columns[column]?.numeric === true ? ' class="num"' : '');
  const head = options.columns.map(
    ({ title }, column) => `<th scope="col"${kind(column)}>${escapeHtml(title)}</th>`,
  );
  const body = options.rows.map((row) => {
    const cells = row.map((text, column) =>
      column === 0
        ? `<th scope="row">${escapeHtml(text)}</th>`
        : `<td${kind(column)}>${escapeHtml(text)}</td>`,
    );
    return `<tr>${cells.join('')}</tr>`;
  });
  return (
    `<table><caption>${escapeHtml(options.caption)}</caption>` +
    `<thead><tr>${head.join('')}</tr></thead>\n<tbody>${body.join('\n')}</tbody></table>`
  );
}
