/**
 * A host file whose operations are in flight at once: what may wait for the disk goes through
 * libuv's threads, so that requests in flight overlap for real, as they do in QEMU's thread pool.
 *
 * Handing an operation to a thread costs 15 to 30 µs of processor time. A buffered write of a cluster
 * is a copy into the page cache of 3 µs and a buffered zero-range a note in memory; both are done at
 * once, as there is nothing to overlap. Large writes, syncs, reads, holes and everything under O_DIRECT
 * go to the threads.
 *
 * Invariants:
 * - As `HostFile`: one request is one system call but for what the system does short, nothing is
 *   served buffered under O_DIRECT, and after one failed sync every later one fails.
 * - A request's memory is its own until it is done: what O_DIRECT cannot take as it is gets a
 *   bounce buffer each.
 * - The file has grown when the operation that grows it is done.
 */

import { fdatasync, read, write } from 'node:fs';

import { allocatePages, isPageMemory } from '../core/page-memory.ts';
import type { Pending } from '../core/pending.ts';
import type { WritePart } from './block-device.ts';
import { loadFallocate, type AsyncFallocate } from './fallocate.ts';
import { DeviceFilter } from './filter.ts';
import { hostError, type HostErrorCode } from './host-error.ts';
import type { HostFile } from './host-file.ts';
import { gatherParts, mergedLength } from './merged-write.ts';
import type { Purpose, SyncCause } from './purpose.ts';

/** Bytes of a buffered write from which on the copy takes longer than handing it to a thread. */
const LARGE_WRITE = 256 * 1024;

export class OverlappedFile extends DeviceFilter {
  readonly #file: HostFile;
  readonly #fallocate: AsyncFallocate | undefined;
  #syncFailure: unknown;

  constructor(file: HostFile) {
    super(file);
    this.#file = file;
    const binding = loadFallocate();
    this.#fallocate = binding.ok ? binding.inThread : undefined;
  }

  override read(offset: number, target: Uint8Array, _purpose: Purpose): Promise<void> {
    this.#file.checkRequest(offset, target.byteLength);
    if (this.#takes(target)) return this.#readFully(offset, target);
    return this.#readBounced(offset, target);
  }

  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    if (!this.#file.isDirect && bytes.byteLength < LARGE_WRITE) {
      return super.write(offset, bytes, purpose, from, to);
    }
    this.#file.checkRequest(offset, bytes.byteLength);
    return this.#writeFully(offset, this.#takes(bytes) ? bytes : bounced(bytes));
  }

  override writeMerged(offset: number, parts: readonly WritePart[]): Pending {
    if (!this.#file.isDirect) return super.writeMerged(offset, parts);
    const length = mergedLength(parts);
    this.#file.checkRequest(offset, length);
    const whole = allocatePages(length);
    gatherParts(parts, whole);
    return this.#writeFully(offset, whole);
  }

  override zeroRange(offset: number, length: number, purpose: Purpose): Pending {
    if (!this.#file.isDirect || this.#fallocate === undefined) {
      return super.zeroRange(offset, length, purpose);
    }
    return this.#zeroRange(this.#fallocate, offset, length);
  }

  override punchHole(offset: number, length: number, purpose: Purpose, isZeroWrite?: boolean): Pending {
    if (this.#fallocate === undefined) return super.punchHole(offset, length, purpose, isZeroWrite);
    return this.#punchHole(this.#fallocate, offset, length);
  }

  override async sync(_cause: SyncCause): Promise<void> {
    const { fd, path } = this.#file;
    if (this.#syncFailure === undefined) {
      try {
        await new Promise<void>((resolve, reject) => {
          fdatasync(fd, settle(resolve, reject));
        });
      } catch (error) {
        this.#syncFailure = error;
      }
    }
    if (this.#syncFailure !== undefined) throw hostError('host-sync-failed', { path }, this.#syncFailure);
  }

  #takes(bytes: Uint8Array): boolean {
    return !this.#file.isDirect || isPageMemory(bytes, this.requestAlignment);
  }

  async #readBounced(offset: number, target: Uint8Array): Promise<void> {
    const bounce = allocatePages(target.byteLength);
    await this.#readFully(offset, bounce);
    target.set(bounce);
  }

  async #readFully(offset: number, target: Uint8Array): Promise<void> {
    const { fd } = this.#file;
    const readable = Math.min(target.byteLength, Math.max(0, this.size() - offset));
    let done = 0;
    while (done < readable) {
      const from = done;
      const count = await this.#attempt('host-read-failed', offset + from, (settled) => {
        read(fd, target, from, target.byteLength - from, offset + from, settled);
      });
      if (count === 0) break;
      done += count;
    }
    if (done < target.byteLength) target.fill(0, done);
  }

  async #writeFully(offset: number, bytes: Uint8Array): Promise<void> {
    const { fd } = this.#file;
    for (let done = 0; done < bytes.byteLength;) {
      const from = done;
      done += await this.#attempt('host-write-failed', offset + from, (settled) => {
        write(fd, bytes, from, bytes.byteLength - from, offset + from, settled);
      });
    }
    this.#file.grewTo(offset + bytes.byteLength);
  }

  async #zeroRange(fallocate: AsyncFallocate, offset: number, length: number): Promise<void> {
    try {
      await fallocate.zeroRange(this.#file.fd, offset, length);
    } catch (error) {
      throw this.#file.allocatingFailed('zeroRange', offset, error);
    }
    this.#file.grewTo(offset + length);
  }

  async #punchHole(fallocate: AsyncFallocate, offset: number, length: number): Promise<void> {
    try {
      await fallocate.punchHole(this.#file.fd, offset, length);
    } catch (error) {
      throw this.#file.allocatingFailed('punchHole', offset, error);
    }
  }

  /** A call that answers how many bytes it did. */
  #attempt(
    code: HostErrorCode,
    offset: number,
    call: (settled: (error: Error | null, count: number) => void) => void,
  ): Promise<number> {
    return new Promise((resolve, reject) => {
      call((error, count) => {
        if (error === null) resolve(count);
        else reject(hostError(code, { path: this.path, offset }, error));
      });
    });
  }
}

function settle(resolve: () => void, reject: (error: Error) => void): (error: Error | null) => void {
  return (error) => {
    if (error === null) resolve();
    else reject(error);
  };
}

/** A copy in page memory, of which O_DIRECT takes what is a whole number of blocks. */
function bounced(bytes: Uint8Array): Uint8Array {
  const bounce = allocatePages(bytes.byteLength);
  bounce.set(bytes);
  return bounce;
}
