/** An open image as a check looks at it, and a repair changes it. */

import type { ImageCore } from '../metadata/image-core.ts';
import type { Snapshots } from '../snapshots/snapshots.ts';

export interface CheckTarget {
  readonly core: ImageCore;
  readonly snapshots: Snapshots;
}
