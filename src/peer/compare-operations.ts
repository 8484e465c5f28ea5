/**
 * Holds the host operations of two engines against each other, operation by operation.
 *
 * QEMU's thread pool may reorder data of one request that spans several extents. So a stretch of
 * `theirs` that belongs to one request and is between two syncs is compared in order first, and
 * only if that fails as a multiset in which the metadata still have their order; everything else is
 * in order. Failed operations changed nothing and are left out.
 *
 * One sync of ours is left out by its place and cause (`repair-order` of docs/qemu-rules.md): the
 * one between a rebuilt refcount table and the header's pointer to it.
 */

import type { HostLogRecord } from '../device/host-log.ts';
import { METADATA_PURPOSES, type Purpose } from '../device/purpose.ts';
import type { HostOperation, TracedOp } from './host-operation.ts';

/** What is compared; a `HostOperation` is one. */
interface Comparable {
  readonly op: TracedOp;
  readonly file: string;
  readonly offset: number;
  readonly length: number;
}

/** One of ours, of which it is known what it is for. */
interface OurOperation extends Comparable {
  readonly isMetadata: boolean;
}

export interface CompareOptions {
  /** Compare reads too; by default only what changes the files or makes it durable. */
  readonly reads?: boolean | undefined;
  /** Files left out, by name: QEMU opens a backing file in ways of its own. */
  readonly ignoreFiles?: readonly string[] | undefined;
}

export type Comparison =
  | {
      readonly identical: true;
      readonly operations: number;
      /** Stretches that are equal only as multisets. */
      readonly reorderedStretches: number;
    }
  | {
      readonly identical: false;
      /** Of the first difference, counting compared operations from 0. */
      readonly index: number;
      /**
       * The guest request to which theirs belongs there; `undefined` at open, at close, or past
       * their end.
       */
      readonly request: number | undefined;
      /** Of theirs that were compared. */
      readonly operations: number;
      /** Both sides around it, for a person. */
      readonly text: string;
    };

/** Operations shown before and after the first difference. */
const SHOWN_BEFORE = 6;
const SHOWN_AFTER = 6;

const LETTERS: Readonly<Record<TracedOp, string>> = {
  write: 'W',
  read: 'R',
  'zero-range': 'Z',
  'punch-hole': 'P',
  truncate: 'T',
  sync: 'F',
  allocate: 'A',
};

export function compareOperations(
  ours: readonly HostLogRecord[],
  theirs: readonly HostOperation[],
  options: CompareOptions = {},
): Comparison {
  // Space that is reserved again after a hole, where there is no zero-range, changes no byte: it is
  // not in our log.
  const isCompared = ({ op, file }: { readonly op: TracedOp; readonly file: string }): boolean =>
    op !== 'allocate' &&
    (op !== 'read' || options.reads === true) &&
    options.ignoreFiles?.includes(file) !== true;
  const left = withoutRepairOrder(ours.filter(isCompared)).map(comparable);
  const right = theirs.filter((operation) => operation.error === undefined && isCompared(operation));

  let reorderedStretches = 0;
  for (let start = 0; start < right.length;) {
    const end = stretchEnd(right, start);
    const difference = firstDifference(left, right, { start, end });
    if (difference !== undefined) {
      if (!differsInDataOrderOnly(left.slice(start, end), right.slice(start, end))) {
        return differing(left, right, difference);
      }
      reorderedStretches++;
    }
    start = end;
  }
  if (left.length > right.length) return differing(left, right, right.length);
  return { identical: true, operations: right.length, reorderedStretches };
}

/** As `W 0x50000 4096`, `F`, with the file's name unless it is the image. */
export function formatOperation({ op, file, offset, length }: Comparable): string {
  const place = op === 'sync' ? '' : ` 0x${offset.toString(16)}`;
  const size = op === 'sync' || op === 'truncate' ? '' : ` ${String(length)}`;
  return `${LETTERS[op]}${place}${size}${file === 'image' ? '' : ` (${file})`}`;
}

function withoutRepairOrder(records: readonly HostLogRecord[]): readonly HostLogRecord[] {
  return records.filter((record, index) => {
    if (record.op !== 'sync' || record.cause !== 'repair') return true;
    const table = records[index - 1];
    const pointer = records[index + 1];
    // O_DIRECT pads the pointer to what is around it.
    const isBetween = isWriteOf('refcount-table', table) && isWriteOf('header', pointer);
    return !isBetween || pointer?.file !== record.file;
  });
}

function isWriteOf(purpose: Purpose, record: HostLogRecord | undefined): boolean {
  return record?.op === 'write' && record.purpose === purpose;
}

function comparable(record: HostLogRecord): OurOperation {
  if (record.op === 'sync') {
    return { op: 'sync', file: record.file, offset: 0, length: 0, isMetadata: false };
  }
  const { op, file, offset, length, purpose } = record;
  return { op, file, offset, length, isMetadata: METADATA_PURPOSES.includes(purpose) };
}

/** Index behind the stretch that begins at `start`; a sync is a stretch of its own. */
function stretchEnd(operations: readonly HostOperation[], start: number): number {
  const first = operations[start];
  let end = start + 1;
  if (first === undefined || first.op === 'sync') return end;
  for (; end < operations.length; end++) {
    const next = operations[end];
    if (next === undefined || next.op === 'sync') break;
    if (next.request !== first.request || next.phase !== first.phase) break;
  }
  return end;
}

function firstDifference(
  left: readonly Comparable[],
  right: readonly Comparable[],
  { start, end }: { readonly start: number; readonly end: number },
): number | undefined {
  for (let index = start; index < end; index++) {
    if (keyAt(left, index) !== keyAt(right, index)) return index;
  }
  return undefined;
}

function differsInDataOrderOnly(left: readonly OurOperation[], right: readonly Comparable[]): boolean {
  const ours = left.map(formatOperation);
  const theirs = right.map(formatOperation);
  if (ours.toSorted().join('\n') !== theirs.toSorted().join('\n')) return false;
  const metadata = new Set(left.filter(({ isMetadata }) => isMetadata).map(formatOperation));
  const inOrder = (texts: readonly string[]): string => texts.filter((text) => metadata.has(text)).join('\n');
  return inOrder(ours) === inOrder(theirs);
}

function keyAt(operations: readonly Comparable[], index: number): string {
  const operation = operations[index];
  return operation === undefined ? 'end' : formatOperation(operation);
}

function differing(left: readonly Comparable[], right: readonly HostOperation[], index: number): Comparison {
  const lines: string[] = [];
  const last = Math.min(Math.max(left.length, right.length), index + SHOWN_AFTER + 1);
  for (let at = Math.max(0, index - SHOWN_BEFORE); at < last; at++) {
    const marker = at === index ? '>' : ' ';
    lines.push(`${marker} ${String(at).padStart(6)}  ${keyAt(left, at).padEnd(28)}  ${keyAt(right, at)}`);
  }
  const request = right[index]?.request;
  const where = request === undefined ? '' : ` (in QEMU's request ${String(request)})`;
  const header = `operation ${String(index)} differs${where}; ours has ${String(left.length)}, QEMU ${String(right.length)}`;
  return {
    identical: false,
    index,
    request,
    operations: right.length,
    text: [header, `${' '.repeat(10)}${'ours'.padEnd(28)}  QEMU`, ...lines].join('\n'),
  };
}
