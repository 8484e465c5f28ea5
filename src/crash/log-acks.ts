/**
 * When a log's guest was answered, as a file: `qcow2-bench/crash-acks@1`. For each request, how many
 * entries the log had when it began and when it was answered, and the data of each write.
 */

import { z } from 'zod';

import { SECTOR_SIZE } from '../core/alignment.ts';
import { stampSectors } from '../core/sector-stamp.ts';
import { CACHE_MODES, type CacheMode } from '../format/cache-mode.ts';
import { readCheckedJson } from '../result/checked-json.ts';
import { REQUEST_OPS } from '../workload/request.ts';
import type { LoggedRequest } from './log-recording.ts';
import { tokensOf } from './pages.ts';

export const CRASH_ACKS_SCHEMA = 'qcow2-bench/crash-acks@1';
const FILE_SIZE_MAX = 256 * 1024 * 1024;
const REQUESTS_MAX = 1_000_000;
/** Bytes of one request. */
const LENGTH_MAX = 2 ** 31;
const WRITE_NUMBER_MAX = 0xffff_ffff;

const inSectors = z
  .int()
  .min(0)
  .max(2 ** 52)
  .multipleOf(SECTOR_SIZE);
const entries = z.int().min(0);

const requestSchema = z
  .strictObject({
    op: z.enum(REQUEST_OPS),
    offset: inSectors,
    length: inSectors,
    fua: z.boolean().default(false),
    unmap: z.boolean().default(false),
    began: entries,
    /** `null`: it was not answered. */
    done: entries.nullable(),
    /** Of a write: each sector names itself and this number, as `crash` stamps them. */
    write: z.int().min(0).max(WRITE_NUMBER_MAX).optional(),
    /** Of a write: all its bytes, as `qemu-io write -P` has them. */
    pattern: z.int().min(0).max(255).optional(),
  })
  .refine(
    ({ op, length, write, pattern }) =>
      op !== 'write' || (length <= LENGTH_MAX && (write === undefined) !== (pattern === undefined)),
    { error: 'a write has its data, as `write` or as `pattern`, and at most 2 GiB' },
  )
  .refine(({ began, done }) => done === null || done >= began, { error: 'it is answered before it began' });

export const crashAcksSchema = z.strictObject({
  schema: z.literal(CRASH_ACKS_SCHEMA),
  /** In the modes that write through, a write that was answered is durable. */
  cache: z.enum(CACHE_MODES),
  /** In the order in which they were served, one at a time. */
  requests: z
    .array(requestSchema)
    .max(REQUESTS_MAX)
    .refine(
      (all) => all.every(({ began }, index) => index === 0 || began >= (all[index - 1]?.done ?? Infinity)),
      { error: 'each request begins when the one before it was answered' },
    ),
});
export type CrashAcks = z.output<typeof crashAcksSchema>;

/**
 * @throws Qcow2BenchError `crash-acks-unreadable`, `-too-large`, `-not-json`, `-schema-version`,
 *   `-invalid`.
 */
export function readCrashAcks(path: string): {
  readonly cache: CacheMode;
  readonly requests: readonly LoggedRequest[];
} {
  const { cache, requests } = readCheckedJson(path, {
    schema: crashAcksSchema,
    schemaName: CRASH_ACKS_SCHEMA,
    kind: 'crash-acks',
    sizeMax: FILE_SIZE_MAX,
  });
  return { cache, requests: requests.filter(({ op }) => op !== 'read').map(loggedRequest) };
}

function loggedRequest(request: CrashAcks['requests'][number]): LoggedRequest {
  const { op, offset, length, fua, unmap, began, done } = request;
  return { op, offset, length, fua, unmap, began, done: done ?? Infinity, tokens: tokensOfWrite(request) };
}

function tokensOfWrite({
  op,
  offset,
  length,
  write,
  pattern = 0,
}: CrashAcks['requests'][number]): Float64Array | undefined {
  if (op !== 'write') return undefined;
  const bytes = new Uint8Array(length);
  if (write === undefined) bytes.fill(pattern);
  else stampSectors(bytes, { sector: offset / SECTOR_SIZE, write });
  return tokensOf(bytes);
}
