/** What a crash costs, and when it is paid back: figures, and their Markdown. */

import { expect, test } from 'vitest';

import { repairMarkdown } from '../../src/report/repair-markdown.ts';
import {
  FURTHER_DATA,
  furtherData,
  repairReadBytes,
  repairTimeNs,
  writesToBreakEven,
} from '../../src/report/repair-price.ts';
import { REPAIRED, repairsOf } from './repair-prices.ts';
import { syntheticResult } from './synthetic-result.ts';

test('a crash is paid back by the first write whose savings reach the repair, or never', () => {
  const price = { device: 'd', savedNs: 300, repairNs: 1000, nsPerByte: 0.5 };
  expect([0, 100, 400].map((data) => writesToBreakEven(price, data))).toEqual([4, 4, 4]);
  expect(writesToBreakEven(price, 401)).toBe(5);
  expect(repairTimeNs(price, 401)).toBeCloseTo(1200.5);
  expect(writesToBreakEven({ ...price, savedNs: 0 }, 0)).toBeUndefined();
  expect(writesToBreakEven({ ...price, savedNs: -5 }, 0)).toBeUndefined();
  // Faster than an eager opening: nothing has to be paid back.
  expect(writesToBreakEven({ ...price, repairNs: -1, nsPerByte: undefined }, 0)).toBe(0);
});

test('where the growth is not known, only the image as it is has a figure', () => {
  expect(furtherData(REPAIRED)).toEqual(FURTHER_DATA);
  expect(furtherData({ readBytesPerByte: undefined })).toEqual([0]);
  expect(repairReadBytes(REPAIRED, 2 ** 40)).toBe(461_312 + 2 ** 40 / 4096);
});

test('Markdown has a line as the image is and one of a large image, with the writes of each device', () => {
  const result = syntheticResult();
  expect(repairMarkdown(result, new Map())).toBe('');
  const lines = repairMarkdown(result, repairsOf(result)).split('\n');
  expect(lines).toContainEqual(
    expect.stringMatching(/^\| .*qcow2 lazy.* \| 1\.00 \| 461,312 \| 15 \| never \|$/),
  );
  expect(lines).toContainEqual(
    expect.stringMatching(/^\| .*with 1 TiB more data \| 1\.00 \| 268,896,768 \| 4,563 \| never \|$/),
  );
});
