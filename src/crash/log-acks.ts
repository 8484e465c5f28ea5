/**
 * When a log's guest was answered, as a file: `qcow2-bench/crash-acks@1`. For each request, how many
 * entries the log had when it began and when it was answered, and the data of each write. Requests
 * that overlap have times as well: only they give the order where the log is as long.
 */

import { z } from 'zod';

import { SECTOR_SIZE } from '../core/alignment.ts';
import { stampSectors } from '../core/sector-stamp.ts';
import { CACHE_MODES } from '../format/cache-mode.ts';
import { readCheckedJson } from '../result/checked-json.ts';
import { LOGGED_OPS, type LoggedRequest } from './log-recording.ts';
import { tokensOf } from './pages.ts';

export const CRASH_ACKS_SCHEMA = 'qcow2-bench/crash-acks@1';
const FILE_SIZE_MAX = 256 * 1024 * 1024;
const REQUESTS_MAX = 1_000_000;
/** Bytes of all writes: memory is taken for each sector. */
const WRITTEN_MAX = 2 ** 31;
/** Bytes whose tokens are made at once. */
const TOKENS_BYTES = 1024 * 1024;
const WRITE_NUMBER_MAX = 0xffff_ffff;

const inSectors = z
  .int()
  .min(0)
  .max(2 ** 52)
  .multipleOf(SECTOR_SIZE);
const entries = z.int().min(0);
const time = z.number().min(0);

const requestSchema = z
  .strictObject({
    op: z.enum(LOGGED_OPS),
    /** Of a resize: the new size of the disk. */
    offset: inSectors,
    length: inSectors,
    fua: z.boolean().default(false),
    unmap: z.boolean().default(false),
    began: entries,
    /** `null`: it was not answered. */
    done: entries.nullable(),
    /** When, by any one clock: of all requests or of none. */
    beganAt: time.optional(),
    doneAt: time.nullable().optional(),
    /** Of a write: each sector names itself and this number, as `crash` stamps them. */
    write: z.int().min(0).max(WRITE_NUMBER_MAX).optional(),
    /** Of a write: all its bytes, as `qemu-io write -P` has them. */
    pattern: z.int().min(0).max(255).optional(),
  })
  .refine(({ op, write, pattern }) => op !== 'write' || (write === undefined) !== (pattern === undefined), {
    error: 'a write has its data, as `write` or as `pattern`',
  })
  .refine(({ began, done }) => done === null || done >= began, { error: 'it is answered before it began' })
  .refine(({ beganAt = 0, doneAt }) => doneAt === undefined || doneAt === null || doneAt >= beganAt, {
    error: 'its time of the answer is before that of its beginning',
  })
  .refine(
    ({ beganAt, done, doneAt }) =>
      beganAt === undefined ? doneAt === undefined : ((doneAt ?? null) === null) === (done === null),
    { error: 'it has both times, `beganAt` and `doneAt`, or none; that of its answer if it has one' },
  );

export const crashAcksSchema = z
  .strictObject({
    schema: z.literal(CRASH_ACKS_SCHEMA),
    /** In the modes that write through, a write that was answered is durable. */
    cache: z.enum(CACHE_MODES),
    requests: z.array(requestSchema).max(REQUESTS_MAX),
  })
  .refine(({ requests }) => writtenBytes(requests) <= WRITTEN_MAX, {
    error: 'the writes have more than 2 GiB together: log a shorter run',
    path: ['requests'],
  })
  .refine(({ requests }) => hasTimes(requests) || requests.every(({ beganAt }) => beganAt === undefined), {
    error: 'times are of all requests or of none',
    path: ['requests'],
  })
  .refine(({ requests }) => hasTimes(requests) || isOneByOne(requests), {
    error:
      'each request begins when the one before it was answered; requests that overlap have times, `beganAt` and `doneAt`',
    path: ['requests'],
  })
  .refine(({ requests }) => isInOrder(requests), {
    error: 'the log is shorter at a later time',
    path: ['requests'],
  });
export type CrashAcks = z.output<typeof crashAcksSchema>;

type StoredRequest = z.output<typeof requestSchema>;

function writtenBytes(requests: readonly StoredRequest[]): number {
  return requests.reduce((sum, { op, length }) => (op === 'write' ? sum + length : sum), 0);
}

function hasTimes(requests: readonly StoredRequest[]): boolean {
  return requests.length > 0 && requests.every(({ beganAt }) => beganAt !== undefined);
}

function isOneByOne(requests: readonly StoredRequest[]): boolean {
  return requests.every(
    ({ began }, index) => index === 0 || began >= (requests[index - 1]?.done ?? Infinity),
  );
}

/** Whether the log grows with the times. */
function isInOrder(requests: readonly StoredRequest[]): boolean {
  const moments = requests.flatMap(({ began, beganAt = 0, done, doneAt }) => [
    { at: beganAt, entries: began },
    ...(done === null || doneAt === null || doneAt === undefined ? [] : [{ at: doneAt, entries: done }]),
  ]);
  if (!hasTimes(requests)) return true;
  const sorted = moments.toSorted((a, b) => a.at - b.at || a.entries - b.entries);
  return sorted.every(({ entries }, index) => index === 0 || entries >= (sorted[index - 1]?.entries ?? 0));
}

/**
 * @throws Qcow2BenchError `crash-acks-unreadable`, `-too-large`, `-not-json`, `-schema-version`,
 *   `-invalid`.
 */
export function readCrashAcks(path: string): CrashAcks {
  return readCheckedJson(path, {
    schema: crashAcksSchema,
    schemaName: CRASH_ACKS_SCHEMA,
    kind: 'crash-acks',
    sizeMax: FILE_SIZE_MAX,
  });
}

/** The requests of the file that change anything. */
export function loggedRequests({ requests }: CrashAcks): readonly LoggedRequest[] {
  return requests.flatMap((request, index) => {
    const { op, offset, length, fua, unmap, began, done } = request;
    if (op === 'read') return [];
    const when = { began, done: done ?? Infinity, ...momentsOf(request, index) };
    return [{ op, offset, length, fua, unmap, ...when, tokens: tokensOfWrite(request) }];
  });
}

/** When the request of this number began and was answered: one at a time, they are in their order. */
export function momentsOf(request: StoredRequest, number: number): Pick<LoggedRequest, 'beganAt' | 'doneAt'> {
  const { beganAt = 2 * number, done, doneAt = 2 * number + 1 } = request;
  return { beganAt, doneAt: done === null ? Infinity : (doneAt ?? Infinity) };
}

function tokensOfWrite({ op, offset, length, write, pattern = 0 }: StoredRequest): Float64Array | undefined {
  if (op !== 'write') return undefined;
  const tokens = new Float64Array(length / SECTOR_SIZE);
  const bytes = new Uint8Array(Math.min(length, TOKENS_BYTES)).fill(pattern);
  for (let at = 0; at < length; at += TOKENS_BYTES) {
    if (write !== undefined) stampSectors(bytes, { sector: (offset + at) / SECTOR_SIZE, write });
    tokens.set(tokensOf(bytes.subarray(0, length - at)), at / SECTOR_SIZE);
  }
  return tokens;
}
