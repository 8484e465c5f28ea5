/**
 * What is said of programs that tests compare with and that are missing, and the PATH that hides
 * them.
 */

import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { expect, test } from 'vitest';

const PEERS = fileURLToPath(new URL('../../scripts/system-peers.mjs', import.meta.url));

/** What the script prints with `code` after its functions are imported. */
function printed(code: string): string {
  const script = `import * as peers from ${JSON.stringify(PEERS)}; ${code}`;
  return execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' }).trim();
}

test('one line names what is missing, and one command installs it all', () => {
  expect(printed("console.log(peers.missingPeers(''))")).toBe(
    'tests skipped, missing: qemu-img, qemu-io, qemu-nbd, qemu-storage-daemon, qemu-system-x86_64, strace, ' +
      'chromium, fio, blkparse, nbdkit, nbdinfo, nbdcopy, nbdfuse, fusermount3, mkfs.ext4, filefrag, mkfs.xfs, mkfs.btrfs, mkfs.f2fs; ' +
      'to run all: apt-get install qemu-utils qemu-system-common qemu-system-x86 strace chromium fio blktrace ' +
      'nbdkit libnbd-bin fuse3 e2fsprogs xfsprogs btrfs-progs f2fs-tools',
  );
});

test('the folder without peers holds every other program of the PATH', () => {
  const code = `
    const { folder, remove } = peers.folderWithoutPeers();
    const { existsSync } = await import('node:fs');
    console.log(['sh', 'qemu-img', 'qemu-nbd', 'strace', 'mkfs.ext4'].map((name) => existsSync(folder + '/' + name)));
    console.log(peers.missingPackages(folder).length);
    remove();
    console.log(folder);`;
  const [programs, packages, folder = ''] = printed(code).split('\n');
  expect(programs).toBe('[ true, false, false, false, false ]');
  expect(packages).toBe('14');
  expect(existsSync(join(folder, 'sh'))).toBe(false);
});
