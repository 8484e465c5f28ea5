/**
 * What every page has: one file with its data, its scripts and its style.
 *
 * Invariants:
 * - It works from a disk without a network, and its content policy says so to the browser: nothing is
 *   loaded, and only its own scripts run, each allowed by its hash.
 * - Without scripts the body shows the answer and a table.
 */

import { createHash } from 'node:crypto';

import { pageBundle } from './page-bundle.ts';
import { packed } from './page-data.ts';
import { PAGE_TITLE } from './page-title.ts';

export interface PageParts {
  /** Element content, escaped. */
  readonly body: readonly string[];
  /** Data by the identifier of its element, in the order in which the scripts unpack it. */
  readonly data: Readonly<Record<string, object>>;
  /** Where the scripts may connect to; default: nowhere. */
  readonly connect?: string | undefined;
}

/** The text of the page. */
export function pageShell({ body, data, connect }: PageParts): string {
  const { script: bundled, style } = pageBundle();
  const script = scriptSafe(bundled);
  return [
    '<!doctype html>',
    '<html lang="en">',
    '<head>',
    '<meta charset="utf-8">',
    `<meta http-equiv="Content-Security-Policy" content="${contentPolicy(script, connect)}">`,
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    '<meta name="referrer" content="no-referrer">',
    `<title>${PAGE_TITLE}</title>`,
    `<style>${style}</style>`,
    '</head>',
    '<body>',
    ...body,
    // Base64 ends no element.
    ...Object.entries(data).map(
      ([id, value]) => `<script type="text/plain" id="${id}">${packed(value)}</script>`,
    ),
    `<script>${script}</script>`,
    '</body>',
    '</html>',
    '',
  ].join('\n');
}

function contentPolicy(script: string, connect: string | undefined): string {
  const hash = createHash('sha256').update(script).digest('base64');
  const connections = connect === undefined ? '' : `; connect-src ${connect}`;
  return `default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; script-src 'sha256-${hash}'${connections}`;
}

/** Script text that cannot end its element or open a comment: both sequences only occur in its strings. */
function scriptSafe(script: string): string {
  return script.replaceAll(/<\/script/gi, '<\\/script').replaceAll('<!--', '<\\!--');
}
