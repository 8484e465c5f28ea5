/** Faults of an engine, each as a filter around the recorded file: what a crash must bring out. */

import { after, type Pending } from '../../src/core/pending.ts';
import type { BlockDevice, Elision, WritePart } from '../../src/device/block-device.ts';
import { DeviceFilter } from '../../src/device/filter.ts';
import type { Purpose, SyncCause } from '../../src/device/purpose.ts';

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
