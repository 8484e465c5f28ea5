/**
 * Host operations that a block layer wrote itself, as JSON Lines (`result/host-log-record`).
 *
 * Invariants:
 * - Every line is checked; one that breaks a rule is an error with its number.
 * - Either all lines name their purpose or cause, which are then taken as they are, or none does.
 * - Operations are in the order of issue, and requests begin in the order of their numbers.
 */

import { Qcow2BenchError } from '../core/error.ts';
import type { HostLogRecord } from '../device/host-log.ts';
import type { Phase } from '../device/operation.ts';
import { hostLogRecordSchema, type GivenRecord } from '../result/host-log-record.ts';
import type { HostOperation } from './host-operation.ts';

export type GivenOperations =
  /** With purposes and causes; `requests` has the request of each. */
  | {
      readonly kind: 'named';
      readonly records: readonly HostLogRecord[];
      readonly requests: readonly (number | undefined)[];
    }
  | { readonly kind: 'plain'; readonly operations: readonly HostOperation[] };

const LINE_FEED = 0x0a;

/**
 * @param requests that were served.
 * @throws Qcow2BenchError `host-log-invalid`, `ingest-misfit`, with the line.
 */
export function readGivenOperations(
  bytes: Buffer,
  { path, requests }: { readonly path: string; readonly requests: number },
): GivenOperations {
  const given = [...givenRecords(bytes, path)];
  const [first] = given;
  if (first === undefined) throw badLine('the file is empty: it has no operation', { path, line: 1 });
  const numbered = given.map(({ record }) => record.request);
  const firstRun = numbered.findIndex((request) => request !== undefined);
  for (const [at, request] of numbered.entries()) {
    if (request === undefined || request < requests) continue;
    const rule = `request is ${String(request)}, but --requests has ${String(requests)}, from 0`;
    throw new Qcow2BenchError('ingest-misfit', rule, { path, line: at + 1 });
  }
  const phaseOf = ({ phase, request }: GivenRecord, at: number): Phase =>
    phase ?? (request !== undefined ? 'run' : at < firstRun ? 'open' : 'close');
  const isNamed = nameOf(first.record) !== undefined;
  for (const { record, line } of given) {
    if ((nameOf(record) !== undefined) === isNamed) continue;
    const what = record.op === 'sync' ? 'cause' : 'purpose';
    const rule = isNamed
      ? `lacks its ${what}, which line 1 has: give it in every line, or in none`
      : `has a ${what}, which line 1 lacks: give it in every line, or in none`;
    throw badLine(rule, { path, line });
  }
  if (!isNamed) {
    return {
      kind: 'plain',
      operations: given.map(({ record }, at): HostOperation => ({
        phase: phaseOf(record, at),
        request: record.request,
        op: record.op,
        file: record.file ?? 'image',
        offset: record.op === 'sync' ? 0 : record.offset,
        length: record.op === 'sync' ? 0 : record.length,
        error: undefined,
      })),
    };
  }
  return {
    kind: 'named',
    requests: numbered,
    // Each has its purpose or cause.
    records: given.map(
      ({ record: { guest: _, request: __, ...record } }, at) =>
        ({
          ...record,
          file: record.file ?? 'image',
          phase: phaseOf(given[at]?.record ?? record, at),
        }) as HostLogRecord,
    ),
  };
}

function nameOf(record: GivenRecord): string | undefined {
  return record.op === 'sync' ? record.cause : record.purpose;
}

function* givenRecords(
  bytes: Buffer,
  path: string,
): Generator<{ readonly record: GivenRecord; readonly line: number }, undefined> {
  let line = 0;
  for (let start = 0; start < bytes.length;) {
    line++;
    const end = bytes.indexOf(LINE_FEED, start);
    if (end < 0) throw badLine('the file ends within this line: the log is truncated', { path, line });
    yield { record: checked(bytes.toString('utf8', start, end), { path, line }), line };
    start = end + 1;
  }
  return undefined;
}

function checked(text: string, place: { readonly path: string; readonly line: number }): GivenRecord {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw badLine('is not JSON: each line is one operation', place);
  }
  const found = hostLogRecordSchema.safeParse(value);
  if (found.success) return found.data;
  const [issue] = found.error.issues;
  const field = issue?.path.map(String).join('.') ?? '';
  throw badLine(`${field === '' ? '' : `field ${field}: `}${issue?.message ?? 'does not fit'}`, place);
}

function badLine(rule: string, place: { readonly path: string; readonly line: number }): Qcow2BenchError {
  return new Qcow2BenchError('host-log-invalid', `${rule}; see docs/host-log.schema.json`, place);
}
