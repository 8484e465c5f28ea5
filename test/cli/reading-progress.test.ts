import { gzipSync } from 'node:zlib';

import { expect, test } from 'vitest';

import { ReadingProgress } from '../../src/cli/terminal/reading-progress.ts';
import { openUnsizedTrace } from '../../src/workload/trace/trace-reader.ts';
import { HEADER, temporaryFile } from '../workload/trace/trace-files.ts';

const MIB = 1024 * 1024;

test('shows bytes, and after a second the rate and the time that is left', () => {
  let nowMs = 5000;
  using progress = new ReadingProgress(process.stderr, 100_000 * MIB, () => nowMs);
  expect(progress.textAt(0)).toBe('reading 0 B of 97.7 GiB');
  nowMs += 500;
  expect(progress.textAt(100 * MIB)).toBe('reading 100 MiB of 97.7 GiB');
  nowMs += 1500;
  expect(progress.textAt(500 * MIB)).toBe('reading 500 MiB of 97.7 GiB, 250 MiB/s, 6.63 min left');
  nowMs += 397_000;
  expect(progress.textAt(99_750 * MIB)).toBe('reading 97.4 GiB of 97.7 GiB, 250 MiB/s, 1 s left');
  // The file has grown.
  expect(progress.textAt(100_001 * MIB)).toBe('reading 97.7 GiB of 97.7 GiB, 251 MiB/s, 0 s left');
});

test.each([
  ['plain', (text: string) => Buffer.from(text)],
  ['compressed', (text: string) => gzipSync(text)],
])('a %s trace counts the bytes of its file as they are read', async (_, packed) => {
  const lines = Array.from(
    { length: 60_000 },
    (_each, at) => `${String(at * 977)},write,${String((at % 99) * 512)},512,\n`,
  );
  const content = packed(HEADER + lines.join(''));
  await using trace = await openUnsizedTrace(temporaryFile(content));
  expect(trace.fileBytes).toBe(content.length);
  const counts: number[] = [];
  for await (const batch of trace.batches) {
    expect(batch.length).toBeGreaterThan(0);
    counts.push(trace.readBytes);
  }
  expect(counts).toEqual(counts.toSorted((a, b) => a - b));
  expect(counts[0]).toBeGreaterThan(0);
  expect(trace.readBytes).toBe(content.length);
});
