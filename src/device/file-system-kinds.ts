/** The file systems that a run can make on loop devices: how each is made and mounted. */

export const HOST_FILE_SYSTEMS = ['ext4', 'xfs', 'btrfs', 'btrfs-nodatacow', 'f2fs'] as const;
export type HostFileSystemName = (typeof HOST_FILE_SYSTEMS)[number];

export interface FileSystemKind {
  /** As the kernel calls it. */
  readonly type: string;
  /** The program that makes it, and its arguments before the device. */
  readonly mkfs: readonly [program: string, ...args: string[]];
  /** The package that has the program, as Debian calls it. */
  readonly package: string;
  /** Besides the defaults. */
  readonly mountOptions: string;
}

const BTRFS = { type: 'btrfs', mkfs: ['mkfs.btrfs', '-q', '-f'], package: 'btrfs-progs' } as const;

export const FILE_SYSTEM_KINDS: Readonly<Record<HostFileSystemName, FileSystemKind>> = {
  ext4: {
    type: 'ext4',
    mkfs: ['mkfs.ext4', '-q', '-F'],
    package: 'e2fsprogs',
    // A thread that zeroes inode tables would be counted with what the guest wrote.
    mountOptions: 'noinit_itable',
  },
  xfs: { type: 'xfs', mkfs: ['mkfs.xfs', '-q', '-f'], package: 'xfsprogs', mountOptions: '' },
  btrfs: { ...BTRFS, mountOptions: '' },
  // As chattr +C on the directory: data in place, without checksums.
  'btrfs-nodatacow': { ...BTRFS, mountOptions: 'nodatacow' },
  f2fs: { type: 'f2fs', mkfs: ['mkfs.f2fs', '-q', '-f'], package: 'f2fs-tools', mountOptions: '' },
};

/** Bytes; mkfs.xfs makes none that are smaller. */
const SIZE_MIN = 1024 ** 3;

/**
 * The size of a file system for images of so many bytes together: twice as much, as one that copies
 * on write needs room for what it replaces, and the least that all can have.
 */
export function fileSystemBytes(imageBytes: number): number {
  const MIB = 1024 ** 2;
  return Math.ceil((SIZE_MIN + 2 * imageBytes) / MIB) * MIB;
}
