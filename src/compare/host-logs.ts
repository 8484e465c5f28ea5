/**
 * Two host logs compared: the first host operation that differs, with the guest request that caused
 * it and its neighbours, and what differs in sum.
 *
 * Invariants:
 * - Operations are compared in the order of issue, with file, offset, length, and purpose or cause;
 *   which request they belong to is reported and not compared.
 * - Memory is bounded by the number of operations shown and searched, not by the length of a log.
 */

import type { GuestRequest, HostLogRecord } from '../device/host-log.ts';
import type { HostOp } from '../device/operation.ts';
import { COUNT_LEAVES, meaningOf, type LeafChange } from './cell-counts.ts';
import { subjectChanges } from './change-groups.ts';
import type { SubjectChange } from './subject-change.ts';
import type { LogLine } from './host-log-lines.ts';

export type { GuestRequest, HostLogRecord } from '../device/host-log.ts';

export interface ShownOperation {
  readonly line: number;
  readonly record: HostLogRecord;
  /** Belongs to the difference, not to its neighbourhood. */
  readonly isDifferent: boolean;
}

export interface LogDifference {
  /** Operations before it, alike in both. */
  readonly index: number;
  /**
   * `added` and `removed`: only the second, or only the first log has these operations. `changed`:
   * both have others.
   */
  readonly kind: 'added' | 'removed' | 'changed';
  /** The guest request that caused it; `undefined` at open and close, and of logs without numbers. */
  readonly request: number | undefined;
  readonly guest: GuestRequest | undefined;
  /** The neighbourhood in both logs. */
  readonly before: readonly ShownOperation[];
  readonly after: readonly ShownOperation[];
}

export interface LogComparison {
  readonly operationsBefore: number;
  readonly operationsAfter: number;
  /** `undefined` if the logs are alike. */
  readonly first: LogDifference | undefined;
  /** What differs in sum, by sync cause and purpose; empty if only order or places do. */
  readonly totals: readonly SubjectChange[];
}

/** Operations shown on either side of the difference. */
const SHOWN = 4;
/** Operations searched for the place from which on the logs are alike again. */
const SEARCHED = 64;
/** Operations that must be alike for that. */
const ALIKE = 3;

export interface LogOptions {
  /** Leave out reads: compare only what changes files or makes them durable. */
  readonly ignoreReads?: boolean;
}

export function compareHostLogs(
  before: Iterable<LogLine>,
  after: Iterable<LogLine>,
  { ignoreReads = false }: LogOptions = {},
): LogComparison {
  const sides = [before, after].map((lines) => new LogCursor(lines, ignoreReads));
  const [left, right] = sides;
  if (left === undefined || right === undefined) throw new Error('internal error: two logs');
  let first: LogDifference | undefined;
  while (left.peek(0) !== undefined || right.peek(0) !== undefined) {
    if (first === undefined && keyOf(left.peek(0)) !== keyOf(right.peek(0))) {
      first = differenceAt(left, right);
    }
    left.advance();
    right.advance();
  }
  return {
    operationsBefore: left.operations,
    operationsAfter: right.operations,
    first,
    totals: subjectChanges(totalChanges(left.totals, right.totals)),
  };
}

/** One log being read: a few operations behind, as many ahead as are looked at. */
class LogCursor {
  operations = 0;
  /** By leaf of the counts. */
  readonly totals = new Map<string, number>();
  readonly behind: LogLine[] = [];
  readonly #lines: Iterator<LogLine>;
  readonly #ignoreReads: boolean;
  readonly #ahead: LogLine[] = [];
  #guests = new Map<number, GuestRequest>();

  constructor(lines: Iterable<LogLine>, ignoreReads: boolean) {
    this.#lines = lines[Symbol.iterator]();
    this.#ignoreReads = ignoreReads;
  }

  /** The operation that many behind the current one; `undefined` past the end. */
  peek(distance: number): LogLine | undefined {
    while (this.#ahead.length <= distance) {
      const next = this.#lines.next();
      if (next.done === true) return undefined;
      const { record } = next.value;
      // A request is described in its first line, which may be a read that is left out.
      if (record.request !== undefined && record.guest !== undefined) {
        this.#describe(record.request, record.guest);
      }
      if (!this.#ignoreReads || record.op !== 'read') this.#ahead.push(next.value);
    }
    return this.#ahead[distance];
  }

  advance(): void {
    if (this.peek(0) === undefined) return;
    const passed = this.#ahead.shift();
    if (passed === undefined) return;
    this.operations++;
    addTo(this.totals, passed.record);
    this.behind.push(passed);
    if (this.behind.length > SHOWN) this.behind.shift();
  }

  guest(request: number | undefined): GuestRequest | undefined {
    return request === undefined ? undefined : this.#guests.get(request);
  }

  #describe(request: number, guest: GuestRequest): void {
    this.#guests.set(request, guest);
    if (this.#guests.size <= GUESTS_MAX) return;
    // The oldest half: requests that far back are done.
    this.#guests = new Map([...this.#guests].slice(GUESTS_MAX / 2));
  }
}

/** More than are ever in flight at once. */
const GUESTS_MAX = 4096;

function differenceAt(left: LogCursor, right: LogCursor): LogDifference {
  const [removed, added] = resumption(left, right);
  const [own, other] = [shown(left, removed), shown(right, added)];
  const source = (added > 0 ? right.peek(0) : left.peek(0))?.record;
  const request = source?.request ?? left.peek(0)?.record.request;
  return {
    index: left.operations,
    kind: removed === 0 ? 'added' : added === 0 ? 'removed' : 'changed',
    request,
    guest: right.guest(request) ?? left.guest(request),
    before: own,
    after: other,
  };
}

/** How many operations of each are skipped until both are alike again: as few as possible. */
function resumption(left: LogCursor, right: LogCursor): readonly [removed: number, added: number] {
  for (let skipped = 1; skipped <= SEARCHED; skipped++) {
    // What is added or removed alone explains most: these splits come first.
    for (const removed of splits(skipped)) {
      const added = skipped - removed;
      if (isAlike(left, removed, right, added)) return [removed, added];
    }
  }
  return [1, 1];
}

function splits(skipped: number): readonly number[] {
  const all = Array.from({ length: skipped + 1 }, (_, removed) => removed);
  return all.toSorted((a, b) => Math.abs(2 * b - skipped) - Math.abs(2 * a - skipped));
}

function isAlike(left: LogCursor, from: number, right: LogCursor, to: number): boolean {
  for (let step = 0; step < ALIKE; step++) {
    const [own, other] = [left.peek(from + step), right.peek(to + step)];
    if (keyOf(own) !== keyOf(other)) return false;
    if (own === undefined) return true;
  }
  return true;
}

function shown(cursor: LogCursor, different: number): readonly ShownOperation[] {
  const own: ShownOperation[] = cursor.behind.map((line) => ({ ...line, isDifferent: false }));
  for (let ahead = 0; ahead < Math.min(different, 2 * SHOWN) + SHOWN; ahead++) {
    const line = cursor.peek(ahead);
    if (line === undefined) break;
    own.push({ ...line, isDifferent: ahead < different });
  }
  return own;
}

function keyOf(line: LogLine | undefined): string {
  if (line === undefined) return 'end';
  const { record } = line;
  if (record.op === 'sync') return `${record.phase} sync ${record.file} ${record.cause}`;
  const { phase, op, file, offset, length, purpose, parts } = record;
  const shares = parts === undefined ? purpose : JSON.stringify(parts);
  return `${phase} ${op} ${file} ${String(offset)} ${String(length)} ${shares}`;
}

const KINDS: Readonly<Record<Exclude<HostOp, 'sync'>, string>> = {
  write: 'writes',
  read: 'reads',
  'zero-range': 'zeroRanges',
  'punch-hole': 'punchHoles',
  truncate: 'truncates',
};

function addTo(totals: Map<string, number>, record: HostLogRecord): void {
  const add = (leaf: string, amount: number): void => {
    totals.set(leaf, (totals.get(leaf) ?? 0) + amount);
  };
  if (record.op === 'sync') {
    add(`${record.phase}.syncs.byCause.${record.cause}`, 1);
    return;
  }
  const start = `${record.phase}.${KINDS[record.op]}.byPurpose`;
  add(`${start}.${record.purpose}.ops`, 1);
  const parts = record.parts ?? [[record.purpose, record.length] as const];
  for (const [purpose, bytes] of parts) add(`${start}.${purpose}.bytes`, bytes);
}

function totalChanges(
  before: ReadonlyMap<string, number>,
  after: ReadonlyMap<string, number>,
): readonly LeafChange[] {
  return COUNT_LEAVES.flatMap((leaf) => {
    const counts = { before: before.get(leaf) ?? 0, after: after.get(leaf) ?? 0 };
    return counts.before === counts.after ? [] : [{ ...meaningOf(leaf), ...counts }];
  });
}
