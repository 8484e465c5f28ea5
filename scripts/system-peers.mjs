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

/** @returns {string[]} one line for each peer that is not on the PATH */
export function missingPeers() {
  return PEERS.filter(({ commands }) => !commands.some(isOnPath)).map(
    ({ commands, debianPackage, use }) =>
      `${commands[0] ?? ''} is missing, its tests are skipped (${use}): apt-get install ${debianPackage}`,
  );
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
