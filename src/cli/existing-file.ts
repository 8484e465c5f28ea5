/** The option that lets a command replace a file, and the refusal without it, before any work is done. */

import { existsSync } from 'node:fs';
import { resolve } from 'node:path';

import { Qcow2BenchError } from '../core/error.ts';
import { flag } from './option-kinds.ts';

export const OVERWRITE = flag('Replace a file that is there');

/** @throws Qcow2BenchError `file-exists` */
export function refuseExisting(path: string, { overwrite }: { readonly overwrite: boolean }): void {
  if (overwrite || !existsSync(path)) return;
  const message = 'the file exists and is not replaced: take another name, or add --overwrite';
  throw new Qcow2BenchError('file-exists', message, { path: resolve(path) });
}
