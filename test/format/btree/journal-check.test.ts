/** A check of an image whose journal was not folded in looks at the tree that an opening makes of it. */

import { crc32 } from 'node:zlib';

import { describe, expect, test } from 'vitest';

import { openImage } from '../../../src/format/registry.ts';
import { checkImageFile } from '../../../src/image/check-image.ts';
import { filled, RecordedFiles } from '../recorded-files.ts';

const BLOCK = 4096;
const IMAGE = 'vm/disk';
/** Fields of a superblock, and of an operation of a record. */
const JOURNAL_BLOCK = 88;
const FIRST_OPERATION = 32;
const HOST = 8;

/** Guest block 5 by the tree, 9 and 11 by two records of the journal. */
async function imageWithRecords(): Promise<RecordedFiles> {
  const files = new RecordedFiles();
  await files.create(IMAGE, { format: 'btree', virtualSize: 1024 * 1024 });
  const image = await openImage({ format: 'btree', name: IMAGE, files, readOnly: false, commit: 'journal' });
  for (const block of [5, 9, 11]) {
    await image.write(block * BLOCK, filled(BLOCK, block));
    await image.flush('guest-flush');
  }
  await image.abandon();
  return files;
}

/** The record of guest block 9 leads to another place. */
function redirect(files: RecordedFiles, host: number): void {
  const bytes = files.contents(IMAGE);
  const at = new DataView(bytes.buffer).getUint32(BLOCK + JOURNAL_BLOCK, true) * BLOCK;
  const record = new DataView(bytes.buffer, at, BLOCK);
  expect(record.getUint32(FIRST_OPERATION, true)).toBe(9);
  record.setUint32(FIRST_OPERATION + HOST, host, true);
  record.setUint32(4, crc32(bytes.subarray(at + 8, at + BLOCK)), true);
  files.put(IMAGE, bytes);
}

async function check(files: RecordedFiles, repair?: 'all') {
  const { storage } = files;
  return (await checkImageFile({ storage, name: IMAGE, format: 'btree', repair })).report;
}

async function readBlocks(files: RecordedFiles): Promise<readonly (number | undefined)[]> {
  const image = await openImage({ format: 'btree', name: IMAGE, files, readOnly: true });
  const bytes = new Uint8Array(16 * BLOCK);
  await image.read(0, bytes);
  await image.abandon();
  return [5, 9, 11].map((block) => bytes[block * BLOCK]);
}

test('what records map is counted, and nothing is written', async () => {
  const files = await imageWithRecords();
  const before = files.contents(IMAGE);
  expect(await check(files)).toMatchObject({ corruptions: 0, checkErrors: 0, allocatedClusters: 3 });
  expect(files.contents(IMAGE)).toEqual(before);
});

describe.each([
  { what: 'the data of another guest block', host: 256 },
  { what: 'a node', host: 2 },
  { what: 'the journal', host: 258 },
])('a record that leads to $what', ({ host }) => {
  test('is found, refused without a change, and repaired', async () => {
    const files = await imageWithRecords();
    redirect(files, host);
    const found = await check(files);
    expect(found).toMatchObject({ corruptions: 1, checkErrors: 0 });
    expect(found.messages.join('\n')).toContain('with the journal, at block');
    const before = files.contents(IMAGE);
    await expect(openImage({ format: 'btree', name: IMAGE, files, readOnly: false })).rejects.toMatchObject({
      code: 'btree-overlap',
    });
    expect(files.contents(IMAGE)).toEqual(before);
    expect(await check(files, 'all')).toMatchObject({ corruptions: 0, corruptionsFixed: 1 });
    expect(await check(files)).toMatchObject({ corruptions: 0, allocatedClusters: 2 });
    expect(await readBlocks(files)).toEqual([5, 0, 11]);
  });
});
