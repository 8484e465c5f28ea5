import { Qcow2BenchError } from '../../src/core/error.ts';

/** The error that `work` throws or rejects with; anything but a `Qcow2BenchError` is thrown on. */
export async function rejectionOf(work: () => unknown): Promise<Qcow2BenchError | undefined> {
  try {
    await work();
  } catch (error) {
    if (error instanceof Qcow2BenchError) return error;
    throw error;
  }
  return undefined;
}

export async function rejectionCodeOf(work: () => unknown): Promise<string | undefined> {
  return (await rejectionOf(work))?.code;
}
