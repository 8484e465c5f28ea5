/**
 * A run of an engine that is not ours, from what it left: its host operations (a log of strace, or
 * JSON Lines), the image after the run and before it, and the requests. The result has a cell like
 * any other.
 *
 * Invariants:
 * - Purposes and causes come from the structure of the image, as for QEMU, unless the engine names
 *   them itself.
 * - What does not fit together is an error: a log of another image, or of other requests. Counts
 *   that could not be right are worse than none.
 * - Of an image without the one before it, the clusters that it has now are taken for new.
 */

import { RequestRecorder } from '../bench/request-recorder.ts';
import { PLAIN_FORMAT, QEMU_FORMATS } from '../core/format-name.ts';
import { Qcow2BenchError, hex } from '../core/error.ts';
import type { FileLayout } from '../format/file-layout.ts';
import { CACHE_MODE_RULES, type CacheMode } from '../format/cache-mode.ts';
import type { Format } from '../format/disk-image.ts';
import type { RefcountMode } from '../format/image-options.ts';
import type { Counts, GuestCounts } from '../result/schema.ts';
import type { RequestCosts } from '../result/request-costs.ts';
import type { WorkloadSource } from '../workload/library.ts';
import type { Request } from '../workload/request.ts';
import { countedRecords, logOperations } from './classified-records.ts';
import { classifyOperations, type Classified } from './classify.ts';
import { readForeignStrace } from './foreign-strace.ts';
import { readGivenOperations, type GivenOperations } from './given-operations.ts';
import type { HostOperation } from './host-operation.ts';
import type { TracedFiles } from './strace-log.ts';
import { endsDurable } from './sync-causes.ts';

/** The image of the run, as it was before and after. */
export interface IngestedImage {
  readonly format: Format;
  readonly refcounts: RefcountMode | null;
  /** Absolute paths by the name that operations carry: `image`, `data`, `backing:N`. */
  readonly files: TracedFiles;
  /** Bytes of the file after the run. */
  readonly fileBytes: number;
  /** `undefined`: it was new. */
  readonly before: (FileLayout & { readonly fileBytes: number }) | undefined;
  readonly after: FileLayout;
}

export interface IngestOptions {
  readonly log: { readonly path: string; readonly bytes: Buffer };
  readonly image: IngestedImage;
  readonly cache: CacheMode;
  /** Requests that were served; default: those that an NBD server's log shows. */
  readonly requests: readonly Request[] | undefined;
  /** Where they come from, for their digest. */
  readonly source: WorkloadSource;
}

export interface Ingested {
  readonly counts: Counts;
  readonly requests: RequestCosts;
  /** What is to be said of the counts. */
  readonly notes: readonly string[];
}

/**
 * @throws Qcow2BenchError `host-log-invalid`, `peer-bad-trace`, `ingest-asynchronous`,
 *   `ingest-format`, `ingest-other-file`, `ingest-other-image`, `ingest-unmarked`, `ingest-misfit`,
 *   `ingest-no-requests`.
 */
export function ingest(options: IngestOptions): Ingested {
  const { log, image, cache, source } = options;
  const { given, requests, notes } = operationsOf(options);
  const classified =
    given.kind === 'named'
      ? namedRecords(given, requests, cache)
      : classify(given.operations, requests, { log, image, cache });
  const recorder = new RequestRecorder(source);
  recorder.add(requests);
  logOperations(classified, requests, recorder.sink);
  const meter = countedRecords(classified);
  const isUnknownBefore = image.before === undefined && image.format !== PLAIN_FORMAT;
  return {
    counts: {
      guest: guestCounts(requests, image),
      open: meter.counts('open'),
      run: meter.counts('run'),
      close: meter.counts('close'),
    },
    requests: recorder.costs(),
    notes: [
      ...(isUnknownBefore ? ['without --base: the image is taken to have been new before the run'] : []),
      ...notes,
    ],
  };
}

interface Operations {
  readonly given: GivenOperations;
  readonly requests: readonly Request[];
  readonly notes: readonly string[];
}

function operationsOf({ log, image, requests }: IngestOptions): Operations {
  const { path, bytes } = log;
  if (isJsonLines(bytes)) {
    if (requests === undefined) {
      const message =
        'does not hold the requests of the guest: name the trace or workload that was served with --requests';
      throw new Qcow2BenchError('ingest-no-requests', message, { path });
    }
    return { given: readGivenOperations(bytes, { path, requests: requests.length }), requests, notes: [] };
  }
  const trace = readForeignStrace(linesOf(bytes, path), { files: image.files, expected: requests, path });
  return {
    given: { kind: 'plain', operations: trace.operations },
    requests: requests ?? trace.requests ?? [],
    notes: trace.notes,
  };
}

function isJsonLines(bytes: Buffer): boolean {
  return /^\s*\{/.test(bytes.toString('latin1', 0, 64));
}

const LINE_FEED = 0x0a;

function* linesOf(bytes: Buffer, path: string): Generator<string, undefined> {
  let line = 0;
  for (let start = 0; start < bytes.length;) {
    line++;
    const end = bytes.indexOf(LINE_FEED, start);
    if (end < 0) {
      const message = 'the file ends within this line: the log is truncated';
      throw new Qcow2BenchError('peer-bad-trace', message, { path, line });
    }
    yield bytes.toString('utf8', start, end);
    start = end + 1;
  }
  return undefined;
}

/** Purposes and causes as the engine names them. */
function namedRecords(
  { records, requests: numbers }: Extract<GivenOperations, { kind: 'named' }>,
  requests: readonly Request[],
  cache: CacheMode,
): Classified {
  const synced = new Set(numbers.filter((_, at) => records[at]?.op === 'sync'));
  const { neverSync } = CACHE_MODE_RULES[cache];
  const elided = requests.filter((request, at) => endsDurable(request, cache) && !synced.has(at));
  return { records, requests: numbers, elidedFlushes: neverSync ? 0 : elided.length };
}

function classify(
  operations: readonly HostOperation[],
  requests: readonly Request[],
  { log, image, cache }: Pick<IngestOptions, 'log' | 'image' | 'cache'>,
): Classified {
  const { format, refcounts, after } = image;
  if (!(QEMU_FORMATS as readonly string[]).includes(format)) {
    const message = `operations on a ${format} image are not named from its structure: have the engine name purpose and cause in every line`;
    throw new Qcow2BenchError('ingest-format', message, { path: log.path });
  }
  const before = image.before ?? after;
  if (format !== PLAIN_FORMAT) refuseOtherImage(operations, { requests, before, after, path: log.path });
  return classifyOperations(operations, { format, refcounts, cache, requests, before, after });
}

/** Of the writes of a run, from which share on without a place it is a run of another image. */
const STRAY_SHARE = 0.5;

/**
 * A log of another image writes where this one has nothing, or where it has what the requests do
 * not ask for.
 */
function refuseOtherImage(
  operations: readonly HostOperation[],
  {
    requests,
    before,
    after,
    path,
  }: {
    readonly requests: readonly Request[];
    readonly before: FileLayout;
    readonly after: FileLayout;
    readonly path: string;
  },
): void {
  const writes = operations.filter(
    ({ op, file, request, error }) =>
      op === 'write' && file === 'image' && request !== undefined && error === undefined,
  );
  // What a discard freed is in neither.
  const mayFree = requests.some(({ op }) => op === 'discard' || op === 'write-zeroes');
  const isPlaced = ({ offset }: HostOperation): boolean =>
    [after, before].some(
      (layout) => layout.metadataAt(offset) !== undefined || layout.guestOffsetAt(offset) !== undefined,
    );
  const strays = writes.filter((write) => !isPlaced(write));
  if (!mayFree && strays.length > STRAY_SHARE * writes.length) {
    const message = `writes ${String(strays.length)} of ${String(writes.length)} times where the image has nothing, first at ${hex(strays[0]?.offset ?? 0)}: name the image after this run with --image`;
    throw new Qcow2BenchError('ingest-other-image', message, { path });
  }
  const data = writes.flatMap((write) => {
    const place =
      after.metadataAt(write.offset) === undefined ? after.guestOffsetAt(write.offset) : undefined;
    const request = requests[write.request ?? 0];
    return place === undefined || request === undefined ? [] : [{ write, place, request }];
  });
  const { clusterSize } = after;
  const misfits = data.filter(
    ({ write, place, request }) =>
      place >= Math.ceil((request.offset + request.length) / clusterSize) * clusterSize ||
      place + write.length <= Math.floor(request.offset / clusterSize) * clusterSize,
  );
  const [first] = misfits;
  if (first === undefined || misfits.length <= STRAY_SHARE * data.length) return;
  const { write, place, request } = first;
  const message = `request ${String(write.request)} is a ${request.op} at ${hex(request.offset)}, but the log writes guest offset ${hex(place)} for it: name the requests of this run with --requests, and the image after it with --image`;
  throw new Qcow2BenchError('ingest-misfit', message, { path });
}

/** What the requests ask for; which writes allocate follows from the image before the run. */
function guestCounts(requests: readonly Request[], image: IngestedImage): GuestCounts {
  const of = (op: Request['op']): number => requests.filter((request) => request.op === op).length;
  return {
    reads: of('read'),
    writes: of('write'),
    flushes: of('flush'),
    discards: of('discard'),
    writeZeroes: of('write-zeroes'),
    writeBytes: requests.reduce((sum, { op, length }) => (op === 'write' ? sum + length : sum), 0),
    allocatingWrites: allocatingWrites(requests, image),
  };
}

function allocatingWrites(requests: readonly Request[], { format, before, after }: IngestedImage): number {
  if (format === PLAIN_FORMAT) return 0;
  const { clusterSize } = after;
  const allocated = new Set<number>();
  for (let host = 0; host < (before?.fileBytes ?? 0); host += clusterSize) {
    const guest = before?.guestOffsetAt(host);
    if (guest !== undefined) allocated.add(Math.floor(guest / clusterSize));
  }
  let writes = 0;
  for (const { op, offset, length, unmap } of requests) {
    const end = offset + length;
    if (op === 'write') {
      let isNew = false;
      for (let cluster = Math.floor(offset / clusterSize); cluster * clusterSize < end; cluster++) {
        isNew ||= !allocated.has(cluster);
        allocated.add(cluster);
      }
      if (isNew) writes++;
    } else if (op === 'discard' || (op === 'write-zeroes' && unmap)) {
      for (let cluster = Math.ceil(offset / clusterSize); (cluster + 1) * clusterSize <= end; cluster++) {
        allocated.delete(cluster);
      }
    }
  }
  return writes;
}
