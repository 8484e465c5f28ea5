/** Traces on disk, for tests. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { Qcow2BenchError } from '../../../src/core/error.ts';
import type { Request } from '../../../src/workload/request.ts';
import { openTrace } from '../../../src/workload/trace/trace-reader.ts';
import type { OpenTrace, OpenTraceOptions } from '../../../src/workload/trace/trace-reader.ts';
import { testDirectory } from '../../test-directory.ts';

export const HEADER = '#qcow2-bench trace v1\n#virtual-size 1048576\ntime_ns,op,offset,length,flags\n';

export function temporaryFile(content: string | Uint8Array, name = 'a.trace.csv'): string {
  const path = join(testDirectory(), name);
  writeFileSync(path, content);
  return path;
}

export interface WholeTrace extends Pick<
  OpenTrace,
  'format' | 'volume' | 'action' | 'passedOver' | 'adjusted'
> {
  readonly virtualSize: number;
  readonly provenance: ReadonlyMap<string, string>;
  readonly requests: readonly Request[];
  readonly skippedCount: number;
  readonly failedCount: number;
  readonly otherVolumeCount: number;
  readonly batchSizeMax: number;
}

export async function readWhole(path: string, options: OpenTraceOptions = {}): Promise<WholeTrace> {
  await using trace = await openTrace(path, options);
  const requests: Request[] = [];
  let batchSizeMax = 0;
  for await (const batch of trace.batches) {
    requests.push(...batch);
    batchSizeMax = Math.max(batchSizeMax, batch.length);
  }
  const { format, volume, virtualSize, provenance, skippedCount, failedCount, otherVolumeCount } = trace;
  const { action, passedOver, adjusted } = trace;
  return {
    action,
    passedOver,
    adjusted,
    format,
    volume,
    virtualSize,
    provenance,
    requests,
    skippedCount,
    failedCount,
    otherVolumeCount,
    batchSizeMax,
  };
}

/** The requests of a trace that may have none, which is an error. */
export async function requestsIn(path: string, options: OpenTraceOptions = {}): Promise<readonly Request[]> {
  try {
    return (await readWhole(path, options)).requests;
  } catch (error) {
    if (error instanceof Qcow2BenchError && error.code === 'no-requests') return [];
    throw error;
  }
}

/** `write 4096+512 @100 fua`: a request in one line. */
export function inWords({ op, offset, length, fua, unmap, timeNs }: Request): string {
  const place = op === 'flush' ? '' : ` ${String(offset)}+${String(length)}`;
  return `${op}${place} @${String(timeNs)}${fua ? ' fua' : ''}${unmap ? ' unmap' : ''}`;
}

/** The error with which reading the trace ends. */
export async function faultOf(path: string, options: OpenTraceOptions = {}): Promise<Qcow2BenchError> {
  try {
    await readWhole(path, options);
  } catch (error) {
    if (error instanceof Qcow2BenchError) return error;
    throw error;
  }
  throw new Error('the trace was accepted');
}
