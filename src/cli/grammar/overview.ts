/**
 * The help of the program itself: its commands, in the layout that yargs gives the help of each.
 * yargs is not loaded for it: that takes three times as long as all else.
 */

import { wrapped } from '../../core/text-lines.ts';
import type { CommandGroup, ListedCommand } from './command.ts';
import { examples } from './examples.ts';

const PURPOSE =
  'Benchmarks and replays workloads on raw, qcow2 and QED images: counts every metadata write and every sync exactly, and times them.';
const EXIT_CODES =
  'Exit codes: 0 success, 1 error, 2 usage, 3 regression, wrong data or parity mismatch, 130 interrupted.';

export function overview(
  program: string,
  commands: readonly (ListedCommand | CommandGroup)[],
  width: number,
): string {
  const names = commands.map(({ usage }) => `  ${argumentsIn(usage)}`);
  const indent = Math.max(...names.map((name) => name.length)) + 2;
  const rows = commands.flatMap(({ heading, summary }, index) => [
    ...(heading === undefined ? [] : ['', `${heading}:`]),
    ...wrapped(summary, width, names[index] ?? '', indent),
  ]);
  return [
    `${program} COMMAND [options]`,
    '',
    ...wrapped(PURPOSE, width),
    ...rows,
    '',
    'Options:',
    '      --version  Print the version',
    '  -h, --help     Show this help',
    '',
    examples([
      ['bench', 'The whole suite: exact counts, times, charts, and a short answer'],
      ['run --workload stride --format qcow2 --cache writethrough', 'Compare eager and lazy refcounts'],
      ['create disk.qcow2 10GiB --refcounts lazy', 'Create an image with lazy refcounts'],
      ['help run', 'Show the help of a command; same as run --help'],
    ]),
    '',
    ...wrapped(EXIT_CODES, width),
  ].join('\n');
}

/** `report <result..>` is `report RESULT …`. */
function argumentsIn(usage: string): string {
  const [name = '', ...given] = usage.split(' ');
  const texts = given.map((each) => each.replaceAll(/[<>]/g, '').replace('..', ' …').toUpperCase());
  return [name, ...texts].join(' ');
}
