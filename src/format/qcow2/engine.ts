/** What qcow2 does with files. */

import type { FormatEngine } from '../format-facts.ts';
import { checkQcow2File } from './check-file.ts';
import { createQcow2 } from './create.ts';
import { describeQcow2 } from './describe.ts';
import { readQcow2Layout } from './file-layout.ts';
import { openQcow2 } from './open.ts';
import { refuseDamagedQcow2 } from './refuse-damaged.ts';

export const QCOW2_ENGINE: FormatEngine = {
  open: openQcow2,
  create: createQcow2,
  describe: describeQcow2,
  check: checkQcow2File,
  refuseDamaged: refuseDamagedQcow2,
  readLayout: readQcow2Layout,
};
