/**
 * Files of a storage that have temporary names until all of them are whole.
 *
 * Invariant: names are those that the files will have, so that an image can store the name of
 * another; before `commit` no file has appeared under them.
 */

import type { BlockDevice } from './block-device.ts';
import type { CreateOptions, OpenOptions, RenameOptions, Storage } from './storage.ts';

export class StagedStorage implements Storage {
  readonly kind: Storage['kind'];
  readonly capabilities: Storage['capabilities'];
  readonly #storage: Storage;
  /** The temporary name of each file that was made here. */
  readonly #staged = new Map<string, string>();

  constructor(storage: Storage) {
    this.#storage = storage;
    this.kind = storage.kind;
    this.capabilities = storage.capabilities;
  }

  create(name: string, options?: CreateOptions): BlockDevice {
    const temporary = this.#staged.get(name) ?? this.#storage.temporaryName(name);
    this.#staged.set(name, temporary);
    return this.#storage.create(temporary, options);
  }

  open(name: string, options: OpenOptions = {}): BlockDevice {
    const temporary = this.#staged.get(name);
    if (temporary === undefined) return this.#storage.open(name, options);
    return this.#storage.open(temporary, { shownPath: name, ...options });
  }

  exists(name: string): boolean {
    return this.#storage.exists(this.#nameOf(name));
  }

  temporaryName(name: string): string {
    return this.#storage.temporaryName(name);
  }

  remove(name: string): void {
    this.#storage.remove(this.#nameOf(name));
    this.#staged.delete(name);
  }

  rename(name: string, newName: string, options: RenameOptions): void {
    const before = options.before === undefined ? undefined : this.#nameOf(options.before);
    this.#storage.rename(this.#nameOf(name), newName, { ...options, before });
    this.#staged.delete(name);
  }

  /**
   * Gives all files their names, `last` after the ones that it names. They must be closed.
   *
   * @throws Qcow2BenchError `file-exists`, `host-rename-failed`.
   */
  commit(last: string): void {
    const names = [...this.#staged.keys()].toSorted((a, b) => Number(a === last) - Number(b === last));
    for (const name of names) {
      this.rename(name, name, { overwrite: false, before: name === last ? undefined : last });
    }
  }

  describe(): string {
    return this.#storage.describe();
  }

  #nameOf(name: string): string {
    return this.#staged.get(name) ?? name;
  }
}
