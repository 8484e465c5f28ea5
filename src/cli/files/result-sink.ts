/** Where the cells of a run go: a result file that grows, or memory if no file was named. */

import type { RecordSink } from '../../bench/run.ts';
import { outputPlace } from '../../device/output-place.ts';
import { cellKey } from '../../result/cell.ts';
import {
  RESULT_SCHEMA,
  type Cell,
  type CellRecord,
  type Environment,
  type ResultRecord,
} from '../../result/schema.ts';
import { ResultWriter, writeResult } from '../../result/store.ts';

export interface ResultSink extends RecordSink {
  /** All cells so far. */
  result(): ResultRecord;
  /** Makes the file durable, if there is one. */
  finish(): ResultRecord;
}

export interface SinkOptions {
  readonly environment: Environment;
  /** The result file; without one the result is kept in memory. */
  readonly out: string | undefined;
  readonly resume: boolean;
  /** Called for a cell's fallbacks. */
  readonly remarksOf?: ((cell: Cell) => readonly string[]) | undefined;
}

/**
 * @throws Qcow2BenchError `write-failed`, `result-other-environment`, or what reading a result
 *   throws.
 */
export function openSink({ environment, out, resume, remarksOf }: SinkOptions): ResultSink {
  const sink = out === undefined ? new MemorySink(environment) : openWriter(out, environment, resume);
  return remarksOf === undefined ? sink : withRemarks(sink, remarksOf);
}

function openWriter(path: string, environment: Environment, resume: boolean): ResultSink {
  if (outputPlace(path).kind !== 'file') return new StreamSink(path, environment);
  return resume ? ResultWriter.resume(path, environment) : ResultWriter.create(path, environment);
}

class MemorySink implements ResultSink {
  readonly #environment: Environment;
  readonly #records = new Map<string, CellRecord>();

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  cellRecord(cell: Cell): CellRecord | undefined {
    return this.#records.get(cellKey(cell));
  }

  putCell(record: CellRecord): void {
    this.#records.set(cellKey(record.cell), record);
  }

  result(): ResultRecord {
    return { schema: RESULT_SCHEMA, environment: this.#environment, cells: [...this.#records.values()] };
  }

  finish(): ResultRecord {
    return this.result();
  }
}

/** A pipe gets the result once, whole. */
class StreamSink extends MemorySink {
  readonly #path: string;

  constructor(path: string, environment: Environment) {
    super(environment);
    this.#path = path;
  }

  override finish(): ResultRecord {
    const result = super.finish();
    writeResult(this.#path, result);
    return result;
  }
}

function withRemarks(sink: ResultSink, remarksOf: (cell: Cell) => readonly string[]): ResultSink {
  return {
    cellRecord: (cell) => sink.cellRecord(cell),
    putCell: (record) => {
      const remarks = remarksOf(record.cell);
      const others = record.fallbacks.filter((text) => !remarks.includes(text));
      sink.putCell({ ...record, fallbacks: [...others, ...remarks] });
    },
    result: () => sink.result(),
    finish: () => sink.finish(),
  };
}
