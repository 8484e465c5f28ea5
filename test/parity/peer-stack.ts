/** Our engine as it is held against the QEMU on this machine: it follows that version. */

import { execFileSync } from 'node:child_process';

import { openStack, type Stack, type StackOptions } from '../../src/bench/stack.ts';
import { nearestQemuProfile, type QemuProfileName } from '../../src/format/qemu-profile.ts';

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
