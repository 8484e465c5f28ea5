/**
 * The filter that makes operations fail as a full disk or a broken one does, by a rule given in.
 *
 * Invariants: an operation that is made to fail does not reach the device below. The error is the
 * one a host file gives. After a sync that failed, every later one fails too, whatever the rule
 * says.
 */

import type { Pending } from '../core/pending.ts';
import type { BlockDevice, Elision, FileGrowth, WritePart } from './block-device.ts';
import { DeviceFilter } from './filter.ts';
import { hostError, systemError, type HostErrorCode } from './host-error.ts';
import { mergedLength, mergedPurpose } from './merged-write.ts';
import type { HostOp } from './operation.ts';
import type { Purpose, SyncCause } from './purpose.ts';

/** Reserving space is no counted operation, but it can fail as any. */
export type FaultOp = HostOp | 'reserve';

/** The operation about to be issued. */
export interface FaultEvent {
  readonly op: FaultOp;
  /** Bytes; for a truncate the new size; 0 for a sync. */
  readonly offset: number;
  readonly length: number;
  /** Undefined for a sync. */
  readonly purpose: Purpose | undefined;
  /** Undefined for anything but a sync. */
  readonly cause: SyncCause | undefined;
  /** How many operations of the same `op` came before, on this device. */
  readonly opIndex: number;
  /** How many operations of any kind came before, on this device. */
  readonly index: number;
}

/**
 * The system's code of the error that the operation ends with, such as `ENOSPC` or `EIO`;
 * `undefined` lets it pass.
 */
export type FaultRule = (event: FaultEvent) => string | undefined;

const CALLS: Readonly<Record<FaultOp, { readonly code: HostErrorCode; readonly syscall: string }>> = {
  read: { code: 'host-read-failed', syscall: 'read' },
  write: { code: 'host-write-failed', syscall: 'write' },
  'zero-range': { code: 'host-zero-range-failed', syscall: 'fallocate' },
  'punch-hole': { code: 'host-punch-hole-failed', syscall: 'fallocate' },
  reserve: { code: 'host-reserve-failed', syscall: 'fallocate' },
  truncate: { code: 'host-truncate-failed', syscall: 'ftruncate' },
  sync: { code: 'host-sync-failed', syscall: 'fdatasync' },
};

export class FaultDevice extends DeviceFilter {
  readonly #rule: FaultRule;
  readonly #counts = new Map<FaultOp, number>();
  #index = 0;
  #syncFailure: Error | undefined;

  constructor(inner: BlockDevice, rule: FaultRule) {
    super(inner);
    this.#rule = rule;
  }

  override read(offset: number, target: Uint8Array, purpose: Purpose): Pending {
    this.#judge('read', { offset, length: target.byteLength, purpose });
    return this.inner.read(offset, target, purpose);
  }

  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    this.#judge('write', { offset, length: bytes.byteLength, purpose });
    return this.inner.write(offset, bytes, purpose, from, to);
  }

  override writeMerged(offset: number, parts: readonly WritePart[]): Pending {
    this.#judge('write', { offset, length: mergedLength(parts), purpose: mergedPurpose(parts) });
    return this.inner.writeMerged(offset, parts);
  }

  override zeroRange(offset: number, length: number, purpose: Purpose): Pending {
    this.#judge('zero-range', { offset, length, purpose });
    return this.inner.zeroRange(offset, length, purpose);
  }

  override punchHole(offset: number, length: number, purpose: Purpose, isZeroWrite?: boolean): Pending {
    this.#judge('punch-hole', { offset, length, purpose });
    return this.inner.punchHole(offset, length, purpose, isZeroWrite);
  }

  override reserve(offset: number, length: number, purpose: Purpose): Pending {
    this.#judge('reserve', { offset, length, purpose });
    return this.inner.reserve(offset, length, purpose);
  }

  override truncate(size: number, purpose: Purpose, growth?: FileGrowth): Pending {
    this.#judge('truncate', { offset: size, length: 0, purpose });
    return this.inner.truncate(size, purpose, growth);
  }

  override sync(cause: SyncCause, elision?: Elision): Pending {
    if (this.#syncFailure !== undefined) throw this.#syncFailure;
    try {
      this.#judge('sync', { offset: 0, length: 0, cause });
    } catch (error) {
      if (error instanceof Error) this.#syncFailure = error;
      throw error;
    }
    return this.inner.sync(cause, elision);
  }

  #judge(
    op: FaultOp,
    what: {
      readonly offset: number;
      readonly length: number;
      readonly purpose?: Purpose;
      readonly cause?: SyncCause;
    },
  ): void {
    const opIndex = this.#counts.get(op) ?? 0;
    this.#counts.set(op, opIndex + 1);
    const { offset, length, purpose, cause } = what;
    const system = this.#rule({ op, offset, length, purpose, cause, opIndex, index: this.#index++ });
    if (system === undefined) return;
    const { code, syscall } = CALLS[op];
    const place = op === 'sync' ? { path: this.path } : { path: this.path, offset };
    throw hostError(code, place, systemError(system, syscall));
  }
}
