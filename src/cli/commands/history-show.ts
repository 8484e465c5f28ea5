/** `history show`: what changed over a history, and in which commit. */

import { visibleText } from '../../core/visible-text.ts';
import { historyEntries, type HistoryEntry } from '../../history/history.ts';
import { historyRecord } from '../../history/record.ts';
import { trendsOf } from '../../history/trends.ts';
import { HISTORY_CHARTS } from '../../report/history/output-names.ts';
import { historyMarkdown } from '../../report/history/history-markdown.ts';
import { historyText } from '../../report/history/history-text.ts';
import { replaceFile } from '../../result/atomic-file.ts';
import { chartFiles, writeCharts } from '../files/chart-files.ts';
import { DEFAULT_HISTORY, readHistory, tornText } from '../files/history-file.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { isStandardOutput, makes, OVERWRITE_OPTIONS, reads } from '../options/file-uses.ts';
import { flag, inGroup, optional, preset } from '../options/option-kinds.ts';
import { count, percent, text } from '../options/option-values.ts';
import { EXIT } from '../terminal/exit-code.ts';

export const historyShowCommand = defineCommand({
  options: (yargs) =>
    yargs
      .options(
        inGroup('History:', {
          file: preset('History to show', text('file'), DEFAULT_HISTORY),
          last: optional('Show only the newest commits, this many', count('last', { min: 1 })),
          change: preset('Times: least change of the median that is reported', percent('change'), '5%'),
          all: flag('List every cell and series'),
          markdown: optional('Also write Markdown to this file, at most 60 KB', text('markdown')),
          html: optional('Also write a page to this file', text('html')),
          charts: optional('Also write charts as SVG and PNG to this directory', text('charts')),
          json: flag('Print the history as JSON'),
          ...OVERWRITE_OPTIONS,
        }),
      )
      .epilogue(
        examples([
          ['history show', 'what changed, and in which commit'],
          ['history show --last 30 --markdown history.md', 'a summary of a job'],
          ['history show --html history.html', 'a page with the trends of times and counts'],
        ]),
      ),

  files: ({ file, markdown, html, charts }) => [
    ...reads('--file', file),
    ...makes('history markdown', '--markdown', markdown),
    ...makes('page', '--html', html),
    ...chartFiles(charts, HISTORY_CHARTS),
  ],

  run: async ({ file, last, change, all, markdown, html, charts, json }, terminal) => {
    const history = readHistory(file);
    const { torn } = history;
    if (torn !== undefined) {
      terminal.warn(`${visibleText(file)}, ${tornText(torn)}; it is left out`);
    }
    const entries = newest(historyEntries(history, file), last);
    const record = historyRecord(trendsOf(entries, { change }), file);
    if (markdown !== undefined) replaceFile(markdown, historyMarkdown(record), { durable: false });
    if (html !== undefined) {
      const { historyPage } = await import('../../report/history/history-page.ts');
      replaceFile(html, await historyPage(record), { durable: false });
    }
    if (charts !== undefined) {
      const { historyCharts } = await import('../../report/history/history-charts.ts');
      await writeCharts(charts, await historyCharts(record), (path) => terminal.warn(path));
    }
    const { paint, width } = terminal;
    const answer = json ? JSON.stringify(record, null, 2) : historyText(record, { paint, width, all });
    if (isStandardOutput(markdown)) terminal.warn(answer);
    else terminal.print(answer);
    return EXIT.good;
  },
});

/** All lines of the newest commits. */
function newest(entries: readonly HistoryEntry[], last: number | undefined): readonly HistoryEntry[] {
  if (last === undefined) return entries;
  const commits = [...new Set(entries.toReversed().map(({ commit }) => commit))].slice(0, last);
  return entries.filter(({ commit }) => commits.includes(commit));
}
