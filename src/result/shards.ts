/**
 * The shards of a matrix as one result.
 *
 * Invariants:
 * - Only whole runs are joined: every shard of one split, each once and finished. The result has
 *   the cells in the order of the matrix, as a run on one machine has them.
 * - All shards were run by the same versions. Counts do not depend on the machine; times do, so
 *   shards with times come from machines of one kind.
 * - Times of the day stay true: the run began when its first shard did, and each cell's `span` is
 *   counted from there. Clocks of machines that differ are the user's.
 */

import { Qcow2BenchError } from '../core/error.ts';
import { countOf } from '../core/number-text.ts';
import type { CellRecord, ResultRecord, ShardRecord } from './schema.ts';

export interface NamedResult {
  readonly path: string;
  readonly result: ResultRecord;
}

interface ReadShard extends NamedResult {
  readonly shard: ShardRecord;
}

/** What counts may depend on. */
const VERSIONS = ['harness', 'node', 'platform', 'arch', 'qemu', 'seed'] as const;
/** What times depend on too. */
const MACHINE = ['cpu', 'cores', 'kernel'] as const;

/**
 * The run of which these are the shards.
 *
 * @throws Qcow2BenchError `not-a-shard`, `results-differ`, `shard-twice`, `shard-missing` or
 *   `shard-unfinished`.
 */
export function mergeShards(results: readonly NamedResult[]): ResultRecord {
  const shards = results.map(asShard).toSorted((a, b) => a.shard.index - b.shard.index);
  const [first] = shards;
  if (first === undefined) throw new Error('internal error: no results to merge');
  for (const shard of shards) refuseOther(first, shard);
  refuseTwice(shards);
  refuseMissing(shards, first.shard.of);
  for (const shard of shards) refuseUnfinished(shard);
  const { environment } = first.result;
  const beganMs = Math.min(...shards.map(({ result }) => Date.parse(result.environment.date)));
  return {
    ...first.result,
    environment: {
      ...environment,
      shard: undefined,
      commandLine: withoutShard(environment.commandLine),
      date: new Date(beganMs).toISOString(),
      shards: shards.map(({ shard, result }) => ({
        index: shard.index,
        cells: result.cells.length,
        date: result.environment.date,
        cpu: result.environment.cpu,
        kernel: result.environment.kernel,
      })),
    },
    cells: cellsInOrder(shards, beganMs),
  };
}

function asShard({ path, result }: NamedResult): ReadShard {
  const { shard } = result.environment;
  if (shard !== undefined) return { path, result, shard };
  throw new Qcow2BenchError('not-a-shard', 'is not a shard of a run: merge joins results of --shard I/N', {
    path,
  });
}

function refuseOther(first: ReadShard, other: ReadShard): void {
  const isTimed = [first, other].some(({ result }) => result.cells.some(({ timings }) => timings.length > 0));
  for (const field of [...VERSIONS, ...(isTimed ? MACHINE : [])]) {
    const [there, here] = [first, other].map(({ result }) => String(result.environment[field] ?? 'none'));
    if (there === here) continue;
    const isMachine = MACHINE.some((name) => name === field);
    const advice = isMachine
      ? 'times of different machines do not belong in one result: run shards with --samples 0, or on machines of one kind'
      : 'run all shards with the same versions';
    const message = `was run with ${field} '${here ?? ''}', but ${first.path} with '${there ?? ''}': ${advice}`;
    throw new Qcow2BenchError('results-differ', message, { path: other.path });
  }
  if (first.shard.of === other.shard.of && first.shard.matrix === other.shard.matrix) return;
  const message = `is shard ${nameOf(other)} of another matrix than ${first.path} (${nameOf(first)}): run all shards with the same options and the same --balance`;
  throw new Qcow2BenchError('results-differ', message, { path: other.path });
}

function refuseTwice(shards: readonly ReadShard[]): void {
  for (const [at, shard] of shards.entries()) {
    const before = shards[at - 1];
    if (before?.shard.index !== shard.shard.index) continue;
    const message = `is shard ${nameOf(shard)}, and so is ${before.path}: name each shard once`;
    throw new Qcow2BenchError('shard-twice', message, { path: shard.path });
  }
}

function refuseMissing(shards: readonly ReadShard[], of: number): void {
  const present = new Set(shards.map(({ shard }) => shard.index));
  const missing = Array.from({ length: of }, (_, at) => at + 1).filter((index) => !present.has(index));
  if (missing.length === 0) return;
  const names = missing.slice(0, 10).map((index) => `${String(index)}/${String(of)}`);
  const more = missing.length > names.length ? ` and ${String(missing.length - names.length)} more` : '';
  const [verb, them] = missing.length === 1 ? ['is', 'it'] : ['are', 'them'];
  const message = `${names.join(', ')}${more} ${verb} missing: run ${them} with --shard, and name all results`;
  throw new Qcow2BenchError('shard-missing', message);
}

function refuseUnfinished({ path, result, shard }: ReadShard): void {
  const done = result.cells.length;
  const all = shard.positions.length;
  if (done === all) return;
  const message = `shard ${String(shard.index)}/${String(shard.of)} has ${String(done)} of ${countOf(all, 'cell')}: continue it with --resume`;
  throw new Qcow2BenchError('shard-unfinished', message, { path });
}

function cellsInOrder(shards: readonly ReadShard[], beganMs: number): readonly CellRecord[] {
  const cells: CellRecord[] = [];
  for (const { path, result, shard } of shards) {
    const lateNs = (Date.parse(result.environment.date) - beganMs) * 1e6;
    for (const [at, record] of result.cells.entries()) {
      const position = shard.positions[at];
      if (position === undefined || position in cells) {
        const message = `has a position of the matrix that another shard has too: ${String(position ?? 'none')}`;
        throw new Qcow2BenchError('results-differ', message, { path });
      }
      const span = record.span && { ...record.span, beganNs: record.span.beganNs + lateNs };
      cells[position] = { ...record, ...(span === undefined ? {} : { span }), shard: shard.index };
    }
  }
  return Object.values(cells);
}

function nameOf({ shard }: ReadShard): string {
  return `${String(shard.index)}/${String(shard.of)}`;
}

function withoutShard(words: readonly string[]): string[] {
  return words.filter((word, at) => !/^--shard(?:=|$)/.test(word) && words[at - 1] !== '--shard');
}
