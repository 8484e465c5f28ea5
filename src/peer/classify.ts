/**
 * Gives the host operations of a real QEMU their purposes, as records of the host log. The system does not know
 * why an operation happened; our own reading of the image before and after the run does.
 *
 * Invariants:
 * - What a host cluster is at the end of the run counts, and where it is nothing then, what it was at the start.
 *   A cluster that was metadata, was freed and then held data is taken for data throughout.
 * - A write to guest data is split: bytes of the request are `data`, what surrounds them is `cow`.
 * - Operations that failed, and plain `fallocate`, which changes no byte, are left out.
 */

import type { HostLogRecord, RangeRecord } from '../device/host-log.ts';
import type { Purpose } from '../device/purpose.ts';
import type { CacheMode } from '../format/cache-mode.ts';
import type { Format } from '../format/disk-image.ts';
import type { RefcountMode } from '../format/image-options.ts';
import type { Request } from '../workload/request.ts';
import type { HostOperation } from './host-operation.ts';
import type { ImageLayout } from './image-layout.ts';
import { syncCauses, type SequenceStep } from './sync-causes.ts';

export interface ClassifyOptions {
  readonly format: Format;
  readonly refcounts: RefcountMode | null;
  readonly cache: CacheMode;
  /** As they were served: `HostOperation.request` is an index into them. */
  readonly requests: readonly Request[];
  readonly before: ImageLayout;
  readonly after: ImageLayout;
}

export interface Classified {
  /** One for each operation that did something, in the order of issue. */
  readonly records: readonly HostLogRecord[];
  /** Requests that had to end durable and issued no sync, as nothing was written since the last. */
  readonly elidedFlushes: number;
}

/** Purposes and causes of `operations`, all of one run. */
export function classifyOperations(
  operations: readonly HostOperation[],
  options: ClassifyOptions,
): Classified {
  const steps: SequenceStep[] = [];
  const files: string[] = [];
  for (const operation of operations) {
    if (operation.error !== undefined || operation.op === 'allocate') continue;
    const { phase, request } = operation;
    steps.push({ phase, request, record: rangeRecord(operation, optionsFor(operation.file, options)) });
    files.push(operation.file);
  }
  const { causes, elidedFlushes } = syncCauses(steps, options);
  const records = steps.map(({ phase, record }, index): HostLogRecord => {
    if (record !== undefined) return record;
    const file = files[index] ?? 'image';
    const cause = file === 'data' ? 'data-file' : (causes[index] ?? 'guest-flush');
    return { phase, op: 'sync', file, cause };
  });
  return { records, elidedFlushes };
}

/** A data file holds nothing but guest data, each byte at its guest offset. */
function optionsFor(file: string, options: ClassifyOptions): ClassifyOptions {
  if (file !== 'data') return options;
  const { clusterSize } = options.after;
  const layout: ImageLayout = {
    clusterSize,
    metadataAt: () => undefined,
    guestOffsetAt: (hostOffset) => hostOffset,
  };
  return { ...options, before: layout, after: layout };
}

/** The record of an operation on a range; `undefined` for a sync, whose cause only its neighbours tell. */
function rangeRecord(operation: HostOperation, options: ClassifyOptions): RangeRecord | undefined {
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
      // In a format that allocates, only the fill around a write is zeroed: zero-writes change tables.
      return { phase, op, file, offset, length, purpose: options.format === 'raw' ? 'data' : 'cow' };
    case 'punch-hole':
    case 'truncate':
      return { phase, op, file, offset, length, purpose: 'data' };
  }
}

function readPurpose(operation: HostOperation, options: ClassifyOptions): Purpose {
  if (operation.file !== 'image' && operation.file !== 'data') return 'backing-read';
  const metadata = metadataAt(operation.offset, options);
  if (metadata !== undefined) return metadata;
  return requestOf(operation, options)?.op === 'read' ? 'data' : 'cow';
}

function writePurpose(
  operation: HostOperation,
  options: ClassifyOptions,
): Pick<RangeRecord, 'purpose' | 'parts'> {
  const metadata = metadataAt(operation.offset, options);
  if (metadata !== undefined) return { purpose: metadata };
  const parts = dataParts(operation, options);
  const purpose = parts.some(([part]) => part === 'data') ? 'data' : 'cow';
  return parts.length === 1 ? { purpose } : { purpose, parts };
}

function metadataAt(hostOffset: number, { before, after }: ClassifyOptions): Purpose | undefined {
  const metadata = after.metadataAt(hostOffset);
  if (metadata !== undefined || after.guestOffsetAt(hostOffset) !== undefined) return metadata;
  return before.metadataAt(hostOffset);
}

type Part = readonly [Purpose, number];

/** The write cut into what the guest wrote and what surrounds it. */
function dataParts(operation: HostOperation, options: ClassifyOptions): readonly Part[] {
  const { offset, length } = operation;
  const { clusterSize } = options.after;
  const request = requestOf(operation, options);
  if (request === undefined) return [['data', length]];
  const parts: Part[] = [];
  for (let at = offset; at < offset + length;) {
    const end = Math.min(offset + length, (Math.floor(at / clusterSize) + 1) * clusterSize);
    for (const part of clusterParts({ from: at, to: end }, request, options)) addPart(parts, part);
    at = end;
  }
  return parts;
}

/** As `dataParts`, for bytes of one host cluster. */
function clusterParts(
  host: { readonly from: number; readonly to: number },
  request: Request,
  { before, after }: ClassifyOptions,
): readonly Part[] {
  const length = host.to - host.from;
  // A cluster that changed hands in the run belonged to a guest cluster that the request touches.
  for (const layout of [after, before]) {
    const guestOffset = layout.guestOffsetAt(host.from);
    if (guestOffset === undefined) continue;
    const clusterStart = guestOffset - (guestOffset % layout.clusterSize);
    const clusterEnd = clusterStart + layout.clusterSize;
    if (clusterEnd <= request.offset || clusterStart >= request.offset + request.length) continue;
    const head = Math.min(length, Math.max(0, request.offset - guestOffset));
    const tail = Math.min(length, Math.max(0, guestOffset + length - request.offset - request.length));
    const middle = length - head - tail;
    // All of it lies on one side of the request.
    if (middle <= 0) return [['cow', length]];
    return [
      ['cow', head],
      ['data', middle],
      ['cow', tail],
    ];
  }
  // Freed again before the run ended: at most the request's bytes are the guest's.
  const data = Math.min(length, request.length);
  return [
    ['data', data],
    ['cow', length - data],
  ];
}

function addPart(parts: Part[], [purpose, bytes]: Part): void {
  if (bytes === 0) return;
  const last = parts.at(-1);
  if (last?.[0] === purpose) parts[parts.length - 1] = [purpose, last[1] + bytes];
  else parts.push([purpose, bytes]);
}

function requestOf({ request }: HostOperation, { requests }: ClassifyOptions): Request | undefined {
  return request === undefined ? undefined : requests[request];
}
