/** `report`: results as a page that needs nothing else, or as a Markdown table. */

import { visibleText } from '../../core/visible-text.ts';
import { CHART_IDS } from '../../report/charts/catalog.ts';
import { boundedTables, markdownTables } from '../../report/markdown.ts';
import { replaceFile } from '../../result/atomic-file.ts';
import { readResult } from '../../result/store.ts';
import { CACHE_MODES, type CacheMode } from '../../result/vocabulary.ts';
import type { ResultRecord } from '../../result/schema.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { isStandardOutput, makes, OVERWRITE_OPTIONS, reads } from '../options/file-uses.ts';
import { chartFiles, writeCharts } from '../files/chart-files.ts';
import { isHostLog, readHostLog } from '../files/compared-files.ts';
import { mergeResults } from '../files/merge-results.ts';
import { flag, inGroup, optional } from '../options/option-kinds.ts';
import { choice, count, listOf, text } from '../options/option-values.ts';
import { LiveReport } from '../sessions/live-report.ts';
import { Interruption } from '../terminal/interruption.ts';
import type { Terminal } from '../terminal/terminal.ts';
import { UsageError } from '../terminal/usage-error.ts';

const DEFAULT_PAGE = 'reports/index.html';

export const reportCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('result', {
        type: 'string',
        array: true,
        demandOption: true,
        describe: 'Result files, for one report; or one or two host logs',
      })
      .options(
        inGroup('Report:', {
          out: optional(
            `File to write; default: ${DEFAULT_PAGE}, or standard output for Markdown`,
            text('out'),
          ),
          ...OVERWRITE_OPTIONS,
          markdown: flag('Write Markdown tables, one per cache mode and setup'),
          serve: optional(
            'Serve the page on this port of the loopback interface, instead of a file, and follow the result while a run writes it; 0: any free port',
            count('serve', { min: 0, max: 65_535 }),
          ),
          charts: optional(
            'Write each chart as SVG and PNG to this directory, instead of the page',
            text('charts'),
          ),
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
          ['report results/latest.json --charts .', 'the charts as SVG and PNG'],
          ['report results/latest.json --serve 0', 'the page, following a run'],
          ['report ops.jsonl', 'a host log, as run --host-log writes it'],
        ]),
      ),

  files: ({ result, out, markdown, charts, serve }) => [
    ...reads('RESULT', ...result),
    ...(serve !== undefined
      ? []
      : charts === undefined
        ? markdown
          ? makes('markdown', '--out', out)
          : makes('page', '--out', out ?? DEFAULT_PAGE, DEFAULT_PAGE)
        : chartFiles(charts, CHART_IDS)),
  ],

  run: async (args, terminal) => {
    const { result: paths, out, markdown, cache, charts, serve } = args;
    const logs = paths.filter(isHostLog);
    if (logs.length > 0) checkLogArgs(logs, args);
    if (serve !== undefined) {
      if (charts !== undefined || markdown || out !== undefined) {
        throw new UsageError('--serve writes no file: omit --out, --markdown and --charts');
      }
      return served(paths, serve, terminal);
    }
    if (charts !== undefined && (markdown || out !== undefined)) {
      throw new UsageError('--charts writes pictures only: omit --markdown and --out');
    }
    if (logs.length > 0) return written(await logPage(logs, markdown), args, terminal);
    const result = merged(paths);
    if (charts !== undefined) {
      const { chartPictures } = await import('../../report/chart-pictures.ts');
      await writeCharts(charts, await chartPictures(result), (path) => terminal.print(path));
      return EXIT.good;
    }
    return written(markdown ? await tablesOf(result, cache) : await page(result), args, terminal);
  },
});

interface ReportArgs {
  readonly result: readonly string[];
  readonly out: string | undefined;
  readonly markdown: boolean;
  readonly cache: readonly CacheMode[] | undefined;
  readonly charts: string | undefined;
  readonly serve: number | undefined;
}

function written(
  text: string,
  { markdown, out }: Pick<ReportArgs, 'markdown' | 'out'>,
  terminal: Terminal,
): number {
  if (markdown && out === undefined) {
    terminal.print(text.trimEnd());
    return EXIT.good;
  }
  const path = out ?? DEFAULT_PAGE;
  replaceFile(path, text, { durable: false });
  if (!isStandardOutput(path)) terminal.print(visibleText(path));
  return EXIT.good;
}

/** One log or two, and nothing that only a result has. */
function checkLogArgs(logs: readonly string[], { result: paths, ...args }: ReportArgs): void {
  const other = paths.find((path) => !logs.includes(path));
  if (other !== undefined) {
    throw new UsageError(
      `RESULT: ${visibleText(logs[0] ?? '')} is a host log, ${visibleText(other)} is not; make a page of each`,
    );
  }
  if (logs.length > 2) {
    throw new UsageError(`RESULT: needs one or two host logs; these are ${String(logs.length)}`);
  }
  const given = (['charts', 'serve', 'cache'] as const).find((name) => args[name] !== undefined);
  if (given !== undefined) throw new UsageError(`--${given} applies to results, not to host logs`);
}

async function logPage(paths: readonly string[], isMarkdown: boolean): Promise<string> {
  const logs = paths.map((path) => ({ name: visibleText(path), lines: readHostLog(path).lines() }));
  const { hostLogMarkdown, hostLogPage } = await import('../../report/host-log/log-page.ts');
  return isMarkdown ? boundedTables(hostLogMarkdown(logs)) : hostLogPage(logs);
}

function merged(paths: readonly string[]): ResultRecord {
  return mergeResults(paths.map((path) => ({ path, result: readResult(path) })));
}

/** Until a signal. */
async function served(paths: readonly string[], port: number, terminal: Terminal): Promise<number> {
  await using live = new LiveReport({
    paths,
    page: async (isSettled) => page(merged(paths), { isLive: true, isLookedAt: isSettled }),
  });
  const ended = Promise.withResolvers<undefined>();
  using interruption = new Interruption(terminal, () => undefined);
  interruption.signal.addEventListener('abort', () => ended.resolve(undefined));
  terminal.print(await live.listen(port));
  await ended.promise;
  return EXIT.good;
}

/** The charts' libraries are large: they are loaded for a page only. */
async function page(
  result: ResultRecord,
  { isLive = false, isLookedAt = true }: { readonly isLive?: boolean; readonly isLookedAt?: boolean } = {},
): Promise<string> {
  const { reportHtml } = await import('../../report/html.ts');
  const { closerLook } = await import('../sessions/closer-look.ts');
  return reportHtml(result, { isLive, ...(isLookedAt ? await closerLook(result) : {}) });
}

async function tablesOf(result: ResultRecord, caches: readonly CacheMode[] | undefined): Promise<string> {
  const present = CACHE_MODES.filter((mode) => result.cells.some(({ cell }) => cell.cache === mode));
  const tables = (caches ?? present).map((cache) => markdownTables(result, { cache }));
  if (caches !== undefined) return boundedTables(tables);
  const { repairPrices } = await import('../sessions/closer-look.ts');
  const { repairMarkdown } = await import('../../report/repair-markdown.ts');
  return boundedTables([...tables, repairMarkdown(result, await repairPrices(result))].filter(Boolean));
}
