/** Which choices exclude one another in a raw image that is to be made. */

import type { BrokenRule, LayoutChoices } from '../image-options.ts';

/**
 * The first rule that the choices break: raw has no header to name a backing file in, and no
 * tables.
 */
export function impossibleRaw({ backingFile, shape }: LayoutChoices): BrokenRule | undefined {
  if (backingFile !== undefined) {
    const message = `a raw image cannot have a backing file ('${backingFile.name}'): use qcow2 or qed`;
    return { code: 'raw-no-backing', message };
  }
  if (shape?.preallocation !== 'metadata') return undefined;
  const message = 'raw has no metadata to preallocate: use falloc or full';
  return { code: 'raw-no-metadata', message };
}
