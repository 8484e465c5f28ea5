/**
 * Gives the host operations of a real QEMU their purposes, as records of the host log. The system
 * does not know why an operation happened; our own reading of the image before and after the run
 * does.
 *
 * Invariants:
 * - What a host cluster is at the end of the run counts, and where it is nothing then, what it was
 *   at the start. A cluster that was metadata, was freed and then held data is taken for data
 *   throughout.
 * - A write to guest data is split: bytes of the request are `data`, what surrounds them is `cow`.
 *   → `guest-places.ts`
 * - Operations that failed, and plain `fallocate`, which changes no byte, are left out.
 */

import type { HostLogRecord, RangeRecord } from '../device/host-log.ts';
import type { Purpose } from '../device/purpose.ts';
import type { CacheMode } from '../format/cache-mode.ts';
import type { Format } from '../format/disk-image.ts';
import type { RefcountMode } from '../format/image-options.ts';
import type { Request } from '../workload/request.ts';
import { guestPlaces } from './guest-places.ts';
import type { HostOperation } from './host-operation.ts';
import { metadataIn, type FileLayout } from '../format/file-layout.ts';
import { syncCauses, type SequenceStep } from './sync-causes.ts';

export interface ClassifyOptions {
  readonly format: Format;
  readonly refcounts: RefcountMode | null;
  readonly cache: CacheMode;
  /** As they were served: `HostOperation.request` is an index into them. */
  readonly requests: readonly Request[];
  readonly before: FileLayout;
  readonly after: FileLayout;
}

export interface Classified {
  /** One for each operation that did something, in the order of issue. */
  readonly records: readonly HostLogRecord[];
  /** Of each record, the index of its request; `undefined` at open and close. */
  readonly requests: readonly (number | undefined)[];
  /** Requests that had to end durable and issued no sync, as nothing was written since the last. */
  readonly elidedFlushes: number;
}

/** Purposes and causes of `operations`, all of one run. */
export function classifyOperations(
  operations: readonly HostOperation[],
  options: ClassifyOptions,
): Classified {
  const done = operations.filter(({ op, error }) => error === undefined && op !== 'allocate');
  const places = placesOf(done, options);
  const steps = done.map((operation): SequenceStep => {
    const { phase, request } = operation;
    return {
      phase,
      request,
      record: rangeRecord(operation, { ...optionsFor(operation.file, options), places }),
    };
  });
  const files = done.map(({ file }) => file);
  // A data file has no tables that wait for it: its syncs stand apart.
  const own = steps.filter((_, index) => files[index] !== 'data');
  const { causes, elidedFlushes } = syncCauses(own, options);
  let at = 0;
  const records = steps.map(({ phase, record }, index): HostLogRecord => {
    const file = files[index] ?? 'image';
    const cause = file === 'data' ? 'data-file' : (causes[at++] ?? 'guest-flush');
    return record ?? { phase, op: 'sync', file, cause };
  });
  return { records, requests: steps.map(({ request }) => request), elidedFlushes };
}

/** A data file holds nothing but guest data, each byte at its guest offset. */
function optionsFor(file: string, options: ClassifyOptions): ClassifyOptions {
  if (file !== 'data') return options;
  const { clusterSize } = options.after;
  const layout: FileLayout = {
    clusterSize,
    metadataAt: () => undefined,
    guestOffsetAt: (offset: number) => offset,
  };
  return { ...options, before: layout, after: layout };
}

/** Guest offsets of the writes that are no metadata. */
function placesOf(
  operations: readonly HostOperation[],
  options: ClassifyOptions,
): ReadonlyMap<HostOperation, number> {
  const writes = new Map<string, HostOperation[]>();
  for (const operation of operations) {
    const { op, file, request } = operation;
    if (op !== 'write' || request === undefined) continue;
    if (metadataWritten(operation, optionsFor(file, options)) !== undefined) continue;
    const key = `${String(request)} ${file}`;
    const others = writes.get(key);
    if (others === undefined) writes.set(key, [operation]);
    else others.push(operation);
  }
  const places = new Map<HostOperation, number>();
  for (const group of writes.values()) {
    const [first] = group;
    const request = first && requestOf(first, options);
    if (first === undefined || request === undefined) continue;
    const found = guestPlaces(request, group, optionsFor(first.file, options));
    for (const [index, operation] of group.entries()) places.set(operation, found[index] ?? request.offset);
  }
  return places;
}

interface PlacedOptions extends ClassifyOptions {
  readonly places: ReadonlyMap<HostOperation, number>;
}

/**
 * The record of an operation on a range; `undefined` for a sync, whose cause only its neighbours
 * determine.
 */
function rangeRecord(operation: HostOperation, options: PlacedOptions): RangeRecord | undefined {
  const { phase, op, file, offset, length } = operation;
  switch (op) {
    case 'sync':
    case 'allocate':
      return undefined;
    case 'write':
      return { phase, op, file, offset, length, ...writePurpose(operation, options) };
    case 'read':
      return { phase, op, file, offset, length, purpose: readPurpose(operation, options) };
    case 'zero-range':
      return { phase, op, file, offset, length, purpose: zeroPurpose(operation, options) };
    case 'punch-hole':
    case 'truncate':
      return { phase, op, file, offset, length, purpose: 'data' };
  }
}

function writePurpose(
  operation: HostOperation,
  options: PlacedOptions,
): Pick<RangeRecord, 'purpose' | 'parts'> {
  const metadata = metadataWritten(operation, options);
  if (metadata !== undefined) return { purpose: metadata };
  const request = requestOf(operation, options);
  const place = options.places.get(operation);
  if (request === undefined || place === undefined) return { purpose: 'data' };
  const parts = partsAround(request, place, operation.length).filter(([, bytes]) => bytes > 0);
  const purpose = parts.some(([part]) => part === 'data') ? 'data' : 'cow';
  return parts.length === 1 ? { purpose } : { purpose, parts };
}

/**
 * In a format that allocates, only the fill around a write is zeroed; zero-writes change tables, or
 * a raw data file.
 */
function zeroPurpose(operation: HostOperation, options: ClassifyOptions): Purpose {
  if (options.format === 'raw') return 'data';
  const isZeroWrite = operation.file === 'data' && requestOf(operation, options)?.op === 'write-zeroes';
  return isZeroWrite ? 'data' : 'cow';
}

/**
 * The metadata that a write is; `undefined` for one of data, which may have been where a table is
 * now.
 */
function metadataWritten(operation: HostOperation, options: ClassifyOptions): Purpose | undefined {
  const metadata = metadataIn(operation.offset, options);
  // Tables of these kinds are written one at a time.
  const isTable = metadata === 'l2-table' || metadata === 'refcount-block';
  const isTooLong = operation.length > options.after.clusterSize && options.format === 'qcow2';
  return isTable && isTooLong ? undefined : metadata;
}

function readPurpose(operation: HostOperation, options: ClassifyOptions): Purpose {
  if (operation.file !== 'image' && operation.file !== 'data') return 'backing-read';
  const metadata = metadataIn(operation.offset, options);
  if (metadata !== undefined) return metadata;
  return requestOf(operation, options)?.op === 'read' ? 'data' : 'cow';
}

type Part = readonly [Purpose, number];

/** What of `length` bytes at a guest offset the request wrote, and what is before and behind it. */
function partsAround(request: Request, guestOffset: number, length: number): readonly Part[] {
  const head = Math.min(length, Math.max(0, request.offset - guestOffset));
  const tail = Math.min(length, Math.max(0, guestOffset + length - requestEnd(request)));
  const middle = length - head - tail;
  // All of it is on one side of the request.
  if (middle <= 0) return [['cow', length]];
  return [
    ['cow', head],
    ['data', middle],
    ['cow', tail],
  ];
}

function requestEnd({ offset, length }: Request): number {
  return offset + length;
}

function requestOf({ request }: HostOperation, { requests }: ClassifyOptions): Request | undefined {
  return request === undefined ? undefined : requests[request];
}
