/**
 * Between the source of guest requests and an image: checks each request, and adds the flush that
 * the cache mode or the FUA flag asks for (rule R2).
 *
 * Invariants:
 * - No request reaches the image that is not in whole sectors, within the disk, and, if it carries
 *   data, at most `LIMITS.transferBytes` long.
 * - In a writethrough mode each write and write-zeroes is followed by one flush; FUA adds none to
 *   that. A discard is never followed by one: it is no write. Which flush it is, and when FUA is
 *   dropped, follows from the QEMU that is followed.
 * - Where discards are ignored, none reaches the image; one that would be refused still is.
 * - One flush of the image is in flight at a time (in QEMU: of a node). At a queue depth above 1
 *   this decides how many syncs are spared: the requests that wait are covered by the next flush
 *   only if they were linked before it. Where a policy shares flushes, those that wait are one.
 * - On a device that answers at once every method does too, and allocates nothing.
 */

import { isAligned, SECTOR_SIZE } from '../core/alignment.ts';
import { hex, Qcow2BenchError } from '../core/error.ts';
import { Mutex } from '../core/mutex.ts';
import { LIMITS } from '../core/limits.ts';
import type { GuestOffset } from '../core/offsets.ts';
import { formatSize } from '../core/size.ts';
import { after, type Pending } from '../core/pending.ts';
import type { SyncCause } from '../device/purpose.ts';
import { CACHE_MODE_RULES, type CacheMode } from './cache-mode.ts';
import type { DiskImage } from './disk-image.ts';
import type { OpeningChoices } from './image-options.ts';

import { enginePolicy } from './engine-policy.ts';
import { DEFAULT_QEMU_PROFILE, QEMU_PROFILES, type QemuProfileName } from './qemu-profile.ts';
import { sharedFlush } from './shared-flush.ts';

export interface BlockBackendOptions extends Pick<OpeningChoices, 'discard' | 'policy'> {
  readonly image: DiskImage;
  readonly cacheMode: CacheMode;
  /** Requests that change something are refused. Default false. */
  readonly readOnly?: boolean | undefined;
  /** Which QEMU is followed. */
  readonly like?: QemuProfileName | undefined;
  /** Where the image is, for error messages. */
  readonly path?: string | undefined;
}

export interface WriteFlags {
  /** Force unit access: durable when it is done. */
  readonly fua: boolean;
}

export interface WriteZeroesFlags extends WriteFlags {
  /** The image may give the range back. */
  readonly unmap: boolean;
}

/**
 * Every request method throws, or rejects with, Qcow2BenchError `request-unaligned`,
 * `request-out-of-range`, `request-too-long` or `image-read-only` if the request is refused.
 * Offsets and lengths are in bytes.
 */
export class BlockBackend {
  readonly image: DiskImage;
  readonly #virtualSize: number;
  readonly #flushAfterWrite: boolean;
  readonly #dropsFua: boolean;
  readonly #readOnly: boolean;
  readonly #ignoresDiscards: boolean;
  readonly #neverUnmaps: boolean;
  readonly #path: string | undefined;
  readonly #flushTurn = new Mutex();
  readonly #flushImage = (cause: SyncCause): Pending => this.image.flush(cause);
  /**
   * One flush at a time, in the order they came: the next finds clean what the one before it wrote.
   */
  readonly #flushInTurn = (cause: SyncCause): Pending => this.#flushTurn.hold(this.#flushImage, cause);
  readonly #flush: (cause: SyncCause) => Pending;
  /** What follows a data write that is to be durable. */
  readonly #syncWrite: (cause: SyncCause) => Pending;

  constructor(options: BlockBackendOptions) {
    const { image, cacheMode, like = DEFAULT_QEMU_PROFILE } = options;
    const { flushAfterWrite, neverSync } = CACHE_MODE_RULES[cacheMode];
    const rules = QEMU_PROFILES[like];
    this.image = image;
    this.#virtualSize = image.virtualSize;
    this.#flushAfterWrite = flushAfterWrite;
    this.#dropsFua = neverSync && rules.unsafeDropsFua;
    this.#readOnly = options.readOnly ?? false;
    this.#ignoresDiscards = options.discard === 'ignore';
    this.#neverUnmaps = this.#ignoresDiscards && rules.ignoredDiscardsKeepZeroes;
    this.#flush = enginePolicy(options.policy).sharesFlushes
      ? sharedFlush(this.#flushImage)
      : this.#flushInTurn;
    this.#syncWrite =
      rules.fileSyncsFuaWrites && image.syncWrite !== undefined ? image.syncWrite.bind(image) : this.#flush;
    this.#path = options.path;
  }

  read(guestOffset: GuestOffset, target: Uint8Array): Pending {
    this.#checkRange(guestOffset, target.byteLength);
    this.#checkTransfer(guestOffset, target.byteLength);
    return this.image.read(guestOffset, target);
  }

  write(guestOffset: GuestOffset, bytes: Uint8Array, flags: WriteFlags): Pending {
    this.#checkWritable(guestOffset);
    this.#checkRange(guestOffset, bytes.byteLength);
    this.#checkTransfer(guestOffset, bytes.byteLength);
    const fua = flags.fua && !this.#dropsFua;
    return this.#endWrite(this.image.write(guestOffset, bytes), fua, this.#syncWrite);
  }

  writeZeroes(guestOffset: GuestOffset, length: number, flags: WriteZeroesFlags): Pending {
    this.#checkWritable(guestOffset);
    this.#checkRange(guestOffset, length);
    const pending = this.image.writeZeroes(guestOffset, length, {
      unmap: flags.unmap && !this.#neverUnmaps,
    });
    return this.#endWrite(pending, flags.fua, this.#flush);
  }

  discard(guestOffset: GuestOffset, length: number): Pending {
    this.#checkWritable(guestOffset);
    this.#checkRange(guestOffset, length);
    return this.#ignoresDiscards ? undefined : this.image.discard(guestOffset, length);
  }

  flush(): Pending {
    // A read-only image has nothing to make durable.
    return this.#readOnly ? undefined : this.#flush('guest-flush');
  }

  #endWrite(pending: Pending, fua: boolean, makeDurable: (cause: SyncCause) => Pending): Pending {
    if (!this.#flushAfterWrite && !fua) return pending;
    const cause = this.#flushAfterWrite ? 'writethrough' : 'fua';
    return pending === undefined ? makeDurable(cause) : after(pending, makeDurable.bind(undefined, cause));
  }

  #checkRange(guestOffset: GuestOffset, length: number): void {
    if (!isAligned(guestOffset, SECTOR_SIZE) || !isAligned(length, SECTOR_SIZE)) {
      throw this.#refused(
        'request-unaligned',
        guestOffset,
        `the request is ${String(length)} bytes long at this guest offset: both must be multiples of ${String(SECTOR_SIZE)}`,
      );
    }
    // Written so that NaN is refused as well.
    if (!(guestOffset >= 0 && length >= 0 && guestOffset + length <= this.#virtualSize)) {
      throw this.#refused(
        'request-out-of-range',
        guestOffset,
        `the request is ${String(length)} bytes long at this guest offset: the disk ends at ${hex(this.#virtualSize)}`,
      );
    }
  }

  #checkTransfer(guestOffset: GuestOffset, length: number): void {
    if (length <= LIMITS.transferBytes) return;
    throw this.#refused(
      'request-too-long',
      guestOffset,
      `the request carries ${String(length)} bytes: the limit is ${formatSize(LIMITS.transferBytes)}, split it`,
    );
  }

  #checkWritable(guestOffset: GuestOffset): void {
    if (!this.#readOnly) return;
    throw this.#refused(
      'image-read-only',
      guestOffset,
      'the image is open read-only: open it for writing or drop the request',
    );
  }

  #refused(code: string, guestOffset: GuestOffset, message: string): Qcow2BenchError {
    return new Qcow2BenchError(code, message, { path: this.#path, offset: guestOffset });
  }
}
