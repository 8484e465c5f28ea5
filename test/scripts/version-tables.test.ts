/** The tables of both versions of QEMU in the document are what the engines count. */

import { readFile } from 'node:fs/promises';

import { expect, it } from 'vitest';

import { RULES, withVersionTables } from '../../scripts/version-tables.ts';

it('the tables of allocating writes are counted: npm run docs:versions', async () => {
  const document = await readFile(RULES, 'utf8');
  expect(await withVersionTables(document)).toBe(document);
});
