/**
 * The lines of a host log (`--host-log`), checked one by one.
 *
 * Invariant: a line that is no record of the log is an error with its line number; nothing is
 * skipped.
 */

import { Qcow2BenchError } from '../core/error.ts';
import type { GuestRequest, HostLogRecord } from '../device/host-log.ts';
import { HOST_OPS, PHASES } from '../device/operation.ts';
import { PURPOSES, SYNC_CAUSES } from '../device/purpose.ts';

/** A record and the line that it is on, from 1. */
export interface LogLine {
  readonly line: number;
  readonly record: HostLogRecord;
}

const LINE_FEED = 0x0a;

/**
 * The records of a log in memory, in order.
 *
 * @throws Qcow2BenchError `host-log-invalid`, which names the line and the rule.
 */
export function* hostLogLines(bytes: Buffer, path: string): Generator<LogLine, undefined> {
  let line = 0;
  for (let start = 0; start < bytes.length;) {
    line++;
    const end = bytes.indexOf(LINE_FEED, start);
    if (end < 0) throw badLine(path, line, 'the file ends within this line: the log is truncated');
    yield { line, record: checkedRecord(bytes.toString('utf8', start, end), { path, line }) };
    start = end + 1;
  }
  return undefined;
}

function checkedRecord(
  text: string,
  { path, line }: { readonly path: string; readonly line: number },
): HostLogRecord {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw badLine(path, line, 'is not JSON');
  }
  const broken = brokenRule(value);
  if (broken !== undefined) throw badLine(path, line, broken);
  // Each field was checked.
  return value as HostLogRecord;
}

/** The rule that a value breaks, of a record of the log. */
function brokenRule(value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null) return 'is not an object';
  const fields = new Map<string, unknown>(Object.entries(value));
  const isWord = (name: string, words: readonly string[]): boolean =>
    words.some((word) => word === fields.get(name));
  if (!isWord('phase', PHASES)) return `phase must be one of ${PHASES.join(', ')}`;
  if (!isWord('op', HOST_OPS)) return `op must be one of ${HOST_OPS.join(', ')}`;
  if (typeof fields.get('file') !== 'string') return 'file must be a string, such as image';
  const request = fields.get('request');
  if (request !== undefined && !isCount(request)) return 'request must be a whole number from 0';
  const guest = fields.get('guest');
  if (guest !== undefined && !isGuest(guest)) {
    return 'guest must have an op, and an offset and length in bytes';
  }
  if (fields.get('op') === 'sync') {
    return isWord('cause', SYNC_CAUSES) ? undefined : 'cause must be a known sync cause';
  }
  if (!isCount(fields.get('offset')) || !isCount(fields.get('length'))) {
    return 'offset and length must be whole numbers of bytes';
  }
  if (!isWord('purpose', PURPOSES)) return 'purpose must be a known purpose';
  const parts = fields.get('parts');
  return parts === undefined || isParts(parts) ? undefined : 'parts must be a list of [purpose, bytes]';
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function isGuest(value: unknown): value is GuestRequest {
  if (typeof value !== 'object' || value === null) return false;
  const { op, offset, length } = value as Readonly<Record<string, unknown>>;
  return (
    typeof op === 'string' &&
    (offset === undefined || isCount(offset)) &&
    (length === undefined || isCount(length))
  );
}

function isParts(value: unknown): boolean {
  if (!Array.isArray(value)) return false;
  return value.every(
    (part) =>
      Array.isArray(part) &&
      part.length === 2 &&
      PURPOSES.some((purpose) => purpose === part[0]) &&
      isCount(part[1]),
  );
}

function badLine(path: string, line: number, rule: string): Qcow2BenchError {
  return new Qcow2BenchError(
    'host-log-invalid',
    `${rule}; a host log is written by --host-log; ingest reads those of other engines`,
    {
      path,
      line,
    },
  );
}
