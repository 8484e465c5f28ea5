/**
 * The programs of the machine that tests hold this project against, and what brings each; a PATH
 * with them, and one without.
 */

import { accessSync, constants, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

const PEERS = [
  { commands: ['qemu-img'], debianPackage: 'qemu-utils', use: 'images compared with QEMU' },
  { commands: ['qemu-io'], debianPackage: 'qemu-utils', use: 'host operations compared with QEMU' },
  { commands: ['qemu-nbd'], debianPackage: 'qemu-utils', use: 'locks compared with QEMU' },
  { commands: ['qemu-storage-daemon'], debianPackage: 'qemu-system-common', use: 'QEMU as an engine' },
  {
    commands: ['qemu-system-x86_64'],
    debianPackage: 'qemu-system-x86',
    use: 'the view of a virtual machine',
  },
  { commands: ['strace'], debianPackage: 'strace', use: 'host operations compared with QEMU' },
  {
    commands: ['chromium', 'chromium-browser', 'google-chrome'],
    debianPackage: 'chromium',
    use: 'the report drawn',
  },
  { commands: ['fio'], debianPackage: 'fio', use: 'its traces read, ours replayed' },
  { commands: ['blkparse'], debianPackage: 'blktrace', use: 'binary block traces compared with it' },
  { commands: ['nbdkit'], debianPackage: 'nbdkit', use: 'its logs read, block devices recorded' },
  { commands: ['nbdinfo'], debianPackage: 'libnbd-bin', use: 'NBD held against another client' },
  { commands: ['nbdcopy'], debianPackage: 'libnbd-bin', use: 'NBD held against another client' },
  { commands: ['nbdfuse'], debianPackage: 'libnbd-bin', use: 'NBD held against the kernel' },
  { commands: ['fusermount3'], debianPackage: 'fuse3', use: 'NBD held against the kernel' },
  { commands: ['mkfs.ext4'], debianPackage: 'e2fsprogs', use: 'images on ext4' },
  { commands: ['filefrag'], debianPackage: 'e2fsprogs', use: 'fragments of files compared with it' },
  { commands: ['mkfs.xfs'], debianPackage: 'xfsprogs', use: 'images on XFS' },
  { commands: ['mkfs.btrfs'], debianPackage: 'btrfs-progs', use: 'images on Btrfs' },
  { commands: ['mkfs.f2fs'], debianPackage: 'f2fs-tools', use: 'images on F2FS' },
];

/** Names of all peers, as tests call them. */
export const PEER_COMMANDS = PEERS.flatMap(({ commands }) => commands);

/**
 * @returns {string | undefined} one line: which peers are not on the PATH, and the command that
 *   installs them all
 */
export function missingPeers(path = peerPath()) {
  const missing = missingFrom(path);
  if (missing.length === 0) return undefined;
  const names = missing.map(({ commands }) => commands[0] ?? '').join(', ');
  return `tests skipped, missing: ${names}; to run all: apt-get install ${packagesOf(missing).join(' ')}`;
}

/** @returns {string[]} Debian packages of the peers that are not on the PATH */
export function missingPackages(path = peerPath()) {
  return packagesOf(missingFrom(path));
}

/**
 * The PATH, with the folders of system programs, which that of a plain user may lack: `mkfs` is
 * there.
 */
export function peerPath() {
  const { PATH = '' } = process.env;
  return [PATH, '/usr/local/sbin', '/usr/sbin', '/sbin'].join(delimiter);
}

/**
 * A folder for the PATH that holds all programs of the PATH but the peers, by symbolic links.
 *
 * @returns {{ folder: string, remove: () => void }}
 */
export function folderWithoutPeers(path = peerPath()) {
  const folder = mkdtempSync(join(tmpdir(), 'qcow2-bench-bare-'));
  const hidden = new Set(PEER_COMMANDS);
  const seen = new Set();
  for (const from of path.split(delimiter)) {
    for (const name of namesIn(from)) {
      if (hidden.has(name) || name.startsWith('mkfs') || seen.has(name)) continue;
      seen.add(name);
      symlinkSync(join(from, name), join(folder, name));
    }
  }
  return { folder, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** @param {string} path */
function missingFrom(path) {
  return PEERS.filter(({ commands }) => !commands.some((command) => isOn(path, command)));
}

/** @param {typeof PEERS} peers */
function packagesOf(peers) {
  return [...new Set(peers.map(({ debianPackage }) => debianPackage))];
}

/** @param {string} folder */
function namesIn(folder) {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/**
 * @param {string} path
 * @param {string} command
 */
function isOn(path, command) {
  return path.split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
