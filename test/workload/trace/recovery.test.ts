/**
 * Traces that were cut short: refused as they are, read up to the last whole line with `recover`.
 */

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { beforeEach, describe, expect, it } from 'vitest';

import type { Request } from '../../../src/workload/request.ts';
import { openTrace, type OpenTrace } from '../../../src/workload/trace/trace-reader.ts';
import { TraceWriter } from '../../../src/workload/trace/trace-writer.ts';
import { testDirectory } from '../../test-directory.ts';

const MIB = 1024 * 1024;
const COUNT = 3000;

let folder: string;
beforeEach(() => (folder = testDirectory()));

function request(index: number): Request {
  const offset = ((index * 7919) % 2048) * 512;
  return { op: 'write', offset, length: 512, fua: false, unmap: false, timeNs: index * 1000 };
}

/** The file as a killed program leaves it: `COUNT` requests and a checkpoint, never closed. */
async function killed(path: string): Promise<Buffer> {
  const writer = new TraceWriter(path, { virtualSize: MIB });
  for (let index = 0; index < COUNT; index++) {
    await writer.write(request(index));
    if (index % 500 === 499) await writer.checkpoint();
  }
  await expect.poll(() => existsSync(path), { timeout: 30_000 }).toBe(true);
  let bytes = readFileSync(path);
  for (let before = -1; before !== bytes.length; bytes = readFileSync(path)) {
    before = bytes.length;
    await delay(50);
  }
  await writer.close();
  return bytes;
}

async function recovered(path: string): Promise<{ readonly requests: Request[]; readonly isCut: boolean }> {
  const trace = await openTrace(path, { recover: true });
  return { requests: await readAll(trace), isCut: trace.isCut };
}

async function readAll(trace: OpenTrace): Promise<Request[]> {
  const requests: Request[] = [];
  for await (const batch of trace.batches) requests.push(...batch);
  return requests;
}

async function refusal(path: string): Promise<string> {
  try {
    await readAll(await openTrace(path));
  } catch (error) {
    return String(error);
  }
  return '';
}

describe.each(['csv', 'csv.gz', 'csv.zst'])('a recording as .%s', (ending) => {
  it('that is killed after a checkpoint holds all requests before it', async () => {
    const path = join(folder, `trace.${ending}`);
    const bytes = await killed(path);
    writeFileSync(path, bytes);
    const { requests } = await recovered(path);
    expect(requests).toEqual(Array.from({ length: COUNT }, (_, index) => request(index)));
  });

  it('that is cut anywhere gives its first requests, and is refused without recover', async () => {
    const path = join(folder, `trace.${ending}`);
    const bytes = await killed(path);
    let least = 0;
    for (let percent = 30; percent < 100; percent += 10) {
      // A plain file that ends with a whole line shows no cut.
      const near = Math.floor((bytes.length * percent) / 100) - 1;
      writeFileSync(path, bytes.subarray(0, bytes[near - 1] === 0x0a ? near - 1 : near));
      const { requests, isCut } = await recovered(path);
      expect(isCut).toBe(true);
      expect(requests.length).toBeGreaterThanOrEqual(least);
      expect(requests).toEqual(requests.map((_, index) => request(index)));
      least = requests.length;
      expect(await refusal(path)).toContain('--recover');
    }
    expect(least).toBeGreaterThan(COUNT / 2);
  });
});
