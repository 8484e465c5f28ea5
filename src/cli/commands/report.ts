/** `report`: results as a page that needs nothing else, or as a Markdown table. */

import { visibleText } from '../../core/visible-text.ts';
import { markdownTables } from '../../report/markdown.ts';
import { replaceFile } from '../../result/atomic-file.ts';
import { readResult } from '../../result/store.ts';
import { CACHE_MODES, type CacheMode } from '../../result/vocabulary.ts';
import type { ResultRecord } from '../../result/schema.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { isStandardOutput, makes, OVERWRITE_OPTIONS, reads } from '../options/file-uses.ts';
import { mergeResults } from '../files/merge-results.ts';
import { flag, inGroup, optional } from '../options/option-kinds.ts';
import { choice, listOf, text } from '../options/option-values.ts';

const DEFAULT_PAGE = 'reports/index.html';

export const reportCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('result', {
        type: 'string',
        array: true,
        demandOption: true,
        describe: 'Result files; their cells go into one report',
      })
      .options(
        inGroup('Report:', {
          out: optional(
            `File to write; default: ${DEFAULT_PAGE}, or standard output for Markdown`,
            text('out'),
          ),
          ...OVERWRITE_OPTIONS,
          markdown: flag('Write Markdown tables, one per cache mode and setup'),
          cache: optional(
            'Markdown: cache modes, comma-separated; default: all in the result',
            listOf('cache', choice('cache', CACHE_MODES)),
          ),
        }),
      )
      .epilogue(
        examples([
          ['report results/latest.json', 'the page'],
          ['report results/latest.json --markdown --cache writethrough', 'a table for a README'],
        ]),
      ),

  files: ({ result, out, markdown }) => [
    ...reads('RESULT', ...result),
    ...(markdown
      ? makes('markdown', '--out', out)
      : makes('page', '--out', out ?? DEFAULT_PAGE, DEFAULT_PAGE)),
  ],

  run: async ({ result: paths, out, markdown, cache }, terminal) => {
    const result = mergeResults(paths.map((path) => ({ path, result: readResult(path) })));
    const written = markdown ? tablesOf(result, cache) : await page(result);
    if (markdown && out === undefined) {
      terminal.print(written.trimEnd());
      return EXIT.good;
    }
    const path = out ?? DEFAULT_PAGE;
    replaceFile(path, written, { durable: false });
    if (!isStandardOutput(path)) terminal.print(visibleText(path));
    return EXIT.good;
  },
});

/** The charts' libraries are large: they are loaded for a page only. */
async function page(result: ResultRecord): Promise<string> {
  const { reportHtml } = await import('../../report/html.ts');
  return reportHtml(result);
}

function tablesOf(result: ResultRecord, caches: readonly CacheMode[] | undefined): string {
  const present = CACHE_MODES.filter((mode) => result.cells.some(({ cell }) => cell.cache === mode));
  return (caches ?? present).map((cache) => markdownTables(result, { cache })).join('\n');
}
