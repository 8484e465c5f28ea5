import axe from 'axe-core';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { compareSides, resultSide } from '../../src/compare/compare-results.ts';
import { comparisonData } from '../../src/report/comparison/comparison-data.ts';
import { comparisonPage } from '../../src/report/comparison/comparison-page.ts';
import { encodeSequence } from '../../src/result/request-costs.ts';
import type { CellRecord } from '../../src/result/schema.ts';
import { testDirectory } from '../test-directory.ts';
import { launched, opened, skipsBrowser } from './browser.ts';
import { ENVIRONMENT, syntheticResult } from './synthetic-result.ts';

const HOSTILE = '<img src=x onerror="window.hit=1">';
const PLAIN = 'write data, sync writethrough';
const DEARER = 'write data, sync l2-after-data, sync writethrough';
const before = syntheticResult()
  .cells.filter(({ cell }) => cell.cache === 'writethrough')
  .map((record) => withCost(record, PLAIN));
/** Lazy cells of two workloads have one more sync in each write, from request 3 on. */
const after = before.map((record) => {
  const { counts, cell } = record;
  if (counts === null || cell.refcounts !== 'lazy' || !['stride', 'overwrite'].includes(cell.workload)) {
    return record;
  }
  const { syncs } = counts.run;
  const more = counts.guest.writes / (cell.workload === 'stride' ? 1 : 2);
  const run = {
    ...counts.run,
    syncs: { ...syncs, ops: syncs.ops + more, byCause: { ...syncs.byCause, 'l2-after-data': more } },
  };
  return withCost({ ...record, counts: { ...counts, run } }, DEARER);
});

function withCost(record: CellRecord, last: string): CellRecord {
  const costs = last === PLAIN ? [PLAIN] : [PLAIN, last];
  const sequence = encodeSequence(
    Array.from({ length: 20 }, (_, request) => (request < 3 ? 0 : costs.length - 1)),
  );
  return { ...record, requests: { digest: '0'.repeat(32), costs, sequence } };
}

const sides = [before, after].map((cells, index) =>
  resultSide(index === 0 ? 'a.json' : HOSTILE, { environment: ENVIRONMENT, cells }),
);
const comparisons = compareSides(sides);

test('every compared cell is in the data: those that changed most first', () => {
  const [comparison] = comparisonData(sides, comparisons).comparisons;
  expect(comparison?.cells).toHaveLength(before.length);
  expect(comparison?.cells.slice(0, 3).map(({ name, isChanged }) => [name, isChanged])).toEqual([
    ['stride · qcow2 lazy · writethrough', true],
    ['overwrite · qcow2 lazy · writethrough', true],
    [expect.any(String) as string, false],
  ]);
  expect(comparison?.cells[1]?.syncs).toEqual([1, 1.5]);
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

  test('changed cells are ranked, the others are folded, and the first request that differs is marked', async () => {
    const { page, noise } = await opened(browser, directory, comparisonPage(comparisons, sides), {
      name: 'compared',
    });
    const rows = page.locator('table.compared tbody tr');
    expect(await rows.count()).toBe(2);
    expect(await rows.nth(1).textContent()).toContain('1.00 → 1.50');
    expect(await rows.nth(1).textContent()).toContain('+50 %');
    await page.getByRole('button', { name: 'Show 34 unchanged' }).click();
    expect(await rows.count()).toBe(36);
    expect(await page.locator('.timeline-sum').textContent()).toContain('The first that differs is #3.');
    expect(await page.locator('g[data-request="3"] .difference').count()).toBe(2);
    await page.locator('#filter').fill('overwrite lazy');
    await expect.poll(() => page.locator('#filter-state').textContent()).toBe('1 changed, 0 unchanged');
    await rows.first().getByRole('button').click();
    await expect
      .poll(() => page.locator('.timeline .panel-name').first().textContent())
      .toContain('overwrite');
    expect(decodeURIComponent(page.url())).toContain('cell=overwrite');
    expect(await page.locator('img').count()).toBe(0);
    expect(await page.evaluate('window.hit')).toBeUndefined();
    expect(noise).toEqual([]);
    await page.close();
  });

  test('axe finds no serious violation', async () => {
    const html = comparisonPage(comparisons, sides);
    const { page } = await opened(browser, directory, html, { name: 'axe', colorScheme: 'dark' });
    await page.locator('svg.timeline').waitFor();
    const session = await page.context().newCDPSession(page);
    await session.send('Runtime.evaluate', { expression: axe.source });
    const report: { violations: { id: string; impact: string }[] } = await page.evaluate('axe.run()');
    const serious = report.violations.filter(({ impact }) => ['serious', 'critical'].includes(impact));
    expect(serious.map(({ id }) => id)).toEqual([]);
    await page.close();
  });
});
