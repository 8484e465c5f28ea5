/** The table of false alarms and detections in docs/ci.md is what the rules do now. */

import { readFile } from 'node:fs/promises';

import { expect, test } from 'vitest';

import { GUIDE, withRates } from '../../scripts/gate-rates.ts';

test('the document has the simulated rates, and the gate at most 1 % of runs with a false alarm', async () => {
  const document = await readFile(GUIDE, 'utf8');
  expect(await withRates(document), 'npm run docs:rates writes them').toBe(document);
  const rates = [...document.matchAll(/^\| [^|]+ \| gate, \d+ rounds +\| +([\d.]+) % \|/gm)].map(([, rate]) =>
    Number(rate),
  );
  expect(rates).toHaveLength(8);
  expect(Math.max(...rates)).toBeLessThanOrEqual(1);
}, 120_000);
