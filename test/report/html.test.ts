import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { inflateRawSync } from 'node:zlib';

import axe from 'axe-core';

import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { visibleText } from '../../src/core/visible-text.ts';
import { reportHtml } from '../../src/report/html.ts';
import { escapeHtml } from '../../src/report/markup.ts';
import { bytesText, rateText } from '../../src/report/numbers.ts';
import { CACHE_HELP, CHART_HELP } from '../../src/report/page-help.ts';
import type { PageData } from '../../src/report/page-format.ts';
import { bytesPerWriteByPurpose, deriveFigures } from '../../src/result/derive.ts';
import { encodeSequence } from '../../src/result/request-costs.ts';
import type { CellRecord, ResultRecord } from '../../src/result/schema.ts';
import { testDirectory } from '../test-directory.ts';
import { launched, opened, skipsBrowser, type Opened, type OpenOptions } from './browser.ts';
import { repairsOf } from './repair-prices.ts';
import { ENVIRONMENT, syntheticResult } from './synthetic-result.ts';

const HOSTILE = `</script><img src=x onerror="window.hit=1">'&\u2028`;
const EAGER =
  'write data, write refcount-block 65536 B, sync l2-after-refcount, write l2-table 65536 B, sync writethrough';
const LAZY = 'write data, write l2-table 65536 B, sync writethrough';
const result = withRequests(syntheticResult());

/** Two requests alike, then what each variant does. */
function withRequests(of: ResultRecord): ResultRecord {
  const cells = of.cells.map((record) => {
    const costs = [LAZY, record.cell.refcounts === 'eager' ? EAGER : LAZY].filter(
      (cost, index, all) => all.indexOf(cost) === index,
    );
    const sequence = encodeSequence(
      Array.from({ length: 40 }, (_, request) => (request < 2 ? 0 : costs.length - 1)),
    );
    return { ...record, requests: { digest: '0'.repeat(32), costs, sequence } };
  });
  return { ...of, cells };
}

/** What the scripts of a page unpack. */
function dataOf(html: string): PageData {
  const text = /id="report-data">([^<]*)</.exec(html)?.[1] ?? '';
  return JSON.parse(inflateRawSync(Buffer.from(text, 'base64')).toString()) as PageData;
}

const PARITY = {
  qemu: '7.2.22',
  verdict: 'identical',
  operations: 1806,
  finalBytes: 'identical',
  guestData: 'identical',
} as const;

/** Every text that a user can choose, made hostile. */
function hostileResult(): ResultRecord {
  const cells = result.cells.map((record) =>
    record.cell.workload === 'stride'
      ? {
          ...record,
          cell: { ...record.cell, workload: HOSTILE },
          fallbacks: [HOSTILE],
          parity: { ...PARITY, verdict: 'different' as const, difference: HOSTILE },
        }
      : record,
  );
  const fileSystem = { directory: HOSTILE, type: HOSTILE, mountOptions: [HOSTILE] };
  return {
    ...result,
    cells,
    environment: { ...ENVIRONMENT, commandLine: [HOSTILE], cpu: HOSTILE, fileSystem },
  };
}

test('the page names nothing to load and holds its data once', () => {
  const html = reportHtml(result);
  const outside = html.replaceAll(/<script>[^]*?<\/script>/g, '');
  expect(outside).not.toMatch(/(?:src|href)=|@import|url\(/);
  expect(html.split('id="report-data"')).toHaveLength(2);
  expect(html.split('id="report-details"')).toHaveLength(2);
  expect(html).toContain(`default-src 'none'`);
});

test('texts of a result end no element and open none', () => {
  const html = reportHtml(hostileResult());
  const plain = reportHtml(result);
  // The scripts' own strings hold such words too: there must be no more of them than without hostile
  // names.
  for (const word of ['<img', '<script', '</script']) {
    expect(html.split(word).length, word).toBe(plain.split(word).length);
  }
  expect(escapeHtml(HOSTILE)).not.toMatch(/[<>"']/);
  // The scripts set texts of the data as text.
  expect(dataOf(html).axes.find(({ name }) => name === 'workload')?.values).toContain(visibleText(HOSTILE));
});

test('without its data the page is a small file', () => {
  const html = reportHtml(result);
  const data = [...html.matchAll(/<script type="text\/plain"[^>]*>([^<]*)</g)].reduce(
    (sum, [, text = '']) => sum + text.length,
    0,
  );
  expect(html.length - data).toBeLessThan(300_000);
});

test('the columns are the figures of the cells', () => {
  const data = dataOf(reportHtml(result));
  expect(data.names).toHaveLength(result.cells.length);
  expect(new Set(data.names).size).toBe(result.cells.length);
  for (const [index, { counts, cell }] of result.cells.entries()) {
    const own = counts === null ? undefined : deriveFigures(counts);
    expect(rateText(data.figures.syncsPerWrite[index])).toBe(rateText(own?.syncsPerWrite));
    expect(bytesText(data.figures.bytesPerWrite[index])).toBe(bytesText(own?.bytesPerWrite));
    const axis = data.axes.findIndex(({ name }) => name === 'cache');
    expect(data.axes[axis]?.values[data.places[axis]?.[index] ?? -1]).toBe(cell.cache);
  }
});

test('what QEMU says of the cells is reported in words, and shown where it differs', () => {
  const [first, second, ...others] = result.cells;
  const difference = 'operation 7 differs\n  7  F   W 0x0 512';
  const cells = [
    { ...(first as CellRecord), parity: PARITY },
    { ...(second as CellRecord), parity: { ...PARITY, verdict: 'different' as const, difference } },
  ];
  const html = reportHtml({ ...result, cells: [...cells, ...others] });
  expect(html).toContain('Compared with QEMU');
  expect(html).toContain('1 of 2 cells identical to QEMU 7.2.22 (1,806 operations)');
  expect(html).toContain(`<pre>${difference}</pre>`);
  expect(reportHtml(result)).not.toContain('Compared with QEMU');
});

test('a result without cells, or without times, still makes a page', () => {
  expect(reportHtml({ ...result, cells: [] })).toContain('No cell of this result was counted.');
  const untimed = result.cells.map((record) => ({ ...record, timings: [], timedRequests: 0 }));
  const html = reportHtml({ ...result, cells: untimed });
  expect(html).not.toContain('How sure the times are');
  expect(html).toContain('No times were taken.');
});

/** Text of the numbers after the bars of a chart. */
const numbers = (page: Page, chart: string): Promise<string[]> =>
  page.locator(`#chart-${chart} svg .value`).allTextContents();
const choose = async (page: Page, name: string, value: string): Promise<void> => {
  await page.locator(`select[data-select="${name}"]`).selectOption(value);
};
const fragment = (page: Page): string => decodeURIComponent(new URL(page.url()).hash);

describe.skipIf(skipsBrowser)('in a browser', () => {
  let browser: Browser;
  const directory = testDirectory();
  const open = (shown: ResultRecord, options: OpenOptions): Promise<Opened> =>
    opened(browser, directory, reportHtml(shown), options);

  beforeAll(async () => {
    browser = await launched();
  });
  afterAll(async () => {
    await browser.close();
  });

  test('every chart is drawn with the figures of the cells, silently and without a request', async () => {
    const { page, noise } = await open(result, { name: 'plain' });
    // Five modes of four variants: raw, eager, lazy, QED.
    const shown = await numbers(page, 'syncs');
    expect(shown).toHaveLength(20);
    expect(shown.slice(0, 4)).toEqual(['1.00', '2.00', '1.00', '1.00']);
    for (const slot of await page.locator('#chart-bytes .slot').all()) {
      const { counts } = result.cells[Number(await slot.getAttribute('data-cell'))] as CellRecord;
      if (counts === null) throw new Error('not counted');
      const parts = [...bytesPerWriteByPurpose(counts)].filter(([name]) => name !== 'data');
      const sum = parts.reduce((total, [, bytes]) => total + bytes, 0);
      expect(await slot.locator('.value').textContent()).toBe(bytesText(sum));
      expect(await slot.locator('.bar').count()).toBe(parts.length);
    }
    expect(await page.locator('#chart-times circle').count()).toBe(20 * 9);
    expect(await page.locator('#page-error').isVisible()).toBe(false);
    expect(noise).toEqual([]);
    await page.close();
  });

  test('a held value, an axis and the filter change charts, tables and address; the address shows the same', async () => {
    const { page, noise, url } = await open(result, { name: 'choices' });
    await choose(page, 'workload', 'overwrite');
    await expect
      .poll(async () => (await numbers(page, 'syncs')).slice(0, 4))
      .toEqual(['1.00', '1.00', '1.00', '1.00']);
    expect(new Set(await numbers(page, 'bytes'))).toEqual(new Set(['0']));
    await choose(page, 'rows', 'workload');
    await choose(page, 'columns', 'variant');
    await expect.poll(() => page.locator('#chart-syncs .panel-name').count()).toBe(5);
    expect(await page.locator('#chart-syncs .row-name').first().textContent()).toBe('stride');
    await page.locator('#filter').fill('cache:none,unsafe !raw');
    await expect.poll(() => page.locator('#filter-state').textContent()).toBe('54 of 180 cells');
    expect(await page.locator('#chart-syncs .panel-name').allTextContents()).toEqual(['none', 'unsafe']);
    expect(await page.locator('#cells tbody tr').count()).toBe(54);
    await page.locator('.segments button', { hasText: 'Numbers' }).click();
    const grid = await page.locator('#chart-syncs table.heat td').allTextContents();
    // Two panels of nine workloads and three variants, each with a corner.
    expect(grid).toHaveLength(2 * (1 + 9 * 3));
    const address = fragment(page);
    for (const part of [
      'q=cache:none,unsafe+!raw',
      'rows=workload',
      'columns=variant',
      'hold.workload=overwrite',
      'as=grid',
    ]) {
      expect(address).toContain(part);
    }
    const again = await open(result, { name: 'choices', fragment: page.url().slice(url.length) });
    expect(await again.page.locator('#chart-syncs table.heat td').allTextContents()).toEqual(grid);
    expect(await again.page.locator('#filter').inputValue()).toBe('cache:none,unsafe !raw');
    expect([...noise, ...again.noise]).toEqual([]);
    await again.page.close();
    await page.close();
  });

  test('axes are chosen by their values; a word that is no axis is named', async () => {
    const { page } = await open(result, { name: 'axes' });
    await page.getByRole('button', { name: 'Axes' }).click();
    await page.locator('#axes [aria-label="cache"] button', { hasText: 'writeback' }).click();
    expect(await page.locator('#filter').inputValue()).toBe('cache:writeback');
    await page.locator('#axes [aria-label="format"] button', { hasText: 'qed' }).click();
    await expect.poll(() => page.locator('#filter-state').textContent()).toBe('9 of 180 cells');
    await page.locator('#filter').fill('colour:red');
    expect(await page.locator('.problem').textContent()).toContain('No axis colour');
    await page.getByRole('button', { name: 'Clear' }).click();
    await expect.poll(() => page.locator('#filter-state').textContent()).toBe('180 cells');
    await page.close();
  });

  test('the table of a chart and the list of cells have the figures of the drawing; headings sort', async () => {
    const { page } = await open(result, { name: 'tables' });
    await page
      .locator('#chart-syncs')
      .locator('xpath=..')
      .getByRole('button', { name: 'Table', exact: true })
      .click();
    const column = await page.locator('#rows-syncs tbody tr td:nth-child(2)').allTextContents();
    expect(column).toEqual(await numbers(page, 'syncs'));
    await page.getByRole('button', { name: 'Show 120 more' }).click();
    const syncs = async (): Promise<number[]> => {
      const texts = await page.locator('#cells tbody tr td:nth-child(4)').allTextContents();
      return texts.map(Number);
    };
    await page.locator('#cells thead button', { hasText: 'Syncs/write' }).click();
    const up = await syncs();
    expect(up).toHaveLength(180);
    expect(up).toEqual(up.toSorted((a, b) => a - b));
    await page.locator('#cells thead button', { hasText: 'Syncs/write' }).click();
    expect(await syncs()).toEqual(up.toReversed());
    expect(fragment(page)).toContain('sort=-syncsPerWrite');
    await page.close();
  });

  test('keys: the filter, a bar, the time line', async () => {
    const { page, noise } = await open(result, { name: 'keys' });
    await page.keyboard.press('/');
    await page.keyboard.type('stride');
    expect(await page.locator('#filter').inputValue()).toBe('stride');
    await page.locator('#chart-syncs .slot').nth(2).focus();
    expect(await page.locator('.tip').textContent()).toContain('qcow2 lazy');
    await page.keyboard.press('Enter');
    await expect.poll(() => fragment(page)).toContain('cell=stride');
    const line = page.locator('svg.timeline');
    await line.focus();
    await page.keyboard.press('ArrowRight');
    await expect.poll(() => fragment(page)).toContain('from=3');
    await page.keyboard.press('+');
    await expect.poll(() => page.locator('.zoom output').textContent()).toBe('#6–#11 of 40');
    await page.keyboard.press('Home');
    await expect.poll(() => page.locator('.zoom output').textContent()).toBe('#0–#5 of 40');
    expect(noise).toEqual([]);
    await page.close();
  });

  test('the time line has the operations of both cells, and the first request that differs', async () => {
    const { page, noise } = await open(result, { name: 'timeline' });
    const text = page.locator('.timeline-sum');
    // Twelve requests: 3 operations each, and 2 more in ten of them.
    await expect.poll(() => text.textContent()).toContain('qcow2 eager · writethrough: 56 operations');
    expect(await text.textContent()).toContain('qcow2 lazy · writethrough: 36 operations');
    expect(await text.textContent()).toContain('The first that differs is #2.');
    expect(await page.locator('svg.timeline .operation').count()).toBe(56 + 36);
    expect(await page.locator('svg.timeline .operation[data-name="l2-after-refcount"]').count()).toBe(10);
    expect(await page.locator('svg.timeline g[data-request="2"] .difference').count()).toBe(2);
    await page.locator('.chart-controls select').last().selectOption('nvme-plp');
    await expect.poll(() => text.textContent()).toMatch(/56 operations, [\d.]+ ms/);
    expect(noise).toEqual([]);
    await page.close();
  });

  test('after a crash: savings cross the repair of each size of image; cell and device are chosen', async () => {
    const html = reportHtml(result, { repairs: repairsOf(result) });
    const { page, noise } = await opened(browser, directory, html, { name: 'repair' });
    const figure = page.locator('#crash figure');
    await figure.locator('svg line.saved').waitFor();
    expect(await figure.locator('svg line.repair').count()).toBe(4);
    expect(await figure.locator('svg .crossing-name').allTextContents()).toContain('4,563');
    await figure.getByRole('button', { name: 'Table' }).click();
    const rows = await figure.locator('table tbody tr').allTextContents();
    expect(rows).toHaveLength(8);
    expect(rows[0]).toMatch(/this image.*hdd-7200.*461,312.*170 ms.*15$/);
    await figure.getByLabel('Device').selectOption('nvme-plp');
    expect(await figure.locator('svg line.saved').count()).toBe(0);
    expect(await figure.locator('.sub').first().textContent()).toContain('nothing is saved');
    expect(noise).toEqual([]);
  });

  test('the help of a chart opens by key and is named for a screen reader; cache modes have theirs', async () => {
    const { page } = await open(result, { name: 'help' });
    const button = page.getByRole('button', { name: 'How to read: Syncs per guest write' });
    await button.focus();
    await page.keyboard.press('Enter');
    expect(await button.getAttribute('aria-expanded')).toBe('true');
    expect(await page.locator('#help-syncs').textContent()).toBe(CHART_HELP['syncs']);
    await page.keyboard.press('Enter');
    expect(await page.locator('#help-syncs').isVisible()).toBe(false);
    const promises = page.locator('details', { hasText: 'What each cache mode promises' });
    await promises.locator('summary').click();
    expect(await promises.locator('dd').allTextContents()).toEqual(Object.values(CACHE_HELP));
    await page.close();
  });

  test('on paper: no controls, nothing folded, drawings within the sheet, light colours', async () => {
    const { page } = await open(result, { name: 'paper', colorScheme: 'dark' });
    await page.locator('svg.timeline').waitFor();
    await page.emulateMedia({ media: 'print' });
    await page.setViewportSize({ width: 760, height: 1000 });
    await page.evaluate(`dispatchEvent(new Event('beforeprint'))`);
    expect(await page.locator('details:not([open])').count()).toBe(0);
    expect(await page.getByRole('button', { name: 'CSV' }).first().isVisible()).toBe(false);
    expect(await page.evaluate(`getComputedStyle(document.body).backgroundColor`)).toBe('rgb(255, 255, 255)');
    const wide = await page.evaluate(
      `[...document.querySelectorAll('.chart svg')].filter((svg) => svg.getBoundingClientRect().right > svg.closest('.card').getBoundingClientRect().right).length`,
    );
    expect(wide).toBe(0);
    await page.evaluate(`dispatchEvent(new Event('afterprint'))`);
    expect(await page.locator('details:not([open])').count()).toBeGreaterThan(0);
    await page.close();
  });

  test('a chart is saved as SVG and as PNG', async () => {
    const { page, noise } = await open(result, { name: 'save' });
    for (const kind of ['SVG', 'PNG']) {
      const download = page.waitForEvent('download');
      await page.getByRole('button', { name: `Save Syncs per guest write, by cause as ${kind}` }).click();
      const bytes = readFileSync(await (await download).path());
      if (kind === 'PNG') expect(bytes.subarray(1, 4).toString()).toBe('PNG');
      else expect(bytes.toString()).toContain('>2.00</text>');
    }
    expect(noise).toEqual([]);
    await page.close();
  });

  test('nothing is wider than a narrow page, and charts follow when it is turned', async () => {
    const { page, noise } = await open(result, { name: 'narrow', width: 390 });
    const overflow = (): Promise<number> =>
      page.evaluate('document.documentElement.scrollWidth - window.innerWidth');
    const width = async (): Promise<number> =>
      (await page.locator('#chart-syncs svg').boundingBox())?.width ?? 0;
    await page.locator('svg.timeline').waitFor();
    expect(await overflow()).toBeLessThanOrEqual(0);
    const narrow = await width();
    expect(narrow).toBeLessThan(390);
    await page.setViewportSize({ width: 900, height: 480 });
    await expect.poll(width).toBeGreaterThan(narrow + 300);
    await page.setViewportSize({ width: 390, height: 900 });
    await expect.poll(width).toBe(narrow);
    await expect.poll(overflow).toBeLessThanOrEqual(0);
    expect(noise).toEqual([]);
    await page.close();
  });

  test.each(['light', 'dark'] as const)(
    'axe finds no serious violation on a %s page',
    async (colorScheme) => {
      const html = reportHtml(result, { repairs: repairsOf(result) });
      const { page } = await opened(browser, directory, html, { name: `axe-${colorScheme}`, colorScheme });
      await page.locator('svg.timeline').waitFor();
      await page.getByRole('button', { name: 'Axes' }).click();
      // By the debugger, past the page's own policy, which lets no foreign script run.
      const session = await page.context().newCDPSession(page);
      await session.send('Runtime.evaluate', { expression: axe.source });
      const report: { violations: { id: string; impact: string; nodes: { target: string[] }[] }[] } =
        await page.evaluate('axe.run()');
      const serious = report.violations.filter(({ impact }) => ['serious', 'critical'].includes(impact));
      expect(
        serious.map(({ id, nodes }) => [id, nodes.map(({ target }) => target.join(' ')).slice(0, 3)]),
      ).toEqual([]);
      await page.close();
    },
  );

  test('text of charts follows the colour scheme; hostile names are shown as text and run nothing', async () => {
    const { page, noise } = await open(hostileResult(), { name: 'hostile', colorScheme: 'dark' });
    const colour = await page.evaluate(`getComputedStyle(document.querySelector('#chart-syncs .tick')).fill`);
    expect(colour).toBe('rgb(155, 167, 183)');
    await choose(page, 'rows', 'workload');
    await page.locator('#filter').fill('onerror');
    await expect
      .poll(() => page.locator('#chart-syncs .row-name').first().textContent())
      .toContain('</script>');
    await page.locator('#chart-syncs .slot').first().hover();
    await expect.poll(() => page.locator('.tip').textContent()).toContain('onerror');
    expect(await page.evaluate('window.hit')).toBeUndefined();
    expect(await page.locator('img').count()).toBe(0);
    expect(noise).toEqual([]);
    await page.close();
  });

  test('a thousand cells are drawn, filtered and listed', async () => {
    const depths = [1, 2, 4, 8, 16, 32];
    const cells = depths
      .flatMap((queueDepth) =>
        result.cells.map((record) => ({ ...record, cell: { ...record.cell, queueDepth } })),
      )
      .slice(0, 1000);
    const html = reportHtml({ ...result, cells });
    const beganMs = performance.now();
    const { page, noise } = await opened(browser, directory, html, { name: 'thousand' });
    const readyMs = performance.now() - beganMs;
    process.stdout.write(`1,000 cells: ${String(Math.round(readyMs))} ms until the page is drawn\n`);
    expect(await numbers(page, 'syncs')).toHaveLength(20);
    await page.locator('#filter').fill('queue-depth:8 cache:none');
    await expect.poll(() => page.locator('#filter-state').textContent()).toBe('36 of 1,000 cells');
    expect(noise).toEqual([]);
    await page.close();
  });

  test('without scripts the answer and all cells are readable', async () => {
    const path = join(directory, 'noscript.html');
    writeFileSync(path, reportHtml(result));
    const context = await browser.newContext({ javaScriptEnabled: false });
    const page = await context.newPage();
    await page.goto(pathToFileURL(path).href);
    expect(await page.locator('h1').textContent()).toContain(
      'lazy refcounts issue 1.00 instead of 2.00 syncs',
    );
    expect(await page.locator('.answer-chart tbody tr').count()).toBe(4);
    expect(await page.getByRole('row').count()).toBeGreaterThan(180);
    await context.close();
  });
});
