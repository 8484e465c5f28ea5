/** `report --serve`: a page that follows a result while a run writes it. */

import { renameSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';

import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { LiveReport } from '../../src/cli/sessions/live-report.ts';
import { reportHtml } from '../../src/report/html.ts';
import type { ResultRecord } from '../../src/result/schema.ts';
import { readResult } from '../../src/result/store.ts';
import { launched, skipsBrowser } from '../report/browser.ts';
import { syntheticResult } from '../report/synthetic-result.ts';
import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';

const result = syntheticResult();
const folder = testDirectory();
const path = join(folder, 'growing.json');

/** As a run does: whole, in place of the last. */
function write(cells: number): void {
  const grown: ResultRecord = { ...result, cells: result.cells.slice(0, cells) };
  writeFileSync(`${path}.new`, JSON.stringify(grown));
  renameSync(`${path}.new`, path);
}

function live(): LiveReport {
  return new LiveReport({ paths: [path], page: async () => reportHtml(readResult(path), { isLive: true }) });
}

interface Answer {
  readonly status: number | undefined;
  readonly text: string;
  readonly type: string | undefined;
}

function ask(
  url: string,
  options: { readonly method?: string; readonly host?: string; readonly path?: string } = {},
): Promise<Answer> {
  const { port, hostname, host } = new URL(url);
  return new Promise((resolve, reject) => {
    const { method = 'GET', path: asked = '/' } = options;
    const sent = request(
      { hostname, port, method, path: asked, headers: { host: options.host ?? host } },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (part: string) => (text += part));
        response.on('end', () =>
          resolve({ status: response.statusCode, text, type: response.headers['content-type'] }),
        );
      },
    );
    sent.on('error', reject);
    sent.end();
  });
}

test('it listens on the loopback interface, and answers its own host name, one page and GET alone', async () => {
  write(20);
  await using server = live();
  const url = await server.listen(0);
  expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/$/);
  const page = await ask(url);
  expect(page).toMatchObject({ status: 200, type: 'text/html; charset=utf-8' });
  expect(page.text).toContain("connect-src 'self'");
  expect(await ask(url, { host: 'example.com' })).toMatchObject({ status: 403 });
  expect(await ask(url, { method: 'POST' })).toMatchObject({ status: 405 });
  expect(await ask(url, { path: '/../../etc/passwd' })).toMatchObject({ status: 404 });
  // The same result as a file connects to nothing.
  expect(reportHtml(readResult(path))).not.toContain('connect-src');
});

test('a result that is being replaced or damaged leaves the last page', async () => {
  write(20);
  await using server = live();
  const url = await server.listen(0);
  writeFileSync(path, '{ "schema": ');
  expect((await ask(url)).text).toContain('· 20 cells');
  write(21);
  expect((await ask(url)).text).toContain('· 21 cells');
});

test('a port that is taken is one line of error, with what to do', async () => {
  write(20);
  await using server = live();
  const { port } = new URL(await server.listen(0));
  const { code, stderr } = await callCli(folder, 'report', 'growing.json', '--serve', port);
  expect(code).toBe(1);
  expect(stderr).toMatch(
    /^qcow2-bench: error: --serve: listening on 127\.0\.0\.1 port \d+ failed with EADDRINUSE.*--serve 0 takes any free port \[report-listen-failed\]\n$/,
  );
  const both = await callCli(folder, 'report', 'growing.json', '--serve', '0', '--out', 'x.html');
  expect(both).toMatchObject({ code: 2 });
  expect(both.stderr).toContain('--serve writes no file');
});

describe.skipIf(skipsBrowser)('in a browser', () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await launched();
  });
  afterAll(async () => {
    await browser.close();
  });

  test('charts fill as cells finish, and what the reader chose stays; the page outlives the server', async () => {
    write(0);
    const noise: string[] = [];
    const page = await browser.newPage();
    page.on('pageerror', (error) => noise.push(String(error)));
    await using server = live();
    const url = await server.listen(0);
    await page.goto(url);
    await expect.poll(() => page.locator('h1').textContent()).toBe('No cell of this result was counted.');
    write(20);
    await page.locator('#chart-syncs .slot').first().waitFor();
    await page.locator('#filter').fill('cache:writeback');
    await expect.poll(() => page.locator('#filter-state').textContent()).toBe('4 of 20 cells');
    write(60);
    await expect.poll(() => page.locator('#filter-state').textContent()).toBe('12 of 60 cells');
    await expect.poll(() => page.locator('.kicker').textContent()).toContain('60 cells');
    expect(await page.locator('#filter').inputValue()).toBe('cache:writeback');
    await expect.poll(() => page.locator('#chart-syncs .slot').count()).toBe(4);
    await server[Symbol.asyncDispose]();
    await expect.poll(() => page.locator('#live').textContent()).toContain('the server has ended');
    expect(await page.locator('#chart-syncs .slot').count()).toBe(4);
    expect(noise).toEqual([]);
    await page.close();
  });
});
