/**
 * The files of an image that is being made under a temporary name: what is synced before it is whole
 * would be thrown away with it (qemu-img writes such a target with cache=unsafe).
 *
 * Invariants: no file is synced before `areWhole` is set; each that is open then is synced once, at
 * its close. Large writes are done in the system's threads, next to the reads of what follows.
 */

import { after, type Pending } from '../core/pending.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { DeviceFilter } from '../device/filter.ts';
import type { CreateOptions, OpenOptions, RenameOptions, Storage } from '../device/storage.ts';

export class UnsyncedFiles implements Storage {
  /** Whether a close makes durable. */
  areWhole = false;
  readonly #storage: Storage;

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  get kind(): Storage['kind'] {
    return this.#storage.kind;
  }

  get capabilities(): Storage['capabilities'] {
    return this.#storage.capabilities;
  }

  create(name: string, options?: CreateOptions): BlockDevice {
    return new SyncedAtClose(this.#storage.create(name, options), this);
  }

  open(name: string, options?: OpenOptions): BlockDevice {
    return new SyncedAtClose(this.#storage.open(name, { ...options, overlap: true }), this);
  }

  realName(name: string): string {
    return this.#storage.realName?.(name) ?? name;
  }

  exists(name: string): boolean {
    return this.#storage.exists(name);
  }

  temporaryName(name: string): string {
    return this.#storage.temporaryName(name);
  }

  remove(name: string): void {
    this.#storage.remove(name);
  }

  rename(name: string, newName: string, options: RenameOptions): void {
    this.#storage.rename(name, newName, options);
  }

  describe(): string {
    return this.#storage.describe();
  }
}

class SyncedAtClose extends DeviceFilter {
  readonly #files: UnsyncedFiles;

  constructor(inner: BlockDevice, files: UnsyncedFiles) {
    super(inner);
    this.#files = files;
  }

  override sync(): undefined {
    // Once, at the close.
  }

  override close(): Pending {
    if (!this.#files.areWhole) return this.inner.close();
    return after(this.inner.sync('close', undefined) ?? Promise.resolve(), () => this.inner.close());
  }
}
