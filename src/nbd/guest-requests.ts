/**
 * The requests of NBD clients as requests of a guest: in whole sectors, each recorded as it is
 * issued.
 *
 * Invariants: what is recorded is what the image was asked, no more and no less; on an image that
 * answers at once every method does too.
 */

import type { Pending } from '../core/pending.ts';
import type { BlockBackend } from '../format/block-backend.ts';
import type { OpenRequest, Recorder } from './recorder.ts';

interface Flags {
  readonly fua: boolean;
}

interface ZeroFlags extends Flags {
  readonly unmap: boolean;
}

const NO_FLAGS = { fua: false, unmap: false };
const NOWHERE = { offset: 0, length: 0 };

/** Every method throws or rejects as `BlockBackend` does. */
export class GuestRequests {
  readonly backend: BlockBackend;
  readonly #recorder: Recorder | undefined;

  constructor(backend: BlockBackend, recorder?: Recorder) {
    this.backend = backend;
    this.#recorder = recorder;
  }

  read(offset: number, target: Uint8Array): Pending {
    const range = { offset, length: target.byteLength };
    const request = this.#recorder?.begin('read', range, NO_FLAGS);
    return this.#recorded(request, () => this.backend.read(offset, target));
  }

  write(offset: number, bytes: Uint8Array, { fua }: Flags): Pending {
    const range = { offset, length: bytes.byteLength };
    const request = this.#recorder?.begin('write', range, { fua, unmap: false });
    return this.#recorded(request, () => this.backend.write(offset, bytes, { fua }));
  }

  writeZeroes(offset: number, length: number, flags: ZeroFlags): Pending {
    const request = this.#recorder?.begin('write-zeroes', { offset, length }, flags);
    return this.#recorded(request, () => this.backend.writeZeroes(offset, length, flags));
  }

  discard(offset: number, length: number): Pending {
    const request = this.#recorder?.begin('discard', { offset, length }, NO_FLAGS);
    return this.#recorded(request, () => this.backend.discard(offset, length));
  }

  flush(): Pending {
    const request = this.#recorder?.begin('flush', NOWHERE, NO_FLAGS);
    return this.#recorded(request, () => this.backend.flush());
  }

  #recorded(request: OpenRequest | undefined, issue: () => Pending): Pending {
    if (request === undefined || this.#recorder === undefined) return issue();
    let pending: Pending;
    try {
      pending = issue();
    } catch (error) {
      // It waits for nothing itself; those behind it that it held back are few.
      void this.#recorder.end(request, 'failed');
      throw error;
    }
    return pending === undefined
      ? this.#recorder.end(request, 'done')
      : this.#recordLater(this.#recorder, request, pending);
  }

  async #recordLater(recorder: Recorder, request: OpenRequest, pending: Promise<void>): Promise<void> {
    try {
      await pending;
    } catch (error) {
      await recorder.end(request, 'failed');
      throw error;
    }
    await recorder.end(request, 'done');
  }
}
