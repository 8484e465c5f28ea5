/** The error of a file that cannot be written, in the same words whatever writes it. */

import { Qcow2BenchError, systemCode } from './error.ts';
import { errnoAdvice } from './system-error-name.ts';

/**
 * @param cause what the system call threw
 * @param code of the error, where a writer has its own
 */
export function writeError(path: string, cause: unknown, code = 'write-failed'): Qcow2BenchError {
  const name = systemCode(cause);
  const reason = name === undefined ? `: ${String(cause)}` : ` (${name})`;
  const advice = name === undefined ? undefined : errnoAdvice(name);
  const tail = advice === undefined ? '' : `: ${advice}`;
  return new Qcow2BenchError(code, `cannot be written${reason}${tail}`, { path }, cause);
}
