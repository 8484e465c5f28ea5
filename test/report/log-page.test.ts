/** Host logs as a page: what is counted, what is drawn, and names that are hostile. */

import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import type { HostLogRecord } from '../../src/compare/host-logs.ts';
import type { LogLine } from '../../src/compare/host-log-lines.ts';
import { countedLogs, operationsOf } from '../../src/report/host-log/log-data.ts';
import { hostLogMarkdown, hostLogPage } from '../../src/report/host-log/log-page.ts';
import { testDirectory } from '../test-directory.ts';
import { launched, opened, skipsBrowser } from './browser.ts';

const HOSTILE = `</script><img src=x onerror="window.hit=1">`;
const write = { phase: 'run', op: 'write', file: 'image', length: 4096 } as const;
const RECORDS: readonly HostLogRecord[] = [
  { phase: 'open', op: 'read', file: 'image', offset: 0, length: 512, purpose: 'header' },
  {
    ...write,
    request: 0,
    offset: 65_536,
    length: 8192,
    purpose: 'data',
    parts: [
      ['cow', 4096],
      ['data', 4096],
    ],
  },
  { ...write, request: 0, offset: 4096, purpose: 'l2-table' },
  { phase: 'run', op: 'sync', file: 'image', request: 0, cause: 'writethrough' },
  { ...write, request: 2, offset: 131_072, purpose: 'data' },
  { phase: 'close', op: 'sync', file: 'image', cause: 'close' },
];

function linesOf(records: readonly HostLogRecord[]): readonly LogLine[] {
  return records.map((record, index) => ({ line: index + 1, record }));
}

test('each operation is counted once, and drawn with the request that caused it', () => {
  const { costs, logs } = countedLogs([{ name: 'a', lines: linesOf(RECORDS) }]);
  const [log] = logs;
  expect(log?.counts.map((count) => [count.op, count.purpose, operationsOf(count), count.bytes])).toEqual([
    ['sync', 'writethrough', 1, 0],
    ['sync', 'close', 1, 0],
    ['write', 'data', 2, 12_288],
    ['write', 'l2-table', 1, 4096],
    ['read', 'header', 1, 512],
  ]);
  expect(log?.guestRequests).toBe(2);
  const { requests } = log ?? {};
  expect(requests?.sequence.map((index) => costs[requests.costs[index] ?? -1])).toEqual([
    'write cow 4096 B+data 4096 B, write l2-table 4096 B, sync writethrough',
    // A request without a host operation.
    '',
    'write data 4096 B',
  ]);
  // Without those of open.
  expect(log?.operations).toHaveLength(5);
});

test('a log without request numbers has counts and places alone; a long one is bounded', () => {
  const many = Array.from(
    { length: 9000 },
    (_, index) => ({ ...write, offset: index * 4096, purpose: 'data' }) as const,
  );
  const [log] = countedLogs([{ name: 'a', lines: linesOf(many) }]).logs;
  expect(log?.requests).toBeNull();
  expect(log?.counts.map(operationsOf)).toEqual([9000]);
  expect(log?.operations.length).toBeLessThan(9000);
});

test('Markdown names a log and makes no markup of its name', () => {
  const [text = ''] = hostLogMarkdown([{ name: 'a|b<i>', lines: linesOf(RECORDS) }]);
  expect(text).toContain(
    'a\\|b\\<i\\>: 6 host operations for 2 guest requests, 2 syncs, 16,384 bytes written.',
  );
  expect(text).toContain('| write data | 0 | 2 | 0 | 12,288 |');
});

describe.skipIf(skipsBrowser)('in a browser', () => {
  let browser: Browser;
  const directory = testDirectory();
  beforeAll(async () => {
    browser = await launched();
  });
  afterAll(async () => {
    await browser.close();
  });

  test('two logs: bars without a script, time lines with the first difference, a map of each', async () => {
    const other = RECORDS.filter((record) => record.op !== 'sync');
    const html = hostLogPage([
      { name: HOSTILE, lines: linesOf(RECORDS) },
      { name: 'b', lines: linesOf(other) },
    ]);
    const { page, noise } = await opened(browser, directory, html, { name: 'logs' });
    await page.locator('svg.timeline').waitFor();
    expect(await page.locator('#chart-timeline rect.difference').count()).toBe(2);
    expect(await page.locator('figure[aria-labelledby^="title-image-map"]').count()).toBe(2);
    expect(await page.locator('h1').textContent()).toContain('<img');
    expect(await page.evaluate('window.hit')).toBeUndefined();
    expect(noise).toEqual([]);
  });
});
