/** Pages in the system's Chromium. */

import { existsSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { chromium, type Browser, type Page } from 'playwright-core';

const CHROMIUM = (process.env['PATH'] ?? '')
  .split(delimiter)
  .map((folder) => join(folder, 'chromium'))
  .find((path) => existsSync(path));

const isMissing = CHROMIUM === undefined && process.env['CI'] !== 'true';
if (isMissing) {
  process.stderr.write('skipped: the report in a browser needs chromium: apt-get install chromium\n');
}

/** Whether tests in a browser are skipped: never in CI. */
export const skipsBrowser = isMissing;

export async function launched(): Promise<Browser> {
  return chromium.launch({
    ...(CHROMIUM === undefined ? {} : { executablePath: CHROMIUM }),
    args: ['--no-sandbox', '--disable-gpu'],
  });
}

export interface Opened {
  readonly page: Page;
  readonly url: string;
  /** Everything that the console, a failed script or a request said. */
  readonly noise: string[];
}

export interface OpenOptions {
  readonly name: string;
  readonly colorScheme?: 'light' | 'dark';
  readonly width?: number;
  /** With `#`. */
  readonly fragment?: string;
}

/** Writes a page to a directory and opens it; waits until it is drawn. */
export async function opened(
  browser: Browser,
  directory: string,
  html: string,
  { name, colorScheme = 'light', width = 1280, fragment = '' }: OpenOptions,
): Promise<Opened> {
  const path = join(directory, `${name}.html`);
  writeFileSync(path, html);
  const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme });
  const noise: string[] = [];
  const url = pathToFileURL(path).href;
  page.on('console', (message) => noise.push(`${message.type()}: ${message.text()}`));
  page.on('pageerror', (error) => noise.push(String(error)));
  page.on('request', (request) => {
    const own = request.url().split('#')[0];
    if (own !== url && !own?.startsWith('data:') && !own?.startsWith('blob:')) {
      noise.push(`request: ${request.url()}`);
    }
  });
  await page.goto(url + fragment);
  await page.locator('body[data-page="ready"]').waitFor();
  return { page, url, noise };
}
