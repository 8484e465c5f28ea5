/**
 * The workloads and recordings that ship with the program, and those that a user names by path.
 *
 * Invariants: a shipped workload's name is its file's name without `.json`; a recording's is its
 * file's name without `.trace.csv` and the ending of its compression. Names hold no dot and no
 * slash, so a file that is called like one is reached as `./name`.
 */

import { readSync, closeSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { Qcow2BenchError, systemCode } from '../core/error.ts';
import { existsSync, openSync, readdirSync, statSync } from '../core/host-fs.ts';
import { didYouMean } from '../core/nearest-name.ts';
import { adapted, type Adaptation } from './adaptation.ts';
import type { GenerateOptions } from './generator.ts';
import type { ReadFill } from './read-fill.ts';
import { workloadStream } from './request-stream.ts';
import type { RequestStream } from './request-stream.ts';
import type { Workload } from './schema.ts';
import { refuseStream, traceExists } from './trace/trace-files.ts';
import { openTrace } from './trace/trace-reader.ts';
import type { OpenTraceOptions } from './trace/trace-reader.ts';
import { readWorkload } from './workload-file.ts';

/** A workload file, read. */
export interface SyntheticSource {
  readonly kind: 'workload';
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly path: string;
  /** Bytes of the image that the requests address. */
  readonly virtualSize: number;
  readonly workload: Workload;
}

/** A recorded trace, of which the header was read. */
export interface RecordedSource {
  readonly kind: 'recording';
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly path: string;
  readonly virtualSize: number;
  readonly provenance: ReadonlyMap<string, string>;
  /** How its stream is read, by default. */
  readonly reading: TraceReading;
  /** Its streams end after this many requests; default: all. */
  readonly limit?: number | undefined;
  /** What its streams are made into; default: as they are. */
  readonly adaptation?: Adaptation | undefined;
  /** What is written to a new image before its streams are served; default: nothing. */
  readonly fill?: ReadFill | undefined;
}

/** What of a trace is read, and how. */
export type TraceReading = OpenTraceOptions;

export type WorkloadSource = SyntheticSource | RecordedSource;

/**
 * Where the shipped files lie: the same place seen from `src/workload/` and from `dist/workload/`.
 */
const SHIPPED = fileURLToPath(new URL('../../workloads/', import.meta.url));
const RECORDED = join(SHIPPED, 'recorded');
/**
 * Workloads that ask one question of a growing image; each folder is an axis, and none is part of
 * the suite.
 */
export const AXES = ['cold-look-up', 'crash-then-open', 'random-reads', 'sequential-reads', 'trim'] as const;
const WORKLOAD_FILE = /^(.+)\.json$/;
const TRACE_FILE = /^(.+)\.trace\.csv(\.gz|\.zst)?$/;

/** Names of the shipped workloads, then of the shipped recordings, each in alphabetical order. */
export function shippedNames(): readonly string[] {
  return [...shippedFiles().keys()];
}

/** The shipped workloads and recordings in the order of `shippedNames`. */
export async function listSources(): Promise<readonly WorkloadSource[]> {
  return Promise.all([...shippedFiles()].map(([name, path]) => openSource(path, name)));
}

/** The workloads of the axes, in alphabetical order. */
export async function listAxisSources(): Promise<readonly WorkloadSource[]> {
  return Promise.all([...axisFiles()].map(([name, path]) => openSource(path, name)));
}

/** The names with that of an axis replaced by those of its workloads, in their order. */
export function expandAxes(names: readonly string[]): readonly string[] {
  return names.flatMap((name) => {
    const axis = AXES.find((each) => each === name);
    return axis === undefined ? [name] : filesIn(join(SHIPPED, axis), WORKLOAD_FILE).map(([each]) => each);
  });
}

/**
 * The workload or recording that a user means: a shipped name, or the path of a workload file or
 * trace (distinguished by content).
 *
 * @param options of a trace: how it and its streams are read. `limit` bounds what is looked at
 *   if a trace does not contain the size of its device: the size is then that of so many requests.
 * @throws Qcow2BenchError `unknown-workload` if there is neither such a name nor such a file;
 *   `bad-workload`, `bad-trace`, `several-volumes` or `unknown-volume`.
 */
export async function findSource(
  nameOrPath: string,
  options: OpenTraceOptions = {},
): Promise<WorkloadSource> {
  const shipped = shippedFiles().get(nameOrPath) ?? axisFiles().get(nameOrPath);
  if (shipped !== undefined) return openSource(shipped, nameOrPath, options);
  if (traceExists(nameOrPath)) return openSource(nameOrPath, nameOf(nameOrPath), options);
  const names = [...shippedNames(), ...AXES];
  throw new Qcow2BenchError(
    'unknown-workload',
    `no workload or file '${nameOrPath}'${didYouMean(nameOrPath, names)}; bundled are ${names.join(', ')}`,
  );
}

/**
 * The path of a recording that ships, by its name, as `findSource` would take it; any other text is
 * a path itself.
 */
export function tracePath(nameOrPath: string): string {
  return new Map(filesIn(RECORDED, TRACE_FILE)).get(nameOrPath) ?? nameOrPath;
}

export interface OpenStreamOptions extends GenerateOptions, TraceReading {}

/** The requests of a source; the stream is to be disposed of. */
export async function openStream(
  source: WorkloadSource,
  options: OpenStreamOptions = {},
): Promise<RequestStream> {
  switch (source.kind) {
    case 'workload':
      return workloadStream(source.workload, options);
    case 'recording':
      return recordedStream(source, options);
  }
}

async function recordedStream(source: RecordedSource, options: OpenStreamOptions): Promise<RequestStream> {
  const limit = Math.min(source.limit ?? Infinity, options.limit ?? Infinity);
  // An adaptation only adds requests: no more than these are needed.
  const trace = await openTrace(source.path, { ...source.reading, ...options, limit });
  return adapted(trace, source.adaptation ?? {}, limit);
}

async function openSource(
  path: string,
  name: string,
  options: OpenTraceOptions = {},
): Promise<WorkloadSource> {
  refuseStream(path);
  if (existsSync(path) && statSync(path).isFile() && looksLikeJson(path)) {
    const workload = readWorkload(path);
    const { title, description } = workload;
    const virtualSize = workload.image.size;
    return { kind: 'workload', name: workload.name, title, description, path, virtualSize, workload };
  }
  await using trace = await openTrace(path, options);
  const { virtualSize, provenance, format, action } = trace;
  // What was found, in place of what was to be detected.
  const reading = { ...options, limit: undefined, format, action, size: virtualSize };
  const title = provenance.get('title') ?? `Recorded trace ${basename(path)}`;
  const description = provenance.get('description') ?? '';
  return { kind: 'recording', name, title, description, path, virtualSize, provenance, reading };
}

function shippedFiles(): ReadonlyMap<string, string> {
  return new Map([...filesIn(SHIPPED, WORKLOAD_FILE), ...filesIn(RECORDED, TRACE_FILE)]);
}

function axisFiles(): ReadonlyMap<string, string> {
  return new Map(AXES.flatMap((axis) => filesIn(join(SHIPPED, axis), WORKLOAD_FILE)));
}

function filesIn(folder: string, pattern: RegExp): [string, string][] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .toSorted()
    .flatMap((file) => {
      const name = pattern.exec(file)?.[1];
      return name === undefined ? [] : [[name, join(folder, file)]];
    });
}

function nameOf(path: string): string {
  const file = basename(path);
  return TRACE_FILE.exec(file)?.[1] ?? file;
}

/** Whether the first byte that is no white space is a brace: no trace begins so. */
function looksLikeJson(path: string): boolean {
  const head = Buffer.alloc(256);
  try {
    const descriptor = openSync(path, 'r');
    try {
      const length = readSync(descriptor, head, 0, head.length, 0);
      if (length === 0) return path.endsWith('.json');
      // A byte order mark may be before it, as some editors write one.
      return /^\ufeff?\s*\{/.test(head.toString('utf8', 0, length)) || path.endsWith('.json');
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    throw new Qcow2BenchError(
      'bad-workload',
      `cannot be read (${systemCode(error) ?? 'unknown error'})`,
      { path },
      error,
    );
  }
}
