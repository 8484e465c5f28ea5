/** Memory for O_DIRECT, and memory that is used again. */

import { expect, test } from 'vitest';

import { allocatePages, isPageMemory, lastingPages, withRecycledPages } from '../../src/core/page-memory.ts';

const MIB = 1024 * 1024;
const SIZES = [1, 512, 4096, 65_536, 300_000, 2 * MIB];

/** Takes memory of all sizes, several slabs of it, and writes to all. */
function fill(): readonly Uint8Array[] {
  const views = Array.from({ length: 40 }, (_, index) =>
    allocatePages(SIZES[index % SIZES.length] as number),
  );
  for (const [index, view] of views.entries()) {
    expect(isPageMemory(view, 4096)).toBe(true);
    expect(
      view.every((byte) => byte === 0),
      `view ${String(index)}`,
    ).toBe(true);
  }
  for (const [index, view] of views.entries()) view.fill(index + 1);
  // None is in the place of another.
  for (const [index, view] of views.entries()) expect(view.every((byte) => byte === index + 1)).toBe(true);
  return views;
}

test('memory is on a page boundary, zeroed, and no view is in the place of another', () => {
  fill();
  expect(isPageMemory(lastingPages(512), 4096)).toBe(true);
});

test('recycled memory is zeroed, and is the same again', async () => {
  const runs: (readonly Uint8Array[])[] = [];
  for (let run = 0; run < 3; run++) {
    await withRecycledPages(() => {
      runs.push(fill());
      return Promise.resolve();
    });
  }
  const buffers = runs.map(
    (views) => new Set(views.filter(({ length }) => length < MIB).map(({ buffer }) => buffer)),
  );
  expect(buffers[1]).toEqual(buffers[0]);
  expect(buffers[2]).toEqual(buffers[0]);
});

test('what is taken outside, or to last, is not recycled', async () => {
  const outside = allocatePages(4096).fill(7);
  let lasting = new Uint8Array(0);
  await withRecycledPages(() => {
    lasting = lastingPages(4096).fill(8);
    return Promise.resolve();
  });
  await withRecycledPages(() => Promise.resolve(fill()));
  expect(outside.every((byte) => byte === 7)).toBe(true);
  expect(lasting.every((byte) => byte === 8)).toBe(true);
});

test('work that fails gives its memory back', async () => {
  await expect(withRecycledPages(() => Promise.reject(new Error('no')))).rejects.toThrow('no');
  await withRecycledPages(() => Promise.resolve(fill()));
});
