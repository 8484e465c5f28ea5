/** Writing what a command makes: the folders above it are made too, the file is there whole or not at all. */

import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';

import { Qcow2BenchError, systemCode } from '../core/error.ts';
import { replaceFile } from '../result/atomic-file.ts';

/** @throws Qcow2BenchError `write-failed`. */
export function writeOutput(path: string, text: string): void {
  makeFolderOf(path);
  replaceFile(path, text, { durable: false });
}

/** @throws Qcow2BenchError `write-failed`. */
export function makeFolderOf(path: string): void {
  try {
    mkdirSync(dirname(path), { recursive: true });
  } catch (error) {
    const reason = systemCode(error) ?? String(error);
    throw new Qcow2BenchError('write-failed', `its folder cannot be made (${reason})`, { path }, error);
  }
}
