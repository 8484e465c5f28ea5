/**
 * Result files: reading them with every check, writing them whole, and growing one cell by cell.
 *
 * Invariants:
 * - After every `putCell` the file is a valid result with all cells so far, so an interrupted run
 *   keeps them.
 * - A cell occurs at most once in a file.
 * - A text has one cell a line: results diff and grep well, and growing one formats only the new
 *   cell.
 */

import { Qcow2BenchError } from '../core/error.ts';
import { existsSync } from '../core/host-fs.ts';
import { LIMITS } from '../core/limits.ts';
import { replaceFile } from './atomic-file.ts';
import { cellKey, cellName } from './cell.ts';
import { parseCheckedJson, readCheckedJson } from './checked-json.ts';
import {
  cellRecordSchema,
  RESULT_SCHEMA,
  resultSchema,
  type Cell,
  type CellRecord,
  type Environment,
  type ResultRecord,
} from './schema.ts';

const CHECKS = {
  schema: resultSchema,
  schemaName: RESULT_SCHEMA,
  kind: 'result',
  sizeMax: LIMITS.resultFileBytes,
} as const;

/**
 * The result in `path`, checked against the schema.
 *
 * @throws Qcow2BenchError `result-unreadable`, `result-too-large`, `result-not-json`,
 *   `result-schema-version`, `result-invalid` or `result-duplicate-cell`.
 */
export function readResult(path: string): ResultRecord {
  return withoutDuplicates(readCheckedJson(path, CHECKS), path);
}

/** As `readResult`, of a text; `path` names it in errors. */
export function parseResult(text: string, path = 'result'): ResultRecord {
  return withoutDuplicates(parseCheckedJson(text, path, CHECKS), path);
}

/** Replaces `path` by the result, at once and durably. */
export function writeResult(path: string, result: ResultRecord): void {
  replaceFile(path, resultText(result.environment, result.cells.map(cellText)), { durable: true });
}

/** A result file that grows while a run goes on. */
export class ResultWriter {
  readonly path: string;
  readonly environment: Environment;
  readonly #records = new Map<string, CellRecord>();
  readonly #texts = new Map<string, string>();

  private constructor(path: string, environment: Environment, records: readonly CellRecord[]) {
    this.path = path;
    this.environment = environment;
    for (const record of records) this.#keep(record);
  }

  /**
   * Begins a result without cells, in place of what stood there; fails at once where `path` is not
   * writable.
   */
  static create(path: string, environment: Environment): ResultWriter {
    const writer = new ResultWriter(path, environment, []);
    writer.#save(false);
    return writer;
  }

  /**
   * Goes on with the result in `path`, or begins it if there is none. The file's own environment
   * stays.
   *
   * @throws Qcow2BenchError `result-other-environment` if its cells cannot be mixed with new ones.
   */
  static resume(path: string, environment: Environment): ResultWriter {
    if (!existsSync(path)) return ResultWriter.create(path, environment);
    const standing = readResult(path);
    refuseOtherEnvironment(path, { standing: standing.environment, present: environment });
    return new ResultWriter(path, standing.environment, standing.cells);
  }

  /** The standing record of this cell, if it has one. */
  cellRecord(cell: Cell): CellRecord | undefined {
    return this.#records.get(cellKey(cell));
  }

  /**
   * Adds a cell, or replaces its record (a cell counted first and timed later is put twice), and
   * saves.
   */
  putCell(record: CellRecord): void {
    const checked = cellRecordSchema.safeParse(record);
    // What bench hands over is the program's own doing, so a misfit is a bug, not bad input.
    if (!checked.success) throw new Error(`internal error: cell record: ${checked.error.message}`);
    this.#keep(record);
    this.#save(false);
  }

  /** All cells so far, in the order they came. */
  result(): ResultRecord {
    return { schema: RESULT_SCHEMA, environment: this.environment, cells: [...this.#records.values()] };
  }

  /**
   * Makes the file durable; `putCell` alone leaves that to the system, so as not to disturb the
   * next cell.
   */
  finish(): ResultRecord {
    this.#save(true);
    return this.result();
  }

  #keep(record: CellRecord): void {
    const key = cellKey(record.cell);
    this.#records.set(key, record);
    this.#texts.set(key, cellText(record));
  }

  #save(durable: boolean): void {
    replaceFile(this.path, resultText(this.environment, [...this.#texts.values()]), { durable });
  }
}

function cellText(record: CellRecord): string {
  return JSON.stringify(record);
}

function resultText(environment: Environment, cells: readonly string[]): string {
  const list = cells.length === 0 ? '[]' : `[\n${cells.join(',\n')}\n]`;
  const head = `"schema":${JSON.stringify(RESULT_SCHEMA)},\n"environment":${JSON.stringify(environment)}`;
  return `{${head},\n"cells":${list}}\n`;
}

function withoutDuplicates(result: ResultRecord, path: string): ResultRecord {
  const seen = new Set<string>();
  result.cells.forEach(({ cell }, index) => {
    const key = cellKey(cell);
    if (seen.has(key)) {
      const message = `cells[${String(index)}] (${cellName(cell)}) is duplicated: a result has each cell once`;
      throw new Qcow2BenchError('result-duplicate-cell', message, { path });
    }
    seen.add(key);
  });
  return result;
}

/** Cells of one result must come from one harness, seed and machine, or they cannot be compared. */
function refuseOtherEnvironment(
  path: string,
  environments: { readonly standing: Environment; readonly present: Environment },
): void {
  const { standing, present } = environments;
  for (const field of ['harness', 'seed', 'node', 'platform', 'cpu', 'kernel'] as const) {
    if (standing[field] === present[field]) continue;
    const values = `'${String(standing[field])}', but this run has '${String(present[field])}'`;
    const message = `was run with ${field} ${values}: resume in the same environment, or write to another file`;
    throw new Qcow2BenchError('result-other-environment', message, { path });
  }
  const shards = [standing, present].map(
    ({ shard }) => shard && { ...shard, positions: [...shard.positions] },
  );
  if (JSON.stringify(shards[0]) === JSON.stringify(shards[1])) return;
  const [is, was] = [present, standing].map(({ shard }) =>
    shard === undefined ? 'no shard' : `shard ${String(shard.index)}/${String(shard.of)}`,
  );
  const message = `has ${was ?? ''}, but this run is ${is ?? ''} with its options: resume the same shard, or write to another file`;
  throw new Qcow2BenchError('result-other-environment', message, { path });
}
