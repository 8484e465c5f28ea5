/** An open image as a check looks at it, and a repair changes it. */

import type { ImageCore } from './image-core.ts';
import type { Snapshots } from './snapshots.ts';

export interface CheckTarget {
  readonly core: ImageCore;
  readonly snapshots: Snapshots;
}
