/**
 * Writing to an output that is a stream: a FIFO, a terminal, or a descriptor that the process was
 * started with.
 *
 * Invariants:
 * - Bytes are appended at the stream's position. A descriptor of the process is never opened again,
 *   truncated or closed: the shell may have redirected it to a file that holds other text (`>>`).
 * - A stream that takes nothing for a moment (EAGAIN) is waited for: a parent may have made it
 *   non-blocking.
 */

import { close, closeSync, write, writeSync } from 'node:fs';
import { Writable } from 'node:stream';

import { systemCode } from '../core/error.ts';
import { open, openSync } from '../core/host-fs.ts';
import type { OutputPlace } from './output-place.ts';

const WAIT_MS = 5;

/** A place that is no regular file. */
export type StreamPlace = Exclude<OutputPlace, { readonly kind: 'file' }>;

/**
 * The stream's descriptor; one that was opened here is closed by disposing. @throws The system's
 * error.
 */
export class OpenStream implements Disposable {
  readonly descriptor: number;
  readonly #isOwn: boolean;

  constructor(place: StreamPlace) {
    this.#isOwn = place.kind === 'stream';
    this.descriptor = place.kind === 'stream' ? openSync(place.path, 'w') : place.descriptor;
  }

  [Symbol.dispose](): void {
    if (this.#isOwn) closeSync(this.descriptor);
  }
}

/** Writes all of `bytes` at the position of the descriptor. @throws The system's error. */
export function writeWhole(descriptor: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) {
    try {
      at += writeSync(descriptor, bytes, at);
    } catch (error) {
      if (systemCode(error) !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, WAIT_MS);
    }
  }
}

/** The same without blocking the process while the reader is slow or has not come yet. */
export function writableTo(place: StreamPlace): Writable {
  let descriptor = place.kind === 'descriptor' ? place.descriptor : -1;
  return new Writable({
    construct: (done) => {
      if (place.kind === 'descriptor') {
        done();
        return;
      }
      open(place.path, 'w', (error, opened) => {
        if (error === null) descriptor = opened;
        done(error);
      });
    },
    write: (chunk: Uint8Array, _encoding, done) => writeAll(descriptor, chunk, done),
    destroy: (error, done) => {
      if (place.kind === 'stream' && descriptor >= 0) close(descriptor, (failure) => done(error ?? failure));
      else done(error);
    },
  });
}

function writeAll(descriptor: number, bytes: Uint8Array, done: (error?: Error | null) => void): void {
  write(descriptor, bytes, 0, bytes.length, null, (error, written) => {
    if (error?.code === 'EAGAIN') setTimeout(() => writeAll(descriptor, bytes, done), WAIT_MS);
    else if (error !== null) done(error);
    else if (written < bytes.length) writeAll(descriptor, bytes.subarray(written), done);
    else done();
  });
}
