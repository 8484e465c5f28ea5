/**
 * Which QEMU the engines follow: the rules in which its versions differ, by name. Engines ask a
 * rule; no code compares version numbers.
 *
 * Invariants:
 * - A rule is read once, when an image is opened.
 * - What is not a rule here is the same in all versions listed. `test/parity/` holds each of them
 *   against the program.
 */

export const QEMU_PROFILE_NAMES = ['qemu-7.2', 'qemu-10.0'] as const;
export type QemuProfileName = (typeof QEMU_PROFILE_NAMES)[number];

export interface QemuProfile {
  /**
   * A write with FUA, or any write of a writethrough mode, reaches the file of a raw image with
   * that flag, and the file syncs it by itself. Rule R1 does not see that sync: it runs in any
   * case, and the next flush still has the write to cover. Before, the flag ended above the file,
   * and a flush took its place.
   *
   * Since QEMU 10.0, commit 984a32f17e8d: the file driver supports FUA.
   * (`test/parity/version-parity.test.ts`)
   */
  readonly fileSyncsFuaWrites: boolean;
  /**
   * cache=unsafe drops the FUA of data writes: no tables are written for it. Before, such a write
   * was followed by a flush, which writes the tables of qcow2 in this mode too, without a sync.
   * Zero-writes with FUA still are.
   *
   * Since QEMU 10.0, commit 2f3b6e61f692: FUA is ignored where flushes are, as the driver would
   * sync by itself now. (`test/parity/version-parity.test.ts`)
   */
  readonly unsafeDropsFua: boolean;
  /**
   * With discard=ignore a zero-write of the guest may not unmap either: it is served as one without
   * that flag. Before, the option was looked at for discards alone: qcow2 freed clusters, and a raw
   * file got a hole.
   *
   * Since QEMU 9.1, commit d05ae948cc88: the option was checked for nodes below the top one before;
   * images that are to stay fully allocated lost space. (`test/parity/version-parity.test.ts`)
   */
  readonly ignoredDiscardsKeepZeroes: boolean;
}

export const QEMU_PROFILES: Readonly<Record<QemuProfileName, QemuProfile>> = {
  'qemu-7.2': {
    fileSyncsFuaWrites: false,
    unsafeDropsFua: false,
    ignoredDiscardsKeepZeroes: false,
  },
  'qemu-10.0': {
    fileSyncsFuaWrites: true,
    unsafeDropsFua: true,
    ignoredDiscardsKeepZeroes: true,
  },
};

/** Versions in which qcow2 has the option `discard-no-unref`: since QEMU 8.1, commit 42a2890a76f4. */
const HAVE_DISCARD_NO_UNREF: readonly QemuProfileName[] = ['qemu-10.0'];

/** Why a version cannot be followed with the option `discard-no-unref`, with the way out. */
export function unsupportedNoUnref(like: QemuProfileName): string | undefined {
  if (HAVE_DISCARD_NO_UNREF.includes(like)) return undefined;
  return `${like} has no discard-no-unref; use it with ${HAVE_DISCARD_NO_UNREF.join(', ')}`;
}

/**
 * The profile of a program that says it is of `version`, such as `9.2.1`: the newest that is not
 * newer, or the oldest.
 *
 * @throws Error if that is no version; programs are asked for theirs where they are found.
 */
export function nearestQemuProfile(version: string): QemuProfileName {
  const asked = versionNumber(version);
  const followed = QEMU_PROFILE_NAMES.filter((name) => versionNumber(name.slice('qemu-'.length)) <= asked);
  return followed.at(-1) ?? QEMU_PROFILE_NAMES[0];
}

/**
 * Whether a profile was measured on this very version: what others do may differ from the nearest
 * one.
 */
export function isFollowedQemu(version: string): boolean {
  const asked = versionNumber(version);
  return QEMU_PROFILE_NAMES.some((name) => versionNumber(name.slice('qemu-'.length)) === asked);
}

/** `7.2` as 7.002: the third number never changes a rule. */
function versionNumber(version: string): number {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(version) ?? [];
  if (major === undefined) throw new Error(`internal error: '${version}' is no version of QEMU`);
  return Number(major) + Number(minor) / 1000;
}

/** What is followed where nothing else is asked for. */
export const DEFAULT_QEMU_PROFILE: QemuProfileName = 'qemu-10.0';
