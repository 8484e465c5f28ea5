/**
 * QEMU's NBD server as a holder of an image.
 *
 * It runs while its one client is connected, and ends by itself when that client is gone: also when
 * the test process is killed. A signal would not do: qemu-nbd forgets a SIGTERM that comes before
 * its main loop has begun.
 */

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

import { RawClient } from '../nbd/raw-client.ts';
import { owned } from '../owned-process.ts';

/** For each wait; it takes some 20 ms on a quiet machine. */
const PATIENCE_MS = 20_000;

export interface QemuNbd {
  /** Resolves when the process has ended. */
  end(): Promise<void>;
}

/**
 * @param words format, options and the image.
 * @returns what it said instead, if it ended before it could be reached.
 */
export async function startQemuNbd(
  socket: string,
  words: readonly string[],
  directory: string,
): Promise<QemuNbd | string> {
  const child = owned(
    spawn('qemu-nbd', ['-k', socket, ...words], { cwd: directory, stdio: ['ignore', 'ignore', 'pipe'] }),
  );
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  let isGone = false;
  const ended = new Promise<undefined>((resolve, reject) => {
    child.once('error', reject).once('close', () => {
      isGone = true;
      resolve(undefined);
    });
  });
  const client = await Promise.race([ended, clientOf(socket, () => isGone)]);
  if (client === undefined) return stderr;
  return {
    end: async () => {
      client.destroy();
      const outcome = await Promise.race([ended, delay(PATIENCE_MS, 'late' as const, { ref: false })]);
      if (outcome === 'late') throw new Error(`qemu-nbd does not end: ${words.join(' ')}: ${stderr}`);
    },
  };
}

async function clientOf(socket: string, isGone: () => boolean): Promise<RawClient | undefined> {
  const patience = AbortSignal.timeout(PATIENCE_MS);
  while (!isGone()) {
    patience.throwIfAborted();
    // It listens before it opens the image, which may fail.
    const client = existsSync(socket) ? await chosen(socket).catch(() => undefined) : undefined;
    if (client !== undefined) return client;
    await delay(5);
  }
  return undefined;
}

/** A client that chose the export: one that only connects does not count when it leaves. */
async function chosen(socket: string): Promise<RawClient> {
  const client = await RawClient.connect(socket);
  await client.go();
  return client;
}
