/**
 * A filter that answers every request late, in the order it was asked or, on request, when the test
 * lets it: what a device with real overlap looks like to the filters above it.
 */

import type { Pending } from '../../src/core/pending.ts';
import type { Elision, FileGrowth, WritePart } from '../../src/device/block-device.ts';
import { DeviceFilter } from '../../src/device/filter.ts';
import type { Purpose, SyncCause } from '../../src/device/purpose.ts';

export class SlowDevice extends DeviceFilter {
  /** Requests in the order in which they began, as `op offset length`. */
  readonly begun: string[] = [];
  /** Resolves before a request is done below; the test may put a gate here. */
  gate: () => Promise<void> = async () => {
    await new Promise((resolve) => setImmediate(resolve));
  };

  override read(offset: number, target: Uint8Array, purpose: Purpose): Pending {
    return this.#later(`read ${String(offset)} ${String(target.byteLength)}`, () =>
      this.inner.read(offset, target, purpose),
    );
  }

  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    return this.#later(`write ${String(offset)} ${String(bytes.byteLength)}`, () =>
      this.inner.write(offset, bytes, purpose, from, to),
    );
  }

  override writeMerged(offset: number, parts: readonly WritePart[]): Pending {
    return this.#later(`merged ${String(offset)}`, () => this.inner.writeMerged(offset, parts));
  }

  override zeroRange(offset: number, length: number, purpose: Purpose): Pending {
    return this.#later(`zero ${String(offset)} ${String(length)}`, () =>
      this.inner.zeroRange(offset, length, purpose),
    );
  }

  override punchHole(offset: number, length: number, purpose: Purpose, isZeroWrite?: boolean): Pending {
    return this.#later(`punch ${String(offset)} ${String(length)}`, () =>
      this.inner.punchHole(offset, length, purpose, isZeroWrite),
    );
  }

  override truncate(size: number, purpose: Purpose, growth?: FileGrowth): Pending {
    return this.#later(`truncate ${String(size)}`, () => this.inner.truncate(size, purpose, growth));
  }

  override sync(cause: SyncCause, elision?: Elision): Pending {
    return this.#later('sync', () => this.inner.sync(cause, elision));
  }

  async #later(what: string, work: () => Pending): Promise<void> {
    this.begun.push(what);
    await this.gate();
    await work();
  }
}
