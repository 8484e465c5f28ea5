/** Which file system a path is on, so that a message or a record can name it. Linux only. */

import { textOfBytes } from '../core/byte-text.ts';
import { readFileSync, realpathSync } from '../core/host-fs.ts';

export interface MountPoint {
  /** As the system names it: `ext4`, `tmpfs`, `fuse.sshfs` … */
  readonly type: string;
  readonly directory: string;
  /**
   * `MAJOR:MINOR` of the device, as the kernel's `/sys/dev/block` has it; 0 as major means there is
   * none.
   */
  readonly device: string;
}

/** The mount that holds `path`, or `undefined` where the system does not report it. */
export function mountPointOf(path: string): MountPoint | undefined {
  try {
    return findMountPoint(textOfBytes(readFileSync('/proc/self/mountinfo')), realpathSync(path));
  } catch {
    return undefined; // Not Linux, or no such path: the name only makes a message better.
  }
}

/**
 * The mount that holds the absolute `path`: the deepest directory above it, and of several mounts
 * on one directory the last, which hides the others. `mountInfo` is text in the form of proc(5),
 * `ID PARENT MAJOR:MINOR ROOT MOUNT-POINT OPTIONS [FIELDS…] - TYPE SOURCE OPTIONS`.
 */
export function findMountPoint(mountInfo: string, path: string): MountPoint | undefined {
  let found: MountPoint | undefined;
  for (const line of mountInfo.split('\n')) {
    const [before, after] = line.split(' - ');
    const [, , device, , escaped] = before?.split(' ') ?? [];
    const type = after?.split(' ')[0];
    if (device === undefined || escaped === undefined || type === undefined) continue;
    const directory = unescape(escaped);
    if (holds(directory, path) && directory.length >= (found?.directory.length ?? 0)) {
      found = { type, directory, device };
    }
  }
  return found;
}

function holds(directory: string, path: string): boolean {
  return directory === '/' || path === directory || path.startsWith(`${directory}/`);
}

/** Blanks, tabs, newlines and backslashes are escaped as `\` and three octal digits. */
function unescape(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)));
}
