/**
 * How QEMU makes a file longer and takes space for it, in the operations that our log has for the
 * same.
 */

import type { Preallocation } from '../../src/format/image-shape.ts';
import type { HostOperation } from '../../src/peer/host-operation.ts';

/** `operations` with each growth as one truncate. */
export function withOneGrowth(
  operations: readonly HostOperation[],
  preallocation: Preallocation,
): readonly HostOperation[] {
  return operations.flatMap((operation, index): readonly HostOperation[] => {
    const { op, offset, length } = operation;
    if (op === 'allocate') return [{ ...operation, op: 'truncate', offset: offset + length, length: 0 }];
    // Filling a file with zeroes is one operation of ours, the fsync at its end included.
    const isOfFill = op === 'sync' && operations[index - 1]?.op === 'truncate';
    return preallocation === 'full' && isOfFill ? [] : [operation];
  });
}
