/** `history add`: the counts and times of a commit, appended to a history. */

import { countOf } from '../../core/number-text.ts';
import { visibleText } from '../../core/visible-text.ts';
import { byEnvironment, COMMIT_PATTERN, historyLine } from '../../history/history-line.ts';
import { readResult } from '../../result/store.ts';
import { appendHistory, DEFAULT_HISTORY, tornText, type AppendedLines } from '../files/history-file.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { appendsTo, reads } from '../options/file-uses.ts';
import { flag, inGroup, optional, preset } from '../options/option-kinds.ts';
import { isoDate, text } from '../options/option-values.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { badOption, UsageError } from '../terminal/usage-error.ts';

export const historyAddCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('result', {
        type: 'string',
        array: true,
        demandOption: true,
        describe: 'Results of one commit; a line is added for each environment',
      })
      .options(
        inGroup('History:', {
          file: preset('History to append to; made if there is none', text('file'), DEFAULT_HISTORY),
          commit: optional('Commit that the results are of, such as $(git rev-parse HEAD)', text('commit')),
          date: optional(
            'Its date, ISO 8601, such as $(git show -s --format=%cI); default: when the results were run',
            isoDate('date'),
          ),
          repair: flag('First take away a last line that a killed process left unfinished'),
          json: flag('Print what was added as JSON'),
        }),
      )
      .epilogue(
        examples([
          ['history add result.json --commit $(git rev-parse HEAD)', 'after a run'],
          ['history show', 'what changed, and when'],
        ]),
      ),

  files: ({ result, file }) => [...reads('RESULT', ...result), appendsTo('--file', file)],

  run: async ({ result: paths, file, commit, date, repair, json }, terminal) => {
    const results = paths.map(readResult);
    if (commit === undefined) {
      throw new UsageError('--commit is missing: name the commit, such as --commit $(git rev-parse HEAD)');
    }
    if (!COMMIT_PATTERN.test(commit)) {
      throw badOption('commit', commit, 'a name of 1 to 128 characters without spaces');
    }
    const lines = byEnvironment(results).map((own) => historyLine(own, { commit, date }));
    const appended = appendHistory(file, lines, { repair });
    terminal.print(json ? JSON.stringify(factsOf(appended, file), null, 2) : textOf(appended, file));
    return EXIT.good;
  },
});

function factsOf({ added, firstLine, known, repaired }: AppendedLines, file: string): object {
  return {
    file,
    added: added.map(({ commit, counts, times }, at) => ({
      line: firstLine + at,
      commit,
      counted: counts.length,
      timed: times.length,
    })),
    known: known.map(([, line]) => line),
    removedBytes: repaired?.bytes ?? 0,
  };
}

function textOf({ added, firstLine, known, repaired }: AppendedLines, file: string): string {
  const name = visibleText(file);
  return [
    ...(repaired === undefined ? [] : [`${name}, ${tornText(repaired)}; taken away`]),
    ...known.map(
      ([{ commit }, line]) =>
        `${name}, line ${String(line)}: has ${visibleText(commit)} in this environment already, with the same counts; nothing added`,
    ),
    ...added.map(({ commit, counts, times }, at) => {
      const timed = times.length === 0 ? '' : `, ${countOf(times.length, 'cell')} timed`;
      return `${name}, line ${String(firstLine + at)}: ${visibleText(commit)}, ${countOf(counts.length, 'cell')} counted${timed}`;
    }),
  ].join('\n');
}
