/**
 * Writing zeroes as data, for ranges where no shorter way to say it exists.
 *
 * Invariant: the buffer of zeroes is shared and never written to; it is page memory, so that
 * O_DIRECT takes it, and grows to the largest piece asked for: `LIMITS.transferBytes`, or a
 * format's largest cluster.
 */

import { LIMITS } from '../core/limits.ts';
import type { HostOffset } from '../core/offsets.ts';
import { lastingPages } from '../core/page-memory.ts';
import type { Pending } from '../core/pending.ts';
import type { BlockDevice } from '../device/block-device.ts';
import type { Purpose } from '../device/purpose.ts';
import { zeroWithoutWriting } from '../device/zeroing.ts';

let zeroes: Uint8Array = new Uint8Array(0);

/** A view of `length` zero bytes; read-only by agreement. */
export function zeroBytes(length: number): Uint8Array {
  if (zeroes.byteLength < length) zeroes = lastingPages(length);
  return zeroes.byteLength === length ? zeroes : zeroes.subarray(0, length);
}

/**
 * Writes `length` bytes of zeroes as data, in one write unless it exceeds `LIMITS.transferBytes`.
 */
export function writeRealZeroes(
  device: BlockDevice,
  hostOffset: HostOffset,
  length: number,
  purpose: Purpose = 'data',
): Pending {
  let done = 0;
  while (done < length) {
    const part = Math.min(length - done, LIMITS.transferBytes);
    const pending = device.write(hostOffset + done, zeroBytes(part), purpose);
    done += part;
    if (pending !== undefined) return continueZeroes(pending, { device, hostOffset, length, done, purpose });
  }
  return undefined;
}

/** Zeroes a range in the shortest way that the device has; written zeroes are the last. */
export function zeroOrWrite(
  device: BlockDevice,
  hostOffset: HostOffset,
  length: number,
  { purpose, mayUnmap }: { readonly purpose: Purpose; readonly mayUnmap: boolean },
): Pending {
  const isDone = zeroWithoutWriting(device, hostOffset, length, purpose, mayUnmap);
  if (isDone === true) return undefined;
  if (isDone === false) return writeRealZeroes(device, hostOffset, length, purpose);
  return isDone.then((done) => (done ? undefined : writeRealZeroes(device, hostOffset, length, purpose)));
}

async function continueZeroes(
  pending: Promise<void>,
  rest: {
    readonly device: BlockDevice;
    readonly hostOffset: HostOffset;
    readonly length: number;
    readonly done: number;
    readonly purpose: Purpose;
  },
): Promise<void> {
  await pending;
  await writeRealZeroes(rest.device, rest.hostOffset + rest.done, rest.length - rest.done, rest.purpose);
}
