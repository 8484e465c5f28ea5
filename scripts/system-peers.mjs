/** The programs of the machine that tests hold this project against, and what brings each. */

import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

const PEERS = [
  { commands: ['qemu-img'], debianPackage: 'qemu-utils', use: 'images compared with QEMU' },
  { commands: ['qemu-io'], debianPackage: 'qemu-utils', use: 'host operations compared with QEMU' },
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
];

/** @returns {string | undefined} one line: which peers are not on the PATH, and the command that installs them all */
export function missingPeers() {
  const missing = PEERS.filter(({ commands }) => !commands.some(isOnPath));
  if (missing.length === 0) return undefined;
  const names = missing.map(({ commands }) => commands[0] ?? '').join(', ');
  const packages = [...new Set(missing.map(({ debianPackage }) => debianPackage))].join(' ');
  return `tests skipped for want of ${names}; all of them: apt-get install ${packages}`;
}

/** @param {string} command */
function isOnPath(command) {
  const { PATH = '' } = process.env;
  return PATH.split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
