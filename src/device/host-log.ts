/**
 * The filter that reports every host operation in the order of issue, as records of the host log
 * (`--host-log`, one JSON object a line). It is below `SyncElision`: an elided sync is no
 * operation. Neither is a reservation, which writes nothing; the meter does not count it either.
 */

import type { Pending } from '../core/pending.ts';
import type { BlockDevice, Elision, FileGrowth, WritePart } from './block-device.ts';
import { DeviceFilter } from './filter.ts';
import { mergedLength, mergedPurpose } from './merged-write.ts';
import type { HostOp, Phase, PhaseSource } from './operation.ts';
import type { Purpose, SyncCause } from './purpose.ts';

/** What a guest asked for; offset and length in bytes, none of a flush. */
export interface GuestRequest {
  readonly op: string;
  readonly offset?: number;
  readonly length?: number;
  readonly fua?: true;
}

interface RecordOrigin {
  readonly phase: Phase;
  /** Number of the guest request that it was issued for, from 0; absent at open and close. */
  readonly request?: number;
  /** That request; only in the first record of each. */
  readonly guest?: GuestRequest;
}

/** An operation on a range. `offset` and `length` in bytes; for a truncate the new size and 0. */
export interface RangeRecord extends RecordOrigin {
  readonly op: Exclude<HostOp, 'sync'>;
  /** `image`, `data` or `backing:N`. */
  readonly file: string;
  readonly offset: number;
  readonly length: number;
  readonly purpose: Purpose;
  /** Of a merged write: purpose and bytes of each part, in order. */
  readonly parts?: readonly (readonly [Purpose, number])[];
}

export interface SyncRecord extends RecordOrigin {
  readonly op: 'sync';
  readonly file: string;
  readonly cause: SyncCause;
}

export type HostLogRecord = RangeRecord | SyncRecord;
export type HostLogSink = (record: HostLogRecord) => void;

export interface HostLogOptions {
  readonly phases: PhaseSource;
  readonly sink: HostLogSink;
}

export class HostLog extends DeviceFilter {
  readonly #phases: PhaseSource;
  readonly #sink: HostLogSink;

  constructor(inner: BlockDevice, options: HostLogOptions) {
    super(inner);
    this.#phases = options.phases;
    this.#sink = options.sink;
  }

  override read(offset: number, target: Uint8Array, purpose: Purpose): Pending {
    this.#tell('read', offset, target.byteLength, purpose);
    return this.inner.read(offset, target, purpose);
  }

  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    this.#tell('write', offset, bytes.byteLength, purpose);
    return this.inner.write(offset, bytes, purpose, from, to);
  }

  override writeMerged(offset: number, parts: readonly WritePart[]): Pending {
    this.#sink({
      phase: this.#phases.phase,
      op: 'write',
      file: this.label,
      offset,
      length: mergedLength(parts),
      purpose: mergedPurpose(parts),
      parts: parts.map((part) => [part.purpose, part.bytes.byteLength] as const),
    });
    return this.inner.writeMerged(offset, parts);
  }

  override zeroRange(offset: number, length: number, purpose: Purpose): Pending {
    this.#tell('zero-range', offset, length, purpose);
    return this.inner.zeroRange(offset, length, purpose);
  }

  override punchHole(offset: number, length: number, purpose: Purpose, isZeroWrite?: boolean): Pending {
    this.#tell('punch-hole', offset, length, purpose);
    return this.inner.punchHole(offset, length, purpose, isZeroWrite);
  }

  override truncate(size: number, purpose: Purpose, growth?: FileGrowth): Pending {
    this.#tell('truncate', size, 0, purpose);
    return this.inner.truncate(size, purpose, growth);
  }

  override sync(cause: SyncCause, elision?: Elision): Pending {
    this.#sink({ phase: this.#phases.phase, op: 'sync', file: this.label, cause });
    return this.inner.sync(cause, elision);
  }

  #tell(op: RangeRecord['op'], offset: number, length: number, purpose: Purpose): void {
    this.#sink({ phase: this.#phases.phase, op, file: this.label, offset, length, purpose });
  }
}
