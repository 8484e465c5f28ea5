/**
 * Files of a storage that have temporary names until all of them are whole.
 *
 * Invariants:
 * - Names are those that the files will have, so that an image can store the name of another;
 *   before `commit` no file has appeared under them.
 * - A file in the way is an error when the new one is created, before the work. It is replaced only
 *   if it is listed: any other may be the backing file of an image that exists.
 */

import { Qcow2BenchError } from '../core/error.ts';
import type { BlockDevice } from './block-device.ts';
import type { CreateOptions, OpenOptions, RenameOptions, Storage } from './storage.ts';

export class StagedStorage implements Storage {
  readonly kind: Storage['kind'];
  readonly capabilities: Storage['capabilities'];
  readonly #storage: Storage;
  /** The temporary name of each file that was made here. */
  readonly #staged = new Map<string, string>();
  readonly #replaceable: readonly string[];
  /** Those that took the name of an existing file. */
  readonly #replacing = new Set<string>();

  /** @param replaceable names of files that may be replaced */
  constructor(storage: Storage, replaceable: readonly string[]) {
    this.#storage = storage;
    this.#replaceable = replaceable;
    this.kind = storage.kind;
    this.capabilities = storage.capabilities;
  }

  create(name: string, options?: CreateOptions): BlockDevice {
    // First, as it removes what a killed process left.
    const temporary = this.#staged.get(name) ?? this.#storage.temporaryName(name);
    this.#refuseInTheWay(name);
    this.#staged.set(name, temporary);
    return this.#storage.create(temporary, options);
  }

  open(name: string, options: OpenOptions = {}): BlockDevice {
    const temporary = this.#staged.get(name);
    if (temporary === undefined) return this.#storage.open(name, options);
    return this.#storage.open(temporary, { shownPath: this.#pathOf(name), ...options });
  }

  exists(name: string): boolean {
    return this.#storage.exists(this.#nameOf(name));
  }

  temporaryName(name: string): string {
    return this.#storage.temporaryName(name);
  }

  remove(name: string): void {
    // The name may have its old file again, since the storage takes a replacement back when the
    // file that comes last is removed.
    if (!this.#staged.has(name) && this.#replacing.has(name)) return;
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
      this.#refuseInTheWay(name);
      const overwrite = this.#replaceable.includes(name);
      if (this.#storage.exists(name)) this.#replacing.add(name);
      this.rename(name, name, { overwrite, before: name === last ? undefined : last });
    }
  }

  describe(): string {
    return this.#storage.describe();
  }

  #refuseInTheWay(name: string): void {
    if (this.#replaceable.includes(name) || !this.#storage.exists(name)) return;
    const message = 'file exists: remove or rename it, or choose another name for the image';
    throw new Qcow2BenchError('file-exists', message, { path: this.#pathOf(name) });
  }

  #pathOf(name: string): string {
    return this.#storage.realName?.(name) ?? name;
  }

  #nameOf(name: string): string {
    return this.#staged.get(name) ?? name;
  }
}
