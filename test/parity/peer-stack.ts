/** Our engine as it is held against the QEMU on this machine: it follows that version. */

import { execFileSync } from 'node:child_process';

import { openStack, type Stack, type StackOptions } from '../../src/bench/stack.ts';
import { nearestQemuProfile, type QemuProfileName } from '../../src/format/qemu-profile.ts';
import type { TaggedRecord } from '../../src/peer/varying-order.ts';
import type { Request } from '../../src/workload/request.ts';
import { payloadByte, serveRequest } from '../format/serve-requests.ts';

let profile: QemuProfileName | undefined;

/** Of the `qemu-io` on the PATH, which the project of these tests chose. */
export function peerProfile(): QemuProfileName {
  if (profile === undefined) {
    const said = execFileSync('qemu-io', ['--version'], { encoding: 'utf8' });
    profile = nearestQemuProfile(/version (\S+)/.exec(said)?.[1] ?? '');
  }
  return profile;
}

export function openPeerStack(options: StackOptions): Promise<Stack> {
  return openStack({ like: peerProfile(), ...options });
}

/**
 * Serves the requests one by one and closes the image; answers its host operations, each with its
 * request.
 */
export async function servePeerRequests(
  requests: readonly Request[],
  options: Omit<StackOptions, 'hostLog'>,
): Promise<readonly TaggedRecord[]> {
  const log: TaggedRecord[] = [];
  let request: number | undefined;
  let writes = 0;
  await using stack = await openPeerStack({
    ...options,
    hostLog: (record) => log.push({ ...record, request }),
  });
  for (const [index, asked] of requests.entries()) {
    request = index;
    await serveRequest(stack.backend, asked, payloadByte(writes));
    if (asked.op === 'write') writes++;
  }
  request = undefined;
  await stack.close();
  return log;
}
