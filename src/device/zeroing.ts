/**
 * Zeroing a range of a file without writing it, and giving a range back, on whatever a file system
 * offers.
 *
 * The order is QEMU's (7.2, seen with strace on ext4, tmpfs and FUSE):
 *
 *      zeroes to keep:     zero-range → hole, then the space reserved again → past the end, space reserved → none
 *      zeroes, may unmap:  hole → as above
 *      discard:            hole → none, and that is no error
 *
 * Invariants:
 * - Only what the system calls unsupported or invalid here is passed over; a full disk is an error.
 * - Nothing is written: where no operation does it, the answer is false, and the caller decides.
 */

import type { Pending } from '../core/pending.ts';
import type { BlockDevice } from './block-device.ts';
import { hostCode, isUnsupported } from './host-error.ts';
import type { Purpose } from './purpose.ts';

/**
 * Makes the range read as zeroes, by allocation alone; grows the file if it ends past it.
 *
 * @param mayUnmap the space may be given back as well
 * @returns false where nothing here does that; the range is then as it was, or zero in part.
 */
export function zeroWithoutWriting(
  device: BlockDevice,
  offset: number,
  length: number,
  purpose: Purpose,
  mayUnmap = false,
): boolean | Promise<boolean> {
  if (!(mayUnmap ? device.canPunchHole : device.canZeroRange)) {
    return zeroOtherwise({ device, offset, length, purpose }, mayUnmap);
  }
  let pending: Pending;
  try {
    pending = mayUnmap
      ? device.punchHole(offset, length, purpose, true)
      : device.zeroRange(offset, length, purpose);
  } catch (error) {
    if (isPassedOver(error)) return zeroOtherwise({ device, offset, length, purpose }, mayUnmap);
    throw error;
  }
  return pending === undefined ? true : zeroAfter(pending, { device, offset, length, purpose }, mayUnmap);
}

/**
 * Gives the range back to the file system where it takes it; an unsupported hole leaves the range
 * as it is.
 */
export function discardRange(device: BlockDevice, offset: number, length: number, purpose: Purpose): Pending {
  if (!device.canPunchHole) {
    device.noteChange();
    return undefined;
  }
  let pending: Pending;
  try {
    pending = device.punchHole(offset, length, purpose);
  } catch (error) {
    if (isUnsupported(error)) return undefined;
    throw error;
  }
  return pending?.catch((error: unknown) => {
    if (!isUnsupported(error)) throw error;
  });
}

interface Range {
  readonly device: BlockDevice;
  readonly offset: number;
  readonly length: number;
  readonly purpose: Purpose;
}

async function zeroAfter(pending: Promise<void>, range: Range, mayUnmap: boolean): Promise<boolean> {
  return (await attempt(() => pending)) || zeroOtherwise(range, mayUnmap);
}

/** What follows the first choice. */
async function zeroOtherwise(range: Range, mayUnmap: boolean): Promise<boolean> {
  const { device, offset, length, purpose } = range;
  if (mayUnmap && device.canZeroRange) {
    if (await attempt(() => device.zeroRange(offset, length, purpose))) return true;
  }
  return zeroByHole(range);
}

async function zeroByHole({ device, offset, length, purpose }: Range): Promise<boolean> {
  const reserve = (): Promise<boolean> => attempt(() => device.reserve(offset, length, purpose));
  if (device.canPunchHole && device.canReserve) {
    const isPunched = await attempt(() => device.punchHole(offset, length, purpose, true));
    if (isPunched && (await reserve())) return true;
  }
  return device.canReserve && offset >= device.size() && (await reserve());
}

/** Whether the operation was done; false where it is not supported, or not with these arguments. */
async function attempt(operation: () => Pending): Promise<boolean> {
  try {
    await operation();
    return true;
  } catch (error) {
    if (isPassedOver(error)) return false;
    throw error;
  }
}

function isPassedOver(error: unknown): boolean {
  return isUnsupported(error) || hostCode(error) === 'EINVAL';
}
