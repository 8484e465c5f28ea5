/** Which profile a program is followed by. */

import { expect, test } from 'vitest';

import { isFollowedQemu, nearestQemuProfile } from '../../src/format/qemu-profile.ts';

test.each([
  ['5.2.0', 'qemu-7.2'],
  ['7.2.22', 'qemu-7.2'],
  ['8.2.2', 'qemu-7.2'],
  ['9.10.0', 'qemu-7.2'],
  ['10.0.2', 'qemu-10.0'],
  ['10.1.50', 'qemu-10.0'],
  ['11.0.0', 'qemu-10.0'],
])('QEMU %s is followed by the newest profile that is not newer: %s', (version, profile) => {
  expect(nearestQemuProfile(version)).toBe(profile);
});

test.each([
  ['7.2.22', true],
  ['7.20.0', false],
  ['9.2.0', false],
  ['10.0.2', true],
  ['10.1.0', false],
])('QEMU %s is one of those that profiles were measured on: %s', (version, isFollowed) => {
  expect(isFollowedQemu(version)).toBe(isFollowed);
});
