/**
 * Paths as arguments of a program that is started. Node gives arguments as UTF-8; a file whose name
 * is not is reached by `/proc/PID/fd/N`, through a descriptor that this process holds.
 *
 * Invariants: a path that is UTF-8 is given as it is. Of another one the last part stays where it
 * is UTF-8, so that names beside the file lead where they led. Only Linux has such names, and it
 * has `/proc`.
 */

import { closeSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';

import { openPlace } from '../core/host-fs.ts';

export class ChildPaths implements Disposable {
  /** By path: the descriptor opened for it. */
  readonly #descriptors = new Map<string, number>();

  /** The path for a program that ends before this is disposed. @throws The system's error. */
  pathFor(path: string): string {
    if (path.isWellFormed()) return path;
    const name = basename(path);
    return name.isWellFormed() ? join(this.#held(dirname(resolve(path))), name) : this.#held(resolve(path));
  }

  [Symbol.dispose](): void {
    for (const descriptor of this.#descriptors.values()) closeSync(descriptor);
    this.#descriptors.clear();
  }

  #held(path: string): string {
    let descriptor = this.#descriptors.get(path);
    if (descriptor === undefined) {
      descriptor = openPlace(path);
      this.#descriptors.set(path, descriptor);
    }
    return `/proc/${String(process.pid)}/fd/${String(descriptor)}`;
  }
}
