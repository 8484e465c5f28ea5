import { readFileSync } from 'node:fs';

import { expect, test } from 'vitest';

import { resultJsonSchema } from '../../src/result/json-schema.ts';
import { cellRecordSchema, countsSchema } from '../../src/result/schema.ts';
import { leafValue, schemaLeaves } from '../../src/result/leaves.ts';
import { syntheticResult } from '../report/synthetic-result.ts';

const committed = new URL('../../docs/result.schema.json', import.meta.url);

test('the committed JSON Schema is the one that the zod schema gives', () => {
  expect(readFileSync(committed, 'utf8')).toBe(resultJsonSchema());
});

test('cells without counts must say why', () => {
  const [record] = syntheticResult().cells;
  const bare = { ...record, counts: null, countsDevice: null };
  expect(cellRecordSchema.safeParse(bare).success).toBe(false);
  expect(cellRecordSchema.safeParse({ ...bare, skipped: 'no O_DIRECT on tmpfs' }).success).toBe(true);
});

test('every number of the counts is a leaf, and there is no other', () => {
  const counts = syntheticResult().cells[1]?.counts ?? undefined;
  expect(counts).toBeDefined();
  const numbers = (value: unknown): number =>
    typeof value === 'object' && value !== null
      ? Object.values(value).reduce<number>((sum, child) => sum + numbers(child), 0)
      : 1;
  const present = schemaLeaves(countsSchema).filter((path) => leafValue(counts, path) !== undefined);
  expect(present).toHaveLength(numbers(counts));
});
