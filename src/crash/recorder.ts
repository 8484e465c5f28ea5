/**
 * Records a run: filters around the bare files of an image note every change and every sync, and a
 * disk in front of the image notes the guest's requests and stamps what they write.
 *
 * Invariants:
 * - The data of a write is copied when it is issued.
 * - The request that an operation belongs to is the one in whose course it was issued, at any queue
 *   depth.
 */

import { AsyncLocalStorage } from 'node:async_hooks';

import { SECTOR_SIZE } from '../core/alignment.ts';
import type { Pending } from '../core/pending.ts';
import { stampSectors } from '../core/sector-stamp.ts';
import type { BlockDevice, Elision, FileGrowth, WritePart } from '../device/block-device.ts';
import { DeviceFilter } from '../device/filter.ts';
import { joinedParts, mergedPurpose } from '../device/merged-write.ts';
import type { Purpose, SyncCause } from '../device/purpose.ts';
import type { BlockBackend, WriteFlags, WriteZeroesFlags } from '../format/block-backend.ts';
import { tokensOf } from './pages.ts';
import type { GuestRequest, Operation, Sync } from './recording.ts';

/** What guest requests are served by. */
export type GuestDisk = Pick<BlockBackend, 'image' | 'read' | 'write' | 'writeZeroes' | 'discard' | 'flush'>;

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

export class Recorder {
  readonly operations: Mutable<Operation>[] = [];
  readonly syncs: Mutable<Sync>[] = [];
  readonly requests: Mutable<GuestRequest>[] = [];
  readonly #current = new AsyncLocalStorage<number>();
  #events = 0;
  #writes: number;

  /** @param firstWrite the number of the first write: others are in the image already. */
  constructor(firstWrite = 1) {
    this.#writes = firstWrite;
  }

  /** Number of the next event. */
  get events(): number {
    return this.#events;
  }

  /** Index of the request in whose course this is asked. */
  get currentRequest(): number | undefined {
    return this.#current.getStore();
  }

  /** Records what happens to a bare file of the image. */
  device(inner: BlockDevice, file: number): BlockDevice {
    return new RecordedFile(inner, file, this);
  }

  /** Records the requests to a disk, and gives each write data of its own. */
  disk(inner: GuestDisk): GuestDisk {
    return new RecordedDisk(inner, this);
  }

  operation(operation: Omit<Operation, 'request' | 'issuedAt' | 'doneAt'>, serve: () => Pending): Pending {
    const entry: Mutable<Operation> = {
      ...operation,
      request: this.#current.getStore(),
      issuedAt: this.#events++,
      doneAt: Infinity,
    };
    const pending = serve();
    this.operations.push(entry);
    return this.#noteEnd(entry, pending);
  }

  sync(sync: Pick<Sync, 'file' | 'cause'>, serve: () => Pending): Pending {
    const entry: Mutable<Sync> = {
      ...sync,
      request: this.#current.getStore(),
      issuedAt: this.#events++,
      doneAt: Infinity,
      failed: false,
    };
    try {
      const pending = serve();
      this.syncs.push(entry);
      return this.#noteEnd(entry, pending);
    } catch (error) {
      this.syncs.push(Object.assign(entry, { failed: true, doneAt: this.#events++ }));
      throw error;
    }
  }

  request(
    request: Pick<GuestRequest, 'op' | 'offset' | 'length'> &
      Partial<WriteZeroesFlags & Pick<GuestRequest, 'snapshot'>>,
    serve: () => Pending,
    bytes?: Uint8Array,
  ): Pending {
    const { op, offset, length, fua = false, unmap = false, snapshot } = request;
    if (bytes !== undefined) stampSectors(bytes, { sector: offset / SECTOR_SIZE, write: this.#writes++ });
    const tokens = bytes === undefined ? undefined : tokensOf(bytes);
    const index = this.requests.length;
    const when = { beganAt: this.#events++, doneAt: Infinity };
    const entry = { op, offset, length, fua, unmap, snapshot, ...when, tokens };
    this.requests.push(entry);
    return this.#noteEnd(entry, this.#current.run(index, serve));
  }

  #noteEnd(entry: { doneAt: number }, pending: Pending): Pending {
    if (pending === undefined) {
      entry.doneAt = this.#events++;
      return undefined;
    }
    return this.#noteLater(entry, pending);
  }

  async #noteLater(entry: { doneAt: number; failed?: boolean }, pending: Promise<void>): Promise<void> {
    try {
      await pending;
    } catch (error) {
      if (entry.failed === false) Object.assign(entry, { failed: true, doneAt: this.#events++ });
      throw error;
    }
    entry.doneAt = this.#events++;
  }
}

class RecordedFile extends DeviceFilter {
  readonly #file: number;
  readonly #recorder: Recorder;

  constructor(inner: BlockDevice, file: number, recorder: Recorder) {
    super(inner);
    this.#file = file;
    this.#recorder = recorder;
  }

  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    const copy = bytes.slice();
    return this.#recorder.operation(
      {
        file: this.#file,
        op: 'write',
        offset,
        length: copy.byteLength,
        bytes: copy,
        purpose,
        hasCopy: isCopy(copy, purpose),
      },
      () => this.inner.write(offset, bytes, purpose, from, to),
    );
  }

  override writeMerged(offset: number, parts: readonly WritePart[]): Pending {
    const bytes = joinedParts(parts);
    const hasCopy = parts.some((part) => isCopy(part.bytes, part.purpose));
    return this.#recorder.operation(
      {
        file: this.#file,
        op: 'write',
        offset,
        length: bytes.byteLength,
        bytes,
        purpose: mergedPurpose(parts),
        hasCopy,
      },
      () => this.inner.writeMerged(offset, parts),
    );
  }

  override zeroRange(offset: number, length: number, purpose: Purpose): Pending {
    return this.#range('zero-range', offset, length, purpose, () =>
      this.inner.zeroRange(offset, length, purpose),
    );
  }

  override punchHole(offset: number, length: number, purpose: Purpose, isZeroWrite?: boolean): Pending {
    return this.#range('punch-hole', offset, length, purpose, () =>
      this.inner.punchHole(offset, length, purpose, isZeroWrite),
    );
  }

  override reserve(offset: number, length: number, purpose: Purpose): Pending {
    return this.#range('reserve', offset, length, purpose, () => this.inner.reserve(offset, length, purpose));
  }

  override truncate(size: number, purpose: Purpose, growth?: FileGrowth): Pending {
    return this.#range('truncate', size, 0, purpose, () => this.inner.truncate(size, purpose, growth));
  }

  override sync(cause: SyncCause, elision?: Elision): Pending {
    return this.#recorder.sync({ file: this.#file, cause }, () => this.inner.sync(cause, elision));
  }

  #range(
    op: Exclude<Operation['op'], 'write'>,
    offset: number,
    length: number,
    purpose: Purpose,
    serve: () => Pending,
  ): Pending {
    return this.#recorder.operation(
      { file: this.#file, op, offset, length, bytes: undefined, purpose, hasCopy: false },
      serve,
    );
  }
}

/** A fill of zeroes copies nothing. */
function isCopy(bytes: Uint8Array, purpose: Purpose): boolean {
  return purpose === 'cow' && bytes.some((byte) => byte !== 0);
}

class RecordedDisk implements GuestDisk {
  readonly image: BlockBackend['image'];
  readonly #disk: GuestDisk;
  readonly #recorder: Recorder;

  constructor(disk: GuestDisk, recorder: Recorder) {
    this.image = disk.image;
    this.#disk = disk;
    this.#recorder = recorder;
  }

  read(offset: number, target: Uint8Array): Pending {
    return this.#disk.read(offset, target);
  }

  /** Stamps `bytes`: they are the caller's, who must not need what they held. */
  write(offset: number, bytes: Uint8Array, flags: WriteFlags): Pending {
    const request = { op: 'write', offset, length: bytes.byteLength, fua: flags.fua } as const;
    return this.#recorder.request(request, () => this.#disk.write(offset, bytes, flags), bytes);
  }

  writeZeroes(offset: number, length: number, flags: WriteZeroesFlags): Pending {
    const { fua, unmap } = flags;
    const request = { op: 'write-zeroes', offset, length, fua, unmap } as const;
    return this.#recorder.request(request, () => this.#disk.writeZeroes(offset, length, flags));
  }

  discard(offset: number, length: number): Pending {
    return this.#recorder.request({ op: 'discard', offset, length }, () =>
      this.#disk.discard(offset, length),
    );
  }

  flush(): Pending {
    return this.#recorder.request({ op: 'flush', offset: 0, length: 0 }, () => this.#disk.flush());
  }
}
