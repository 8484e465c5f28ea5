import { existsSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { chromium, type Browser, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { visibleText } from '../../src/core/visible-text.ts';
import { reportHtml } from '../../src/report/html.ts';
import { scriptJson } from '../../src/report/markup.ts';
import type { CellRecord, ResultRecord } from '../../src/result/schema.ts';
import { testDirectory } from '../test-directory.ts';
import { ENVIRONMENT, syntheticResult } from './synthetic-result.ts';

const CHROMIUM = (process.env['PATH'] ?? '')
  .split(delimiter)
  .map((folder) => join(folder, 'chromium'))
  .find((path) => existsSync(path));
const HOSTILE = `</script><img src=x onerror="window.hit=1">'&\u2028`;
const result = syntheticResult();

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
  expect(html).toContain(`default-src 'none'`);
});

test('texts of a result end no element and open none', () => {
  const html = reportHtml(hostileResult());
  const plain = reportHtml(result);
  // The libraries' own strings hold such words too: there must be no more of them than without
  // hostile names.
  for (const word of ['<img', '<script', '</script']) {
    expect(html.split(word).length, word).toBe(plain.split(word).length);
  }
  expect(JSON.parse(scriptJson({ text: HOSTILE }))).toEqual({ text: HOSTILE });
  expect(scriptJson(HOSTILE)).not.toMatch(/[<\u2028]/);
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
  expect(html).not.toContain('Request times');
  expect(html).toContain('No times were taken.');
});

const missing = CHROMIUM === undefined;
if (missing && process.env['CI'] !== 'true') {
  process.stderr.write('skipped: the report in a browser needs chromium: apt-get install chromium\n');
}

describe.skipIf(missing && process.env['CI'] !== 'true')('in a browser', () => {
  let browser: Browser;
  const directory = testDirectory();
  /** The page in plain and with hostile names, opened once: drawing it is what takes time. */
  let plain: Opened;
  let hostile: Opened;

  beforeAll(async () => {
    browser = await chromium.launch({
      ...(CHROMIUM === undefined ? {} : { executablePath: CHROMIUM }),
      args: ['--no-sandbox', '--disable-gpu'],
    });
    [plain, hostile] = await Promise.all([
      open(result, { name: 'plain', colorScheme: 'light' }),
      open(hostileResult(), { name: 'hostile', colorScheme: 'dark' }),
    ]);
  });
  afterAll(async () => {
    await browser.close();
  });

  interface Opened {
    readonly page: Page;
    /** Everything that the console, a failed script or a request said. */
    readonly noise: string[];
  }

  async function open(
    shown: ResultRecord,
    options: { readonly name: string; readonly colorScheme: 'light' | 'dark' },
  ): Promise<Opened> {
    const path = join(directory, `${options.name}.html`);
    writeFileSync(path, reportHtml(shown));
    const viewport = { width: 1280, height: 900 };
    const page = await browser.newPage({ viewport, colorScheme: options.colorScheme });
    const noise: string[] = [];
    const url = pathToFileURL(path).href;
    page.on('console', (message) => noise.push(`${message.type()}: ${message.text()}`));
    page.on('pageerror', (error) => noise.push(String(error)));
    page.on('request', (request) => {
      if (request.url() !== url) noise.push(`request: ${request.url()}`);
    });
    await page.goto(url);
    await page.locator('body[data-charts="drawn"]').waitFor();
    return { page, noise };
  }

  /** Texts drawn in the marks of a chart: the figures beside bars and in cells. */
  const markTexts = (page: Page, chart: string): Promise<string[]> =>
    page.locator(`#chart-${chart} svg .mark-text.role-mark text`).allTextContents();
  const rowCount = (page: Page, chart: string): Promise<number> => page.locator(`#rows-${chart} tr`).count();

  test('every chart is drawn, silently and without a request', async () => {
    const { page, noise } = plain;
    const shown = await markTexts(page, 'syncs');
    // Five modes of four variants: raw, eager, lazy, QED.
    expect(shown.slice(0, 4)).toEqual(['1.00', '2.00', '1.00', '1.00']);
    expect(shown).toHaveLength(20);
    expect(await markTexts(page, 'bytes')).toContain('131,203');
    expect(await markTexts(page, 'matrix-syncs')).toHaveLength(36);
    expect(await markTexts(page, 'matrix-amplification')).toContain('33.0×');
    expect(await page.locator('#chart-times svg .mark-symbol path').count()).toBeGreaterThanOrEqual(20 * 9);
    expect(await page.locator('#page-error').isVisible()).toBe(false);
    expect(noise).toEqual([]);
  });

  test('the workload selector changes charts, tables and its twin', async () => {
    const { page, noise } = plain;
    expect(await rowCount(page, 'syncs')).toBeGreaterThan(20);
    await page.locator('select[data-select="workload"]').first().selectOption('overwrite');
    await page.locator('#chart-syncs svg text', { hasText: '2.00' }).waitFor({ state: 'detached' });
    expect((await markTexts(page, 'syncs')).slice(0, 4)).toEqual(['1.00', '1.00', '1.00', '1.00']);
    expect(new Set(await markTexts(page, 'bytes'))).toEqual(new Set(['0']));
    expect(await rowCount(page, 'syncs')).toBe(20);
    expect(await page.locator('select[data-select="workload"]').last().inputValue()).toBe('overwrite');
    expect(noise).toEqual([]);
  });

  test('the cache selector changes the matrix', async () => {
    const { page, noise } = plain;
    await page.locator('select[data-select="cache"]').selectOption('unsafe');
    await page
      .locator('#chart-matrix-syncs svg text', { hasText: '2.00' })
      .first()
      .waitFor({ state: 'detached' });
    expect(new Set(await markTexts(page, 'matrix-syncs'))).toEqual(new Set(['0']));
    expect(noise).toEqual([]);
  });

  test('nothing is wider than a narrow page, and charts follow when it is turned', async () => {
    const { page, noise } = plain;
    await page.setViewportSize({ width: 480, height: 900 });
    const overflow = (): Promise<number> =>
      page.evaluate('document.documentElement.scrollWidth - window.innerWidth');
    const width = async (): Promise<number> =>
      (await page.locator('#chart-syncs svg.marks').boundingBox())?.width ?? 0;
    await expect.poll(overflow).toBeLessThanOrEqual(0);
    await expect.poll(width).toBeLessThan(480);
    const narrow = await width();
    await page.setViewportSize({ width: 900, height: 480 });
    await expect.poll(width).toBeGreaterThan(narrow + 300);
    await page.setViewportSize({ width: 480, height: 900 });
    await expect.poll(width).toBe(narrow);
    await expect.poll(overflow).toBeLessThanOrEqual(0);
    expect(noise).toEqual([]);
  });

  test('text of charts follows the colour scheme', async () => {
    const { page } = hostile;
    const label = '#chart-syncs svg .role-axis-label text';
    const colour = await page.evaluate(`getComputedStyle(document.querySelector('${label}')).fill`);
    expect(colour).toBe('rgb(154, 165, 181)');
  });

  test('hostile names are shown as text and run nothing', async () => {
    const { page, noise } = hostile;
    await page.locator('select[data-select="workload"]').first().selectOption(visibleText(HOSTILE));
    await page.locator('#chart-matrix-syncs .mark-rect path').first().hover();
    await expect.poll(() => page.locator('#vg-tooltip-element').textContent()).toContain('onerror');
    expect(await page.evaluate('window.hit')).toBeUndefined();
    expect(await page.locator('img').count()).toBe(0);
    expect(noise).toEqual([]);
  });
});
