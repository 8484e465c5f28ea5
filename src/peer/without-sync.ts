/**
 * A file that is never synced. The builtin engine's half of a comparison is thrown away: only which
 * operations it issues, and the bytes it leaves, are of interest, and waiting for the disk a
 * thousand times is not.
 */

import type { Pending } from '../core/pending.ts';
import { DeviceFilter } from '../device/filter.ts';

export class WithoutSync extends DeviceFilter {
  override sync(): Pending {
    return undefined;
  }
}
