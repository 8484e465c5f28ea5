/**
 * What a page shows of host logs: host operations by purpose and cause, those of each of the first guest
 * requests, and their places.
 *
 * Invariant: memory is bounded by what is shown, not by the length of a log; every operation is counted.
 */

import type { LogLine } from '../../compare/host-log-lines.ts';
import type { HostLogRecord } from '../../compare/host-logs.ts';
import { PHASES, type Phase, type Purpose, type SyncCause } from '../../result/vocabulary.ts';
import type { HostOperation } from '../closer-look.ts';
import { TIMELINE_REQUESTS, type PageLog } from '../page-format.ts';
import { CostTexts } from '../page-requests.ts';

/** A log, by its name. */
export interface NamedLog {
  readonly name: string;
  readonly lines: Iterable<LogLine>;
}

/** Operations of one kind. */
export interface LogCount {
  readonly op: HostLogRecord['op'];
  readonly purpose: Purpose | SyncCause;
  /** By phase. */
  readonly operations: Readonly<Record<Phase, number>>;
  readonly bytes: number;
}

export interface CountedLog extends PageLog {
  readonly counts: readonly LogCount[];
  /** Guest requests that caused an operation. */
  readonly guestRequests: number;
}

/** Operations of a log whose places a page holds. */
const OPERATIONS_MAX = 4000;
/** Operations of one request that are drawn. */
const REQUEST_OPERATIONS_MAX = 256;
/** Processor time of a request in the times of a model, nanoseconds: no format is known. */
const REQUEST_NS = 1000;
const ORDER: readonly HostLogRecord['op'][] = [
  'sync',
  'write',
  'read',
  'zero-range',
  'punch-hole',
  'truncate',
];

/**
 * Reads each log once, to its end.
 *
 * @throws Qcow2BenchError `host-log-invalid`
 */
export function countedLogs(logs: readonly NamedLog[]): {
  readonly costs: readonly string[];
  readonly logs: readonly CountedLog[];
} {
  const costs = new CostTexts();
  const counted = logs.map((log) => countedLog(log, costs));
  return { costs: costs.texts, logs: counted };
}

function countedLog({ name, lines }: NamedLog, costs: CostTexts): CountedLog {
  const counts = new Map<string, LogCount>();
  const requests: string[][] = [];
  const operations: HostOperation[] = [];
  let guestRequests = 0;
  let last = -1;
  for (const { record } of lines) {
    count(counts, record);
    const { request } = record;
    if (request !== undefined && request > last) {
      guestRequests++;
      last = request;
    }
    if (request !== undefined && request < TIMELINE_REQUESTS) {
      while (requests.length <= request) requests.push([]);
      const own = requests[request];
      if (own !== undefined && own.length < REQUEST_OPERATIONS_MAX) own.push(textOf(record));
    }
    if (record.phase !== 'open' && operations.length < OPERATIONS_MAX) operations.push(placed(record));
  }
  return {
    name,
    requests: requests.length === 0 ? null : requestsOf(requests, costs),
    operations,
    counts: [...counts.values()].toSorted(byKind),
    guestRequests,
  };
}

function requestsOf(requests: readonly (readonly string[])[], costs: CostTexts): PageLog['requests'] {
  const own = new Map<string, number>();
  const sequence = requests.map((texts) => {
    const cost = texts.join(', ');
    const index = own.get(cost) ?? own.size;
    own.set(cost, index);
    return index;
  });
  return {
    costs: [...own.keys()].map((cost) => costs.positionOf(cost)),
    sequence,
    // Each text has its bytes.
    dataBytes: 0,
    fillBytes: 0,
    isDirect: false,
    requestNs: REQUEST_NS,
  };
}

/** As a result keeps it (`result/request-costs`), with the bytes of data too. */
function textOf(record: HostLogRecord): string {
  if (record.op === 'sync') return `sync ${record.cause}`;
  const parts = record.parts ?? [[record.purpose, record.length] as const];
  const texts = parts.map(([purpose, bytes]) => `${purpose} ${String(bytes)} B`);
  return `${record.op} ${texts.join('+')}`;
}

function placed(record: HostLogRecord): HostOperation {
  const request = record.request ?? -1;
  if (record.op === 'sync') return [request, record.file, record.op, record.cause, 0, 0];
  return [request, record.file, record.op, record.purpose, record.offset, record.length];
}

function count(counts: Map<string, LogCount>, record: HostLogRecord): void {
  const { op, phase } = record;
  const purpose = record.op === 'sync' ? record.cause : record.purpose;
  const key = `${op} ${purpose}`;
  const known = counts.get(key);
  const operations = known?.operations ?? { open: 0, run: 0, close: 0 };
  const bytes = record.op === 'sync' || record.op === 'truncate' ? 0 : record.length;
  counts.set(key, {
    op,
    purpose,
    operations: { ...operations, [phase]: operations[phase] + 1 },
    bytes: (known?.bytes ?? 0) + bytes,
  });
}

/** By operation, then the most first. */
function byKind(a: LogCount, b: LogCount): number {
  return ORDER.indexOf(a.op) - ORDER.indexOf(b.op) || operationsOf(b) - operationsOf(a);
}

/** In all phases. */
export function operationsOf({ operations }: LogCount): number {
  return PHASES.reduce((sum, phase) => sum + operations[phase], 0);
}
