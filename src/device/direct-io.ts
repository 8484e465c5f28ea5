/**
 * What O_DIRECT asks of requests: whether it exists, and to which multiple offsets and lengths go.
 */

import { constants, readSync } from 'node:fs';
import { systemCode } from '../core/error.ts';
import { lastingPages, PAGE_SIZE } from '../core/page-memory.ts';

/** The flag for `open`, or `undefined` on a system that has none. */
export const O_DIRECT: number | undefined = (constants as Readonly<Record<string, number | undefined>>)[
  'O_DIRECT'
];

/**
 * What is asked of requests where a file takes any alignment, so that nothing can be probed: the
 * largest, as QEMU does.
 */
export const SAFE_ALIGNMENT = PAGE_SIZE;

const ALIGNMENTS = [512, 1024, 2048, 4096];

/**
 * The smallest alignment at which the file, opened with O_DIRECT, is read from its start: the way
 * QEMU probes it, so that both choose the same. Where the file does not report it, as a read of one
 * byte works too (tmpfs, a file that begins with a hole, an empty one) or none at all, it is the
 * safe one.
 */
export function probeRequestAlignment(fd: number): number {
  if (readsAt(fd, 1)) return SAFE_ALIGNMENT;
  return ALIGNMENTS.find((alignment) => readsAt(fd, alignment)) ?? SAFE_ALIGNMENT;
}

let probeBuffer: Uint8Array | undefined;

function readsAt(fd: number, length: number): boolean {
  probeBuffer ??= lastingPages(PAGE_SIZE);
  try {
    readSync(fd, probeBuffer, 0, length, 0);
    return true;
  } catch (error) {
    if (systemCode(error) === 'EINVAL') return false;
    throw error;
  }
}
