/** Whether file systems can be made here: needs root, loop devices and the right to mount. */

import { MadeFileSystems } from '../../src/below/made-file-systems.ts';
import type { HostFileSystemName } from '../../src/device/file-system-kinds.ts';

/** Why a file system of this kind cannot be made in `directory`; `undefined` if it can. */
export async function reasonWithout(
  kind: HostFileSystemName,
  directory: string,
): Promise<string | undefined> {
  return (await MadeFileSystems.tried([kind], { directory, isTraced: false })).unsupportedReason(kind, 0);
}

/** Why requests below a file system cannot be traced; `undefined` if they can. */
export async function reasonWithoutTrace(directory: string): Promise<string | undefined> {
  try {
    await MadeFileSystems.tried(['ext4'], { directory, isTraced: true });
    return undefined;
  } catch (error) {
    return String(error);
  }
}
