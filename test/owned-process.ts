/**
 * Processes that a test starts and that must not outlive it, whether it passes, fails or runs out
 * of time. `setup.ts` ends them.
 */

import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';

const running = new Set<ChildProcess>();

/** Has `child` killed at the end of the test that is running, or of the hook's file. */
export function owned<Child extends ChildProcess>(child: Child): Child {
  running.add(child);
  child.once('exit', () => running.delete(child));
  child.once('error', () => running.delete(child));
  return child;
}

/** Ends all that are running. */
export async function killOwned(): Promise<void> {
  const left = [...running];
  await Promise.all(
    left.map(async (child) => {
      const exit = once(child, 'exit');
      child.kill('SIGKILL');
      await exit;
    }),
  );
}

process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});
