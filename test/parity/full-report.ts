/** What a full run found, as Markdown for people and JSON for programs, in `results/`. */

import { writeFileSync } from 'node:fs';

import type { QemuProfileName } from '../../src/format/qemu-profile.ts';
import { pairsOf } from './covering-array.ts';
import type { LiveOutcome } from './live-list.ts';
import type { ParityList } from './parity-list.ts';

export interface ListResult {
  readonly list: ParityList;
  readonly outcome: LiveOutcome;
}

export interface FullRun {
  /** Which version our engines followed; names the files. */
  readonly like: QemuProfileName;
  /** QEMU's version. */
  readonly qemu: string;
  readonly results: readonly ListResult[];
}

const FOLDER = new URL('../../results/', import.meta.url);

export function writeFullReport(run: FullRun): void {
  const results = [...run.results].sort((left, right) => (left.list.name < right.list.name ? -1 : 1));
  const record = recordOf({ ...run, results });
  writeFileSync(new URL(`parity-${run.like}.json`, FOLDER), `${JSON.stringify(record, null, 2)}\n`);
  writeFileSync(new URL(`parity-${run.like}.md`, FOLDER), markdownOf(record));
}

type FullRecord = ReturnType<typeof recordOf>;

function recordOf({ qemu, results }: Omit<FullRun, 'like'>): {
  readonly schema: 'qcow2-bench/parity@1';
  readonly qemu: string;
  readonly totals: Readonly<Record<string, number>>;
  readonly pairs: Readonly<Record<string, number>>;
  readonly features: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly lists: readonly {
    readonly name: string;
    readonly features: string;
    readonly requests: number;
    readonly operations: number;
    readonly reorderedStretches: number;
    readonly runs: number;
    readonly exceptions: readonly string[];
    readonly requestsLeftOut: readonly number[];
    readonly differences: readonly string[];
  }[];
} {
  const lists = results.map(({ list, outcome }) => ({
    name: list.name,
    features: Object.values(list.features).map(String).join(' '),
    requests: list.requests.length,
    operations: outcome.order.comparison.operations,
    reorderedStretches: reorderedStretches(outcome),
    runs: outcome.runs,
    exceptions: outcome.order.exceptions,
    requestsLeftOut: outcome.order.leftOut,
    differences: outcome.differences,
  }));
  const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
  return {
    schema: 'qcow2-bench/parity@1',
    qemu,
    totals: {
      lists: lists.length,
      identical: lists.filter(({ differences }) => differences.length === 0).length,
      requests: sum(lists.map(({ requests }) => requests)),
      operations: sum(lists.map(({ operations }) => operations)),
      reorderedStretches: sum(lists.map(({ reorderedStretches }) => reorderedStretches)),
      requestsLeftOut: sum(lists.map(({ requestsLeftOut }) => requestsLeftOut.length)),
      listsWithExceptions: lists.filter(({ exceptions }) => exceptions.length > 0).length,
    },
    pairs: countPairs(results),
    features: countFeatures(results),
    lists,
  };
}

function reorderedStretches({ order: { comparison } }: LiveOutcome): number {
  return comparison.identical ? comparison.reorderedStretches : 0;
}

/** Pairs of feature values that stand together in some list, by format. */
function countPairs(results: readonly ListResult[]): Record<string, number> {
  const pairs: Record<string, Set<string>> = {};
  for (const { list } of results) {
    const known = (pairs[list.format] ??= new Set());
    for (const pair of pairsOf(list.features)) known.add(pair);
  }
  return Object.fromEntries(Object.entries(pairs).map(([format, known]) => [format, known.size]));
}

/** Lists with each value of each feature. */
function countFeatures(results: readonly ListResult[]): Record<string, Record<string, number>> {
  const features: Record<string, Record<string, number>> = {};
  for (const { list } of results) {
    for (const [axis, value] of Object.entries(list.features)) {
      const values = (features[axis] ??= {});
      values[String(value)] = (values[String(value)] ?? 0) + 1;
    }
  }
  return features;
}

function markdownOf({ qemu, totals, pairs, features, lists }: FullRecord): string {
  const number = (value: number | undefined): string => (value ?? 0).toLocaleString('en');
  const different = lists.filter(({ differences }) => differences.length > 0);
  const exceptional = lists.filter(({ exceptions }) => exceptions.length > 0);
  const rows = Object.entries(features).map(
    ([axis, values]) =>
      `| ${axis} | ${Object.entries(values)
        .map(([value, count]) => `${value}: ${number(count)}`)
        .join(', ')} |`,
  );
  return [
    '# Parity with QEMU: the last full run',
    '',
    '`npm run parity:full` serves seeded request lists with our engines and with a live QEMU, and compares host',
    'operations, final bytes of all files, and what the guest reads. Rules and exceptions: `docs/qemu-rules.md`.',
    '',
    `QEMU ${qemu}: **${number(totals['identical'])} of ${number(totals['lists'])} lists identical**, ` +
      `${number(totals['requests'])} guest requests, ${number(totals['operations'])} host operations compared.`,
    '',
    `- Stretches between two syncs of one request in which data come in another order: ${number(totals['reorderedStretches'])}.`,
    `- Lists that need a named exception: ${number(totals['listsWithExceptions'])}; requests left out, as QEMU's own` +
      ` order varies there: ${number(totals['requestsLeftOut'])}.`,
    ...exceptional.map(
      ({ name, exceptions, requestsLeftOut }) =>
        `  - ${name}: ${exceptions.join(', ')}${requestsLeftOut.length === 0 ? '' : `, without requests ${requestsLeftOut.join(', ')}`}`,
    ),
    `- Pairs of features covered: ${Object.entries(pairs)
      .map(([format, count]) => `${format} ${number(count)}`)
      .join(', ')}: all that are allowed.`,
    '',
    '| feature | lists with each value |',
    '| --- | --- |',
    ...rows,
    '',
    ...different.flatMap(({ name, features: about, differences }) => [
      `## ${name} differs`,
      '',
      about,
      '',
      '```',
      ...differences,
      '```',
      '',
    ]),
  ].join('\n');
}
