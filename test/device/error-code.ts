import { Qcow2BenchError } from '../../src/core/error.ts';

/**
 * The code of the error that `work` throws; `undefined` if it throws none, anything else is thrown
 * on.
 */
export function codeOf(work: () => unknown): string | undefined {
  try {
    work();
  } catch (error) {
    if (error instanceof Qcow2BenchError) return error.code;
    throw error;
  }
  return undefined;
}
