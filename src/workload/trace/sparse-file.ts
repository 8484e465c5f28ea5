/**
 * A file that is written once from its beginning to its end, with holes where zeroes go.
 *
 * Invariant: only chunks of `ZEROES` become holes; on disk they take no space, and reading gives
 * zeroes.
 */

import { closeSync, ftruncateSync, writeSync } from 'node:fs';
import { Writable } from 'node:stream';

import { openSync } from '../../core/host-fs.ts';

/** Chunks of zeroes are parts of this one. */
export const ZEROES = new Uint8Array(64 * 1024);

export function createSparseFile(path: string): Writable {
  let file: number | undefined;
  let position = 0;
  const attempt = (action: () => void, done: (error?: Error | null) => void): void => {
    try {
      action();
      done();
    } catch (error) {
      done(error instanceof Error ? error : new Error(String(error)));
    }
  };
  return new Writable({
    construct: (done) => attempt(() => (file = openSync(path, 'w')), done),
    write: (chunk: Uint8Array, _encoding, done) =>
      attempt(() => {
        const isHole = chunk.buffer === ZEROES.buffer;
        for (let at = 0; !isHole && at < chunk.length;) {
          at += writeSync(file ?? -1, chunk, at, chunk.length - at, position + at);
        }
        position += chunk.length;
      }, done),
    final: (done) => attempt(() => ftruncateSync(file ?? -1, position), done),
    destroy: (error, done) => {
      if (file !== undefined) closeSync(file);
      file = undefined;
      done(error);
    },
  });
}
