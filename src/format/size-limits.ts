/** Texts of limits that formats have in common. */

import type { Format } from '../core/format-name.ts';
import { formatSize } from '../core/size.ts';

/** @param sizes bytes; `sizeMax` is what the tables address with clusters of this size */
export function tooLargeText(
  format: Format,
  sizes: { readonly virtualSize: number; readonly sizeMax: number; readonly clusterSize: number },
): string {
  return (
    `a disk of ${formatSize(sizes.virtualSize)} exceeds the ${formatSize(sizes.sizeMax)} ` +
    `that ${format} addresses with clusters of ${formatSize(sizes.clusterSize)}`
  );
}
