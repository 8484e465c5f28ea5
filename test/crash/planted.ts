/** Faults of an engine, each as a filter around the recorded file: what a crash must bring out. */

import { after, type Pending } from '../../src/core/pending.ts';
import type { BlockDevice, Elision, FileGrowth, WritePart } from '../../src/device/block-device.ts';
import { DeviceFilter } from '../../src/device/filter.ts';
import type { Purpose, SyncCause } from '../../src/device/purpose.ts';
import type { Operation, Recording } from '../../src/crash/recording.ts';

/** Passes over every sync with one of these causes. */
export class DropsSyncs extends DeviceFilter {
  readonly #causes: readonly SyncCause[];

  constructor(inner: BlockDevice, ...causes: readonly SyncCause[]) {
    super(inner);
    this.#causes = causes;
  }

  override sync(cause: SyncCause, elision?: Elision): Pending {
    return this.#causes.includes(cause) ? undefined : this.inner.sync(cause, elision);
  }
}

/** Never sets the dirty bit, as if forgotten. */
export class ForgetsDirtyBit extends DeviceFilter {
  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    return purpose === 'header' && bytes.byteLength === 8
      ? undefined
      : this.inner.write(offset, bytes, purpose, from, to);
  }
}

/** Writes of a purpose come only when the next sync is over: behind what needs them. */
export class Postpones extends DeviceFilter {
  readonly #purpose: Purpose;
  readonly #postponed: (() => Pending)[] = [];

  constructor(inner: BlockDevice, purpose: Purpose) {
    super(inner);
    this.#purpose = purpose;
  }

  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    if (purpose !== this.#purpose) return this.inner.write(offset, bytes, purpose, from, to);
    const copy = bytes.slice();
    this.#postponed.push(() => this.inner.write(offset, copy, purpose, undefined, undefined));
    return undefined;
  }

  override sync(cause: SyncCause, elision?: Elision): Pending {
    const pending = this.inner.sync(cause, elision);
    return pending === undefined ? this.#catchUp() : after(pending, () => this.#catchUp());
  }

  #catchUp(): Pending {
    for (let write = this.#postponed.shift(); write !== undefined; write = this.#postponed.shift()) {
      const pending = write();
      if (pending !== undefined) return after(pending, () => this.#catchUp());
    }
    return undefined;
  }
}

/** Answers a sync at once and does it at the next operation. */
export class AnswersEarly extends DeviceFilter {
  #owed: SyncCause | undefined;

  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    const pending = this.inner.write(offset, bytes, purpose, from, to);
    this.#settle();
    return pending;
  }

  override writeMerged(offset: number, parts: readonly WritePart[]): Pending {
    const pending = this.inner.writeMerged(offset, parts);
    this.#settle();
    return pending;
  }

  override sync(cause: SyncCause): Pending {
    this.#settle();
    this.#owed = cause;
    return undefined;
  }

  #settle(): void {
    if (this.#owed === undefined) return;
    void this.inner.sync(this.#owed, undefined);
    this.#owed = undefined;
  }
}

/** Below the recording: a sync of a guest's flush that fails, once. */
export class FailsOnce extends DeviceFilter {
  #hasFailed = false;

  override sync(cause: SyncCause, elision?: Elision): Pending {
    if (this.#hasFailed || cause !== 'guest-flush') return this.inner.sync(cause, elision);
    this.#hasFailed = true;
    throw new Error('EIO');
  }
}

/** Above the recording: says that a sync succeeded which failed. */
export class HidesFailures extends DeviceFilter {
  override sync(cause: SyncCause, elision?: Elision): Pending {
    try {
      return this.inner.sync(cause, elision);
    } catch {
      return undefined;
    }
  }
}

/** Refcounts of what a snapshot shares are written only when the header leads to the snapshot. */
export class ListsSnapshotsEarly extends DeviceFilter {
  #held: (() => Pending)[] | undefined;

  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    // A whole table is the copy for a snapshot; growing tables are written entry by entry.
    if (purpose === 'l1-table' && bytes.byteLength > 8) this.#held ??= [];
    if (this.#held !== undefined && purpose === 'refcount-block') {
      const copy = bytes.slice();
      this.#held.push(() => this.inner.write(offset, copy, purpose, undefined, undefined));
      return undefined;
    }
    const pending = this.inner.write(offset, bytes, purpose, from, to);
    if (purpose !== 'header') return pending;
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const write of held) void write();
    return pending;
  }
}

/**
 * Punches each hole together with the L1 table whose change frees the place, and not when that is
 * durable.
 */
export class PunchesEarly extends DeviceFilter {
  readonly #holes: ReadonlyMap<number, readonly Operation[]>;
  #tables = 0;

  /** @param faultless the same run without the fault, which knows the holes beforehand */
  constructor(inner: BlockDevice, { operations }: Recording) {
    super(inner);
    let tables = 0;
    const holes = new Map<number, Operation[]>();
    for (const operation of operations) {
      const list = holes.get(tables) ?? [];
      if (operation.purpose === 'l1-table') tables++;
      else if (operation.op === 'punch-hole') holes.set(tables, [...list, operation]);
    }
    this.#holes = holes;
  }

  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    const pending = this.inner.write(offset, bytes, purpose, from, to);
    if (purpose !== 'l1-table') return pending;
    for (const hole of this.#holes.get(++this.#tables) ?? []) {
      void this.inner.punchHole(hole.offset, hole.length, hole.purpose, undefined);
    }
    return pending;
  }
}

/** Puts every copied flag of the active L1 table in place, as if no snapshot shared its tables. */
export class StaleFlags extends DeviceFilter {
  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    if (purpose !== 'l1-table') return this.inner.write(offset, bytes, purpose, from, to);
    const stale = bytes.slice();
    for (let at = 0; at < stale.byteLength; at += 8) {
      if (stale.subarray(at, at + 8).some((byte) => byte !== 0)) stale[at] = 0x80;
    }
    return this.inner.write(offset, stale, purpose, from, to);
  }
}

/** L2 tables without the lost part of a disk reach the file behind its new end. */
export class CutsEarly extends DeviceFilter {
  readonly #held: (() => Pending)[] = [];
  /** Since a hole was punched, as in the part that goes. */
  #isCutting = false;

  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    if (purpose !== 'l2-table' || !this.#isCutting) {
      return this.inner.write(offset, bytes, purpose, from, to);
    }
    const copy = bytes.slice();
    this.#held.push(() => this.inner.write(offset, copy, purpose, undefined, undefined));
    return undefined;
  }

  override sync(cause: SyncCause, elision?: Elision): Pending {
    // As in QEMU, which may keep them in its cache until the end of a shrink.
    if (this.#isCutting && (cause === 'refcount-after-l2' || cause === 'l1-growth')) return undefined;
    this.#release();
    return this.inner.sync(cause, elision);
  }

  override truncate(size: number, purpose: Purpose, growth?: FileGrowth): Pending {
    const pending = this.inner.truncate(size, purpose, growth);
    this.#release();
    return pending;
  }

  override punchHole(offset: number, length: number, purpose: Purpose, isZeroWrite?: boolean): Pending {
    this.#isCutting = true;
    return this.inner.punchHole(offset, length, purpose, isZeroWrite);
  }

  #release(): void {
    this.#isCutting = false;
    for (const write of this.#held.splice(0)) void write();
  }
}

/** A repair that does not restore the length that a file had before its tail was lost. */
export class ForgetsLostTail extends DeviceFilter {
  override truncate(size: number, purpose: Purpose, growth?: FileGrowth): Pending {
    return size > this.inner.size() ? undefined : this.inner.truncate(size, purpose, growth);
  }
}
