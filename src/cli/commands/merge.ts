/** `merge`: the shards of a run as one result. */

import { countOf } from '../../core/number-text.ts';
import { aligned } from '../../core/text-lines.ts';
import { visibleText } from '../../core/visible-text.ts';
import type { CellRecord, ResultRecord } from '../../result/schema.ts';
import { mergeShards } from '../../result/shards.ts';
import { readResult, writeResult } from '../../result/store.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { isStandardOutput, makes, OVERWRITE_OPTIONS, reads } from '../options/file-uses.ts';
import { flag, inGroup, preset } from '../options/option-kinds.ts';
import { text } from '../options/option-values.ts';
import { EXIT } from '../terminal/exit-code.ts';

const DEFAULT_RESULT = 'results/merged.json';

export const mergeCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('result', {
        type: 'string',
        array: true,
        demandOption: true,
        describe: 'Results of all shards, in any order',
      })
      .options(
        inGroup('Merge:', {
          out: preset('Result file to write', text('out'), DEFAULT_RESULT),
          json: flag('Print the shards as JSON'),
          ...OVERWRITE_OPTIONS,
        }),
      )
      .epilogue(
        examples([
          ['bench --samples 0 --shard 1/4 --out shard-1.json', 'on each machine, one part'],
          ['merge shard-*.json --out result.json', 'all parts as one result'],
          ['gate result.json', 'as of a run on one machine'],
        ]),
      ),

  files: ({ result, out }) => [
    ...reads('RESULT', ...result),
    ...makes('result', '--out', out, DEFAULT_RESULT),
  ],

  run: async ({ result: paths, out, json }, terminal) => {
    const merged = mergeShards(paths.map((path) => ({ path, result: readResult(path) })));
    writeResult(out, merged);
    const shards = shardSpans(merged);
    const answer = json
      ? JSON.stringify({ merged: out, cells: merged.cells.length, shards }, null, 2)
      : [
          ...aligned(
            shards.map(({ index, cells, date, seconds, cpu }) => [
              `${String(index)}/${String(shards.length)}`,
              countOf(cells, 'cell'),
              date.slice(0, 19).replace('T', ' '),
              `${seconds.toFixed(1)} s`,
              visibleText(cpu),
            ]),
            { numeric: [1, 3] },
          ),
          `merged ${countOf(merged.cells.length, 'cell')} of ${countOf(shards.length, 'shard')} into ${visibleText(out)}`,
        ].join('\n');
    if (isStandardOutput(out)) terminal.warn(answer);
    else terminal.print(answer);
    return EXIT.good;
  },
});

/** Each shard with the time from its start to the end of its last counted cell. */
function shardSpans({ environment, cells }: ResultRecord) {
  const beganMs = Date.parse(environment.date);
  return (environment.shards ?? []).map((shard) => {
    const late = (Date.parse(shard.date) - beganMs) * 1e6;
    const ends = cells.filter((cell) => cell.shard === shard.index).map(endNs);
    return { ...shard, seconds: Math.max(0, ...ends.map((end) => end - late)) / 1e9 };
  });
}

function endNs({ span }: CellRecord): number {
  return span === undefined ? 0 : span.beganNs + span.tookNs;
}
