/**
 * An example of a log as a file, `qcow2-bench/crash-log-case@1`: the image before it, the entries, what
 * was promised, and what of the pending ones reached the disk. All of it is in the file: neither the
 * log nor the program that made it is needed to run it again.
 *
 * Invariant: all that is packed is together at most `DATA_MAX` bytes, before and after it is unpacked.
 */

import { deflateRawSync, inflateRawSync } from 'node:zlib';

import { z } from 'zod';

import { Qcow2BenchError } from '../core/error.ts';
import { FORMATS } from '../core/format-name.ts';
import { formatSize } from '../core/size.ts';
import { MemoryStorage } from '../device/memory-storage.ts';
import { CACHE_MODES } from '../format/cache-mode.ts';
import { parseCheckedJson, readBoundedText } from '../result/checked-json.ts';
import { readBaseImage, type BaseImage } from './base-image.ts';
import {
  CRASH_CASE_SCHEMA,
  crashCaseSchema,
  crashesSchema,
  storedCrashes,
  type CrashCase,
} from './crash-case.ts';
import type { Crashes } from './crashes.ts';
import { crashAcksSchema } from './log-acks.ts';
import { SEEN_PROMISES, type LogRun } from './log-run.ts';
import { FILE_BYTES_MAX, PAGE_BYTES, pagePlace } from './pages.ts';
import { readWriteLog, writeLogOf } from './write-log.ts';

export const LOG_CASE_SCHEMA = 'qcow2-bench/crash-log-case@1';
const FILE_SIZE_MAX = 256 * 1024 * 1024;
const DATA_MAX = 128 * 1024 * 1024;
const BACKING_MAX = 200;
const TIMELINE_MAX = 2_000_000;

/** Base64 of deflated bytes. */
const packed = z.string();
const name = z.string().min(1).max(4096);
const fileBytes = z.int().min(0).max(FILE_BYTES_MAX);

const logCaseSchema = z.strictObject({
  schema: z.literal(LOG_CASE_SCHEMA),
  /** A hazard's name, or the kind of the violation. */
  what: z.string().max(200),
  /** Name of the log. */
  log: name,
  format: z.enum(FORMATS),
  cache: z.enum(CACHE_MODES),
  image: z.strictObject({
    name,
    size: fileBytes,
    /** Where each page of 4 KiB that is not zero begins. */
    pages: z.array(fileBytes.multipleOf(PAGE_BYTES)).max(DATA_MAX / PAGE_BYTES),
    data: packed,
  }),
  /** Files behind it, whole. */
  behind: z.array(z.strictObject({ name, data: packed })).max(BACKING_MAX),
  /** A dm-log-writes log. */
  entries: packed,
  promised: z.union([z.enum(SEEN_PROMISES), crashAcksSchema]),
  ...crashesSchema.shape,
  /** For a reader. */
  timeline: z.array(z.string()).max(TIMELINE_MAX),
});
export type LogCase = z.output<typeof logCaseSchema>;

/** The case of an example, as its file has it. */
export function logCaseOf(
  { image: { subject, base }, entries, promised }: LogRun,
  {
    what,
    log,
    crashes,
    timeline,
  }: {
    readonly what: string;
    readonly log: string;
    readonly crashes: Crashes;
    readonly timeline: readonly string[];
  },
): LogCase {
  const { format, cache, files, constants } = subject;
  const pages = [...base.pages].toSorted(([a], [b]) => a - b);
  const data = [
    Buffer.concat(pages.map(([, { bytes }]) => bytes)),
    ...constants.values(),
    writeLogOf(entries),
  ];
  if (data.reduce((sum, { byteLength }) => sum + byteLength, 0) > DATA_MAX) {
    throw new Qcow2BenchError(
      'crash-case-too-large',
      `the image, the files behind it and the log have more than ${formatSize(DATA_MAX)} of data: log a shorter run on a smaller disk`,
      { path: log },
    );
  }
  const [pageData, ...others] = data.map((bytes) => deflateRawSync(bytes).toString('base64'));
  const logData = others.pop();
  return {
    schema: LOG_CASE_SCHEMA,
    what,
    log,
    format,
    cache,
    image: {
      name: files[0].name,
      size: base.size(0),
      pages: pages.map(([number]) => pagePlace(number).offset),
      data: pageData ?? '',
    },
    behind: [...constants.keys()].map((each, index) => ({ name: each, data: others[index] ?? '' })),
    entries: logData ?? '',
    promised,
    ...storedCrashes(crashes),
    timeline: [...timeline],
  };
}

/**
 * An example, of a cell or of a log.
 *
 * @throws Qcow2BenchError `crash-case-unreadable`, `-too-large`, `-not-json`, `-schema-version`,
 *   `-invalid`.
 */
export function readCase(path: string): CrashCase | LogCase {
  const kind = 'crash-case';
  const sizeMax = FILE_SIZE_MAX;
  const text = readBoundedText(path, { kind, sizeMax });
  if (schemaIn(text) === LOG_CASE_SCHEMA) {
    return parseCheckedJson(text, path, {
      schema: logCaseSchema,
      schemaName: LOG_CASE_SCHEMA,
      kind,
      sizeMax,
    });
  }
  return parseCheckedJson(text, path, {
    schema: crashCaseSchema,
    schemaName: CRASH_CASE_SCHEMA,
    kind,
    sizeMax,
  });
}

function schemaIn(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && 'schema' in value ? value.schema : undefined;
  } catch {
    return undefined;
  }
}

/**
 * The run of an example; nothing of the host is opened.
 *
 * @throws Qcow2BenchError `crash-case-invalid`; of the log, the image or the files behind it
 */
export async function runOfLogCase(file: LogCase, path: string): Promise<LogRun> {
  const storage = new MemoryStorage();
  const { image, behind, format, cache, promised } = file;
  const names = [image.name, ...behind.map((each) => each.name)];
  if (new Set(names).size < names.length) refuse(path, 'two of its files have the same name');
  const parts = unpacked([image.data, file.entries, ...behind.map(({ data }) => data)], path);
  const [pages, entryData, ...behindData] = parts as [Uint8Array, Uint8Array, ...Uint8Array[]];
  if (pages.byteLength !== image.pages.length * PAGE_BYTES) refuse(path, 'the image has not all its pages');
  const device = storage.create(image.name);
  device.truncate(image.size, 'data');
  for (const [index, offset] of image.pages.entries()) {
    const bytes = pages.subarray(index * PAGE_BYTES, (index + 1) * PAGE_BYTES);
    const length = Math.min(PAGE_BYTES, image.size - offset);
    if (length <= 0) refuse(path, 'a page of the image is behind its end');
    device.write(offset, bytes.subarray(0, length), 'data');
  }
  for (const [index, each] of behind.entries()) {
    storage.create(each.name).write(0, behindData[index] as Uint8Array, 'data');
  }
  const base: BaseImage = await readBaseImage({
    name: image.name,
    format,
    cache,
    files: { open: (each, options) => storage.open(each, options) },
  });
  const log = new MemoryStorage().create(path);
  log.write(0, entryData, 'data');
  const { entries } = await readWriteLog(log);
  return { image: base, entries, promised };
}

/** All that is packed in a case. */
function unpacked(texts: readonly string[], path: string): readonly Uint8Array[] {
  let left = DATA_MAX;
  return texts.map((text) => {
    try {
      // Nothing is unpacked to no bytes at all.
      const bytes = inflateRawSync(Buffer.from(text, 'base64'), { maxOutputLength: Math.max(1, left) });
      left -= bytes.byteLength;
      return bytes;
    } catch (error) {
      return refuse(path, `its packed data are damaged, or more than ${formatSize(DATA_MAX)}`, error);
    }
  });
}

function refuse(path: string, what: string, cause?: unknown): never {
  throw new Qcow2BenchError('crash-case-invalid', what, { path }, cause);
}
