/** The generator of large traces: what it writes is what it says, and the same for a seed. */

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { LARGE_TRACE_FORMATS, writeLargeTrace, type LargeTraceFormat } from '../../scripts/large-traces.ts';
import type { Request } from '../../src/workload/request.ts';
import { traceFormat } from '../../src/workload/trace/trace-formats.ts';
import { openUnsizedTrace } from '../../src/workload/trace/trace-reader.ts';
import { amount } from '../amount.ts';
import { testDirectory } from '../test-directory.ts';

const EVERYDAY = 20_000;
const FULL = amount({ everyday: EVERYDAY, full: 400_000 });

/** A log with data is a file of many GiB for as many requests, nearly all of it holes: slow to remove. */
function requestsOf(format: LargeTraceFormat): number {
  return format === 'dm-log-writes' ? EVERYDAY : FULL;
}

/** What all formats hold. */
function placeOf({ op, offset, length }: Request): string {
  return `${op} ${String(offset)}+${String(length)}`;
}

async function digestOf(requests: AsyncIterable<readonly Request[]>): Promise<string> {
  const hash = createHash('sha256');
  for await (const batch of requests) hash.update(batch.map((request) => `${placeOf(request)}\n`).join(''));
  return hash.digest('hex');
}

describe.each(LARGE_TRACE_FORMATS)('a large trace of the format %s', (format) => {
  test('is recognised, and has the requests that were made, with their times', async () => {
    const path = join(testDirectory(), 'large');
    const requests: Request[] = [];
    await writeLargeTrace({
      format,
      path,
      requests: requestsOf(format),
      seed: 7,
      observe: (made) => requests.push(made),
    });
    expect(requests).toHaveLength(requestsOf(format));

    await using trace = await openUnsizedTrace(path);
    expect(trace.format).toBe(format);
    const first = requests[0]?.timeNs ?? 0;
    const last = requests.at(-1)?.timeNs ?? 0;
    let lastNs = 0;
    const batches = async function* (): AsyncGenerator<readonly Request[]> {
      for await (const batch of trace.batches) {
        lastNs = batch.at(-1)?.timeNs ?? lastNs;
        yield batch;
      }
    };
    const read = await digestOf(batches());
    // A log of writes alone has its zero-writes as writes, and no reads.
    const made = await digestOf(
      (async function* () {
        await Promise.resolve();
        yield requests;
      })(),
    );
    expect(read).toBe(made);
    expect(trace.failedCount + trace.skippedCount).toBe(0);
    const { holds, rebases } = traceFormat(format);
    const duration = last - (rebases || format === 'nbdkit-log' ? first : 0);
    if (holds.times === 'none') expect(lastNs).toBe(0);
    else if (holds.times === 'ms') expect(lastNs).toBe(Math.floor(duration / 1e6) * 1e6);
    else expect(lastNs).toBe(duration);
  });

  test('is the same for a seed, and another for another one', async () => {
    const [one, again, other] = ['one', 'again', 'other'].map((name) => join(testDirectory(), name));
    await writeLargeTrace({ format, path: one ?? '', requests: 500, seed: 1 });
    await writeLargeTrace({ format, path: again ?? '', requests: 500, seed: 1 });
    await writeLargeTrace({ format, path: other ?? '', requests: 500, seed: 2 });
    expect(readFileSync(again ?? '').equals(readFileSync(one ?? ''))).toBe(true);
    expect(readFileSync(other ?? '').equals(readFileSync(one ?? ''))).toBe(false);
  });
});
