/**
 * The file that a Unix socket is reached by: what is at its path, removing a stale one, and paths
 * for `node:net`, which takes text for UTF-8, where the name is other bytes.
 */

import { closeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

import { Qcow2BenchError, systemCode } from '../core/error.ts';
import { linkSync, lstatSync, openPlace, rmSync } from '../core/host-fs.ts';
import { errnoAdvice } from '../core/system-error-name.ts';
import { temporaryPath } from '../device/temporary-file.ts';

/** @throws Qcow2BenchError `nbd-listen-failed` if the system does not report it. */
export function describeSocketFile(path: string): 'missing' | 'socket' | 'other' {
  try {
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (found === undefined) return 'missing';
    return found.isSocket() ? 'socket' : 'other';
  } catch (error) {
    throw listenFailed(path, error);
  }
}

/** @throws Qcow2BenchError `nbd-listen-failed`. */
export function removeSocketFile(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch (error) {
    throw listenFailed(path, error);
  }
}

/** An existing socket, to connect to. */
export class ReachableSocket implements Disposable {
  readonly path: string;
  readonly #descriptor: number | undefined;

  /** @throws Qcow2BenchError `nbd-listen-failed`. */
  constructor(path: string) {
    this.#descriptor = path.isWellFormed() ? undefined : placeOf(path, path);
    this.path = this.#descriptor === undefined ? path : descriptorPath(this.#descriptor);
  }

  [Symbol.dispose](): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
  }
}

/** A socket whose path is not UTF-8: it is bound under a temporary name, and then given its own. */
export class BindableSocket {
  /** To listen on; leads to the socket until `giveName`. */
  readonly bindPath: string;
  readonly #path: string;
  readonly #temporary: string;
  readonly #directory: number;
  #isNamed = false;

  /** @throws Qcow2BenchError `nbd-listen-failed`. */
  constructor(path: string) {
    const directory = dirname(path);
    this.#path = path;
    this.#temporary = temporaryPath(directory);
    this.#directory = placeOf(directory, path);
    this.bindPath = join(descriptorPath(this.#directory), basename(this.#temporary));
  }

  /** Replaces no file. @throws Qcow2BenchError `nbd-listen-failed`. */
  giveName(): void {
    try {
      linkSync(this.#temporary, this.#path);
      this.#isNamed = true;
      rmSync(this.#temporary);
    } catch (error) {
      throw listenFailed(this.#path, error);
    }
  }

  /** To be called once, when the server is closed: until then it may remove `bindPath`. */
  remove(): void {
    closeSync(this.#directory);
    rmSync(this.#temporary, { force: true });
    if (this.#isNamed) removeSocketFile(this.#path);
  }
}

function placeOf(place: string, path: string): number {
  try {
    return openPlace(place);
  } catch (error) {
    throw listenFailed(path, error);
  }
}

function descriptorPath(descriptor: number): string {
  return `/proc/self/fd/${String(descriptor)}`;
}

/** @param place for people: a path, or an address. */
export function listenFailed(place: string, error: unknown): Qcow2BenchError {
  const code = systemCode(error) ?? String(error);
  const advice = code === 'EADDRINUSE' ? 'another program listens there' : errnoAdvice(code);
  const reason = advice === undefined ? code : `${code}: ${advice}`;
  return new Qcow2BenchError('nbd-listen-failed', `cannot listen here (${reason})`, { path: place }, error);
}
