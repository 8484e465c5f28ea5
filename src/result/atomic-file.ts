/**
 * Replacing a file so that a reader, or a run after an interruption, finds the old text or the new
 * one whole.
 *
 * Invariant: only regular files are ever replaced. Text for a pipe or a terminal (`/dev/stdout`) is
 * written to it, and a symbolic link stays a link.
 */

import { closeSync, fsyncSync } from 'node:fs';
import { dirname } from 'node:path';

import { openSync } from '../core/host-fs.ts';
import { writeError } from '../core/write-error.ts';
import { outputPlace } from '../device/output-place.ts';
import { OpenStream, writeWhole, type StreamPlace } from '../device/output-stream.ts';
import { discardTemporary, putInPlace, temporaryPath } from '../device/temporary-file.ts';

/**
 * Writes `text` to `path` in UTF-8.
 *
 * @param options.durable also waits until the text is on stable storage.
 * @throws Qcow2BenchError `write-failed` with the system's error as its cause; the old file is then
 *   unchanged.
 */
export function replaceFile(
  path: string,
  content: string | Uint8Array,
  options: { readonly durable: boolean },
): void {
  const place = outputPlace(path);
  try {
    if (place.kind === 'file') replaceByRename(place.path, content, options.durable);
    else writeThrough(place, content);
  } catch (error) {
    throw writeError(path, error);
  }
}

function writeThrough(place: StreamPlace, content: string | Uint8Array): void {
  using stream = new OpenStream(place);
  writeWhole(stream.descriptor, Buffer.from(content));
}

function replaceByRename(path: string, content: string | Uint8Array, durable: boolean): void {
  const temporary = temporaryPath(dirname(path));
  try {
    const file = openSync(temporary, 'wx');
    try {
      writeWhole(file, Buffer.from(content));
      if (durable) fsyncSync(file);
    } finally {
      closeSync(file);
    }
    putInPlace(temporary, path, { overwrite: true });
  } catch (error) {
    discardTemporary(temporary);
    throw error;
  }
}
