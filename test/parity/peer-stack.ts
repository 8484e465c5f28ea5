/** Our engine as it is held against the QEMU on this machine: it follows that version. */

import { openStack, type Stack, type StackOptions } from '../../src/bench/stack.ts';
import { nearestQemuProfile, type QemuProfileName } from '../../src/format/qemu-profile.ts';
import type { TaggedRecord } from '../../src/peer/varying-order.ts';
import type { Request } from '../../src/workload/request.ts';
import { serveRequests } from '../format/serve-requests.ts';
import { runTool } from '../format/system-tools.ts';

let profile: QemuProfileName | undefined;

/** Of the `qemu-io` on the PATH, which the project of these tests chose. */
export function peerProfile(): QemuProfileName {
  if (profile === undefined) {
    const said = runTool('qemu-io', ['--version']);
    profile = nearestQemuProfile(/version (\S+)/.exec(said)?.[1] ?? '');
  }
  return profile;
}

export function openPeerStack(options: StackOptions): Promise<Stack> {
  return openStack({ like: peerProfile(), ...options });
}

/** Opens an image, closes it after `use`, and returns its host operations, each with its request. */
export async function withPeerStack(
  options: Omit<StackOptions, 'hostLog'>,
  use: (stack: Stack, begin: (request: number | undefined) => void) => Promise<void>,
): Promise<readonly TaggedRecord[]> {
  const log: TaggedRecord[] = [];
  let request: number | undefined;
  await using stack = await openPeerStack({
    ...options,
    hostLog: (record) => log.push({ ...record, request }),
  });
  await use(stack, (next) => (request = next));
  await stack.close();
  return log;
}

/** As `withPeerStack`, for requests that are served one by one. */
export function servePeerRequests(
  requests: readonly Request[],
  options: Omit<StackOptions, 'hostLog'>,
): Promise<readonly TaggedRecord[]> {
  return withPeerStack(options, ({ backend }, begin) => serveRequests(backend, requests, begin));
}
