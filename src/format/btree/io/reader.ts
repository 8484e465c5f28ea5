/** Guest reads, extent by extent. A read that never waits makes no promise. */

import type { GuestOffset } from '../../../core/offsets.ts';
import { after, type Pending } from '../../../core/pending.ts';
import type { Purpose } from '../../../device/purpose.ts';
import { readFromBacking } from '../../backing-read.ts';
import { BLOCK_SIZE, NO_EXTENT, ZERO_EXTENT } from '../on-disk/layout.ts';
import type { ImageCore } from '../tree/image-core.ts';

export class Reader {
  readonly #core: ImageCore;
  readonly #purpose: Purpose;

  constructor(core: ImageCore, purpose: Purpose) {
    this.#core = core;
    this.#purpose = purpose;
  }

  read(guestOffset: GuestOffset, target: Uint8Array): Pending {
    const pending = this.#read(guestOffset, target, 0);
    return pending === undefined ? undefined : this.#core.space.whileInFlight(pending);
  }

  #read(guestOffset: GuestOffset, target: Uint8Array, from: number): Pending {
    const { tree } = this.#core;
    const length = target.byteLength;
    let done = from;
    while (done < length) {
      const at = guestOffset + done;
      const block = Math.floor(at / BLOCK_SIZE);
      const into = at - block * BLOCK_SIZE;
      let pending = tree.find(block);
      if (pending === undefined) {
        const part = Math.min(length - done, tree.foundBlocks * BLOCK_SIZE - into);
        pending = this.#readPart(at, into, part === length ? target : target.subarray(done, done + part));
        done += part;
      }
      if (pending !== undefined) return after(pending, this.#read.bind(this, guestOffset, target, done));
    }
    return undefined;
  }

  /** What `find` has just found. */
  #readPart(guestOffset: GuestOffset, into: number, target: Uint8Array): Pending {
    const { tree, device, backing } = this.#core;
    const host = tree.foundHost;
    if (host === NO_EXTENT) return readFromBacking(backing, guestOffset, target);
    if (host !== ZERO_EXTENT) return device.read(host * BLOCK_SIZE + into, target, this.#purpose);
    target.fill(0);
    return undefined;
  }
}
