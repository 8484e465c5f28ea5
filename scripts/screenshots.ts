/**
 * Pictures of the pages, by the system's Chromium: `npm run docs:screenshots`.
 *
 * Leaves docs/report.png and docs/timeline.png, which README.md shows, and the others in reports/:
 * desktop, dark, phone, numbers, a comparison. They are of cells that are counted for them, so that
 * the same version makes the same pictures, but for fonts.
 */

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

import { chromium, type Browser } from 'playwright-core';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const MAIN = join(ROOT, 'src', 'cli', 'main.ts');
const CELLS = ['--requests', '600', '--samples', '1', '--device', 'model:nvme-consumer', '--overwrite'];
const WORKLOADS = 'stride,random-allocation,overwrite,database-commit,sqlite-wal,postgres-pgbench';

interface Shot {
  readonly out: string;
  readonly page: string;
  readonly width?: number;
  readonly height?: number;
  readonly isDark?: boolean;
  /** With `#`. */
  readonly fragment?: string;
  /** A part of the page in place of its first screen. */
  readonly part?: string;
}

const SHOTS: readonly Shot[] = [
  { out: 'docs/report.png', page: 'report.html' },
  { out: 'docs/timeline.png', page: 'report.html', part: '#operations figure' },
  { out: 'reports/dark.png', page: 'report.html', isDark: true },
  { out: 'reports/phone.png', page: 'report.html', width: 390, height: 844 },
  {
    out: 'reports/numbers.png',
    page: 'report.html',
    part: '#explore',
    fragment: '#rows=workload&columns=variant&as=grid&show=syncs,amplification&q=cache:writethrough,none',
  },
  {
    out: 'reports/columns.png',
    page: 'report.html',
    part: '#explore',
    fragment: '#rows=variant&columns=workload&panels=cache&show=syncs&q=cache:writethrough,none',
  },
  { out: 'reports/operations.png', page: 'report.html', part: '#operations' },
  { out: 'reports/devices.png', page: 'report.html', part: '#devices', fragment: '#q=cache:writethrough' },
  { out: 'reports/crash.png', page: 'report.html', part: '#crash' },
  { out: 'reports/table.png', page: 'report.html', part: '#table' },
  { out: 'reports/comparison.png', page: 'comparison.html', height: 1800 },
  { out: 'reports/comparison-dark.png', page: 'comparison.html', height: 1800, isDark: true },
];

const folder = mkdtempSync(join(tmpdir(), 'qcow2-bench-screenshots-'));
try {
  mkdirSync(join(ROOT, 'reports'), { recursive: true });
  call('run', '--workload', WORKLOADS, ...CELLS, '--out', 'result.json');
  call('report', 'result.json', '--out', 'report.html');
  const lazy = ['--workload', 'stride,random-allocation,overwrite', '--format', 'qcow2,qed'];
  call('run', ...lazy, ...CELLS, '--out', 'qemu.json');
  call('run', ...lazy, ...CELLS, '--policy', 'strict', '--out', 'strict.json');
  call('compare', 'qemu.json', 'strict.json', '--html', 'comparison.html');
  const browser = await chromium.launch({
    executablePath: chromiumPath(),
    args: ['--no-sandbox', '--disable-gpu'],
  });
  for (const shot of SHOTS) await take(browser, shot);
  await browser.close();
} finally {
  rmSync(folder, { recursive: true, force: true });
}

function call(...words: readonly string[]): void {
  const { status, stderr } = spawnSync(process.execPath, [MAIN, ...words], { cwd: folder, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${words.join(' ')}: ${stderr}`);
}

async function take(browser: Browser, shot: Shot): Promise<void> {
  const { out, page: file, width = 1280, height = 900, isDark = false, fragment = '', part } = shot;
  const colorScheme = isDark ? 'dark' : 'light';
  const page = await browser.newPage({ viewport: { width, height }, colorScheme });
  await page.goto(pathToFileURL(join(folder, file)).href + fragment);
  await page.locator('svg.timeline').waitFor();
  const path = join(ROOT, out);
  await (part === undefined ? page : page.locator(part).first()).screenshot({ path });
  await page.close();
  console.log(out);
}

function chromiumPath(): string {
  const found = (process.env['PATH'] ?? '')
    .split(delimiter)
    .map((each) => join(each, 'chromium'))
    .find((each) => existsSync(each));
  if (found === undefined) throw new Error('chromium is not on the PATH: apt-get install chromium');
  return found;
}
