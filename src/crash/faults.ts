/**
 * Faults of the host in a recorded run: one operation fails, in turn each of them, and the guest goes
 * on with its further requests.
 *
 * Invariants:
 * - An operation that failed did nothing, but a short write, of which the first half is there.
 * - After a sync that failed, every later one of that file fails too, as those of a host file do;
 *   what it was to cover stays pending for good.
 * - A fault is named by the request in whose course its operation is issued, and by the number of
 *   that operation there: it is the same in every run of the same requests.
 */

import { alignDown, SECTOR_SIZE } from '../core/alignment.ts';
import type { Pending } from '../core/pending.ts';
import type { BlockDevice, WritePart } from '../device/block-device.ts';
import { FaultDevice, type FaultOp } from '../device/fault.ts';
import { DeviceFilter } from '../device/filter.ts';
import { hostError, systemError } from '../device/host-error.ts';
import { joinedParts, mergedPurpose } from '../device/merged-write.ts';
import type { Purpose } from '../device/purpose.ts';

export const FAULT_KINDS = ['io-error', 'no-space', 'short-write', 'failed-sync'] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

/** The part of a run in which an operation is issued: a request by its index, or around them. */
export type FaultPart = number | 'open' | 'close';

export interface Fault {
  readonly kind: FaultKind;
  readonly part: FaultPart;
  /** Of the operations of that part, from 0; of a short write: of its writes. */
  readonly nth: number;
}

const KINDS_OF: Readonly<Record<FaultOp, readonly FaultKind[]>> = {
  read: ['io-error'],
  write: ['io-error', 'no-space', 'short-write'],
  'zero-range': ['io-error', 'no-space'],
  'punch-hole': ['io-error'],
  reserve: ['no-space'],
  truncate: ['io-error', 'no-space'],
  sync: ['failed-sync'],
};

/** In words. */
export function faultText({ kind, part, nth }: Fault): string {
  const where = typeof part === 'number' ? `request ${String(part)}` : `the ${part}`;
  const what = {
    'io-error': 'EIO at operation',
    'no-space': 'ENOSPC at operation',
    'short-write': 'ENOSPC in the middle of write',
    'failed-sync': 'EIO of a sync, operation',
  }[kind];
  return `${what} ${String(nth)} of ${where}`;
}

/** Makes one operation of a run fail, or none, and notes which operations there are. */
export class FaultInjector {
  /** Whether the fault has come to pass. */
  hasStruck = false;
  /** Every fault that the run can have, in order. */
  readonly possible: Fault[] = [];
  readonly #fault: Fault | undefined;
  readonly #operations = new Map<FaultPart, number>();
  readonly #writes = new Map<FaultPart, number>();

  constructor(fault?: Fault) {
    this.#fault = fault;
  }

  /**
   * Around the bare file, below what is recorded.
   *
   * @param part answers in which part of the run an operation is issued
   */
  below(device: BlockDevice, part: () => FaultPart): BlockDevice {
    return new FaultDevice(device, ({ op }) => this.#judge(op, part()));
  }

  /** Above what is recorded, so that a recording has the half that a short write wrote. */
  above(device: BlockDevice, part: () => FaultPart): BlockDevice {
    return new ShortWrites(device, () => this.#isShort(part()));
  }

  #judge(op: FaultOp, part: FaultPart): string | undefined {
    const nth = countUp(this.#operations, part);
    for (const kind of KINDS_OF[op]) if (kind !== 'short-write') this.possible.push({ kind, part, nth });
    const fault = this.#fault;
    if (fault === undefined || fault.kind === 'short-write') return undefined;
    if (fault.part !== part || fault.nth !== nth) return undefined;
    this.hasStruck = true;
    return fault.kind === 'no-space' ? 'ENOSPC' : 'EIO';
  }

  #isShort(part: FaultPart): boolean {
    const nth = countUp(this.#writes, part);
    this.possible.push({ kind: 'short-write', part, nth });
    const fault = this.#fault;
    if (fault?.kind !== 'short-write' || fault.part !== part || fault.nth !== nth) return false;
    this.hasStruck = true;
    return true;
  }
}

function countUp(counts: Map<FaultPart, number>, part: FaultPart): number {
  const count = counts.get(part) ?? 0;
  counts.set(part, count + 1);
  return count;
}

class ShortWrites extends DeviceFilter {
  readonly #isShort: () => boolean;

  constructor(inner: BlockDevice, isShort: () => boolean) {
    super(inner);
    this.#isShort = isShort;
  }

  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    return this.#isShort()
      ? this.#writeHalf(offset, bytes, purpose)
      : this.inner.write(offset, bytes, purpose, from, to);
  }

  override writeMerged(offset: number, parts: readonly WritePart[]): Pending {
    return this.#isShort()
      ? this.#writeHalf(offset, joinedParts(parts), mergedPurpose(parts))
      : this.inner.writeMerged(offset, parts);
  }

  async #writeHalf(offset: number, bytes: Uint8Array, purpose: Purpose): Promise<never> {
    const half = alignDown(Math.floor(bytes.byteLength / 2), SECTOR_SIZE);
    if (half > 0) await this.inner.write(offset, bytes.subarray(0, half), purpose, undefined, undefined);
    throw hostError('host-write-failed', { path: this.path, offset }, systemError('ENOSPC', 'write'));
  }
}
