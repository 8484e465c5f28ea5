/** An example of a crash as a new file: no earlier one is replaced. */

import { join } from 'node:path';

import { existsSync } from '../../core/host-fs.ts';
import { replaceFile } from '../../result/atomic-file.ts';

/** @returns the file's path */
export function saveExample(file: { readonly what: string }, directory: string): string {
  let number = 1;
  let path: string;
  do path = join(directory, `crash-${file.what}-${String(number++)}.json`);
  while (existsSync(path));
  replaceFile(path, `${JSON.stringify(file, null, 2)}\n`, { durable: false });
  return path;
}
