/** Whether file systems can be made here: needs root, loop devices and the right to mount. */

import { MadeFileSystems } from '../../src/below/made-file-systems.ts';
import type { HostFileSystemName } from '../../src/device/file-system-kinds.ts';

/** Why a file system of this kind cannot be made in `directory`; `undefined` if it can. */
export async function reasonWithout(
  kind: HostFileSystemName,
  directory: string,
): Promise<string | undefined> {
  return (await MadeFileSystems.tried([kind], directory)).unsupportedReason(kind, 0);
}
