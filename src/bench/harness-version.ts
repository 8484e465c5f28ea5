/** The program's own version: a file of its own, as every start of the program asks for it. */

import { Qcow2BenchError } from '../core/error.ts';
import { readFileSync } from '../core/host-fs.ts';

/** The package's own description: the same place seen from `src/bench/` and from `dist/bench/`. */
const PACKAGE_FILE = new URL('../../package.json', import.meta.url);

/** @throws Qcow2BenchError `bad-installation` if the program's own package file is gone. */
export function harnessVersion(): string {
  const text = readFileSync(PACKAGE_FILE, 'utf8');
  const content: unknown = JSON.parse(text);
  if (typeof content === 'object' && content !== null && 'version' in content) {
    if (typeof content.version === 'string') return content.version;
  }
  throw new Qcow2BenchError('bad-installation', 'it has no version: reinstall the program', {
    path: PACKAGE_FILE.pathname,
  });
}
