/**
 * The host operations of a guest request, read back from the text that a result keeps of its cost
 * (`result/request-costs`), and the time that a modelled device would take for them.
 *
 * Invariants:
 * - A text that is not understood gives the operations before that place, never a guess.
 * - Times are of one request at a time, without seeks: the texts hold no offsets.
 */

import {
  METADATA_PURPOSES,
  operationNs,
  PURPOSES,
  SYNC_CAUSES,
  syncNs,
  type PathCosts,
  type Purpose,
  type SyncCause,
} from '../result/vocabulary.ts';

export type OperationVerb = 'read' | 'write' | 'zero-range' | 'punch-hole' | 'truncate';

/** An operation, as often as it came in a row. */
export type RequestOperation =
  | { readonly op: 'sync'; readonly cause: SyncCause; readonly count: number }
  | {
      readonly op: OperationVerb;
      /** The main one, by which it is counted. */
      readonly purpose: Purpose;
      /** All parts of a merged write, in order; of data the bytes are not kept. */
      readonly parts: readonly { readonly purpose: Purpose; readonly bytes: number | undefined }[];
      readonly count: number;
    };

const VERBS: readonly string[] = ['read', 'write', 'zero-range', 'punch-hole', 'truncate'];
const TIMES = / × (\d+)$/;
/** Operations of one request that are read. */
const OPERATIONS_MAX = 4096;

/** `write data, write l2-table 4096 B × 3, sync writethrough`. */
export function operationsOfCost(cost: string): readonly RequestOperation[] {
  const operations: RequestOperation[] = [];
  for (const text of cost === '' ? [] : cost.split(', ')) {
    const operation = operationOf(text);
    if (operation === undefined || operations.length === OPERATIONS_MAX) break;
    operations.push(operation);
  }
  return operations;
}

function operationOf(text: string): RequestOperation | undefined {
  const count = Number(TIMES.exec(text)?.[1] ?? 1);
  const [verb = '', ...words] = text.replace(TIMES, '').split(' ');
  const rest = words.join(' ');
  if (verb === 'sync') {
    const cause = SYNC_CAUSES.find((each) => each === rest);
    return cause && { op: 'sync', cause, count };
  }
  const op = VERBS.find((each) => each === verb) as OperationVerb | undefined;
  const parts = rest.split('+').map(partOf);
  if (op === undefined || !parts.every((part) => part !== undefined)) return undefined;
  const purpose = mainPurpose(parts.map((part) => part.purpose));
  return { op, purpose, parts, count };
}

function partOf(text: string): { purpose: Purpose; bytes: number | undefined } | undefined {
  const [name, bytes] = text.split(' ');
  const purpose = PURPOSES.find((each) => each === name);
  return purpose && { purpose, bytes: bytes === undefined ? undefined : Number(bytes) };
}

/** Guest data before what was written around it. */
function mainPurpose(purposes: readonly Purpose[]): Purpose {
  return purposes.find((purpose) => purpose !== 'cow') ?? 'cow';
}

/** Where an operation is drawn. */
export type Lane = 'data' | 'metadata' | 'syncs';

export function laneOf(operation: RequestOperation): Lane {
  if (operation.op === 'sync') return 'syncs';
  return METADATA_PURPOSES.includes(operation.purpose) ? 'metadata' : 'data';
}

export interface DataSizes {
  /** Bytes of guest data in a write or read. */
  readonly data: number;
  /** Bytes of the fill around it. */
  readonly fill: number;
}

/** Nanoseconds of each operation on a modelled device, each as often as it came. */
export function operationTimesNs(
  operations: readonly RequestOperation[],
  costs: PathCosts,
  sizes: DataSizes,
): readonly number[] {
  const unsynced = { bytes: 0, extents: 0, allocates: false };
  const fillsNew = operations.some(({ op }) => op === 'zero-range' || op === 'truncate');
  return operations.map((operation) => {
    const { count } = operation;
    if (operation.op === 'sync') {
      const first = syncNs(costs.sync, unsynced);
      const others = syncNs(costs.sync, { bytes: 0, extents: 0, allocates: false });
      Object.assign(unsynced, { bytes: 0, extents: 0, allocates: false });
      return first + (count - 1) * others;
    }
    const bytes = operation.parts.reduce((sum, part) => sum + bytesOf(part, sizes), 0);
    const isZeroing = operation.op === 'zero-range';
    const changes = operation.op !== 'read';
    // New blocks: the fill of a new cluster, and the data that was written around or into it.
    const allocates =
      isZeroing ||
      operation.parts.some(({ purpose }) => purpose === 'cow') ||
      (fillsNew && changes && operation.purpose === 'data');
    if (changes) {
      unsynced.bytes += isZeroing ? 0 : bytes * count;
      unsynced.extents += isZeroing ? 0 : count;
      unsynced.allocates ||= allocates;
    }
    const cost = {
      read: costs.read,
      write: costs.write,
      'zero-range': costs.zeroRange,
      'punch-hole': costs.punchHole,
      truncate: costs.truncate,
    }[operation.op];
    const moved = operation.op === 'read' || operation.op === 'write' ? bytes : 0;
    return (
      count *
      operationNs(cost, { bytes: moved, jumps: false, allocates: allocates && operation.op === 'write' })
    );
  });
}

function bytesOf(
  { purpose, bytes }: { readonly purpose: Purpose; readonly bytes: number | undefined },
  { data, fill }: DataSizes,
): number {
  return bytes ?? (purpose === 'cow' ? fill : data);
}
