/** What our engines and QEMU did to two copies of an image, compared: operations and bytes. */

import { expect } from 'vitest';

import type { Comparison } from '../../src/peer/compare-operations.ts';
import { firstDifference } from '../../src/peer/whole-file.ts';

/** Expects no difference; a failure shows the operations around the first one. */
export function expectSameOperations(comparison: Comparison, what?: string): void {
  expect(comparison.identical ? '' : comparison.text, what).toBe('');
}

/** Expects two files of the same length and bytes. Holes cost nothing. */
export async function expectSameFiles(ours: string, theirs: string, what = ours): Promise<void> {
  const offset = await firstDifference(ours, theirs);
  if (offset !== undefined) expect.unreachable(differ(what, offset));
}

/** Expects the same length and bytes. */
export function expectSameBytes(ours: Uint8Array, theirs: Uint8Array, what = 'the file'): void {
  if (Buffer.compare(ours, theirs) === 0) return;
  const at = ours.findIndex((byte, index) => byte !== theirs[index]);
  expect.unreachable(differ(what, at < 0 ? ours.byteLength : at));
}

function differ(what: string, offset: number): string {
  return `${what}: ours and QEMU's differ from 0x${offset.toString(16)} on`;
}
