/**
 * Checking an image file, and repairing it where that is asked for.
 *
 * Invariants:
 * - Of the files behind an image only its data file is opened: a disk without it is not whole. A
 *   check is of an image's own metadata, whatever backs it.
 * - Without a repair the file is opened read-only. A repair is counted again afterwards, so that
 *   what the report says is left is what the file holds.
 * - The mark of an unclean close stays unless the repair left no corruption.
 */

import { Qcow2BenchError } from '../core/error.ts';
import { SyncElision } from '../device/sync-elision.ts';
import { contentsOf } from '../format/backing-chain.ts';
import type { CheckOptions, CheckReport } from '../format/check-report.ts';
import type { Format } from '../format/disk-image.ts';
import { formatList, formatsWith } from '../format/formats.ts';
import type { OpenDataFile } from '../format/image-options.ts';
import { withLoneFile } from '../format/registry.ts';
import { contentOfPlace } from './detect-format.ts';
import { lockOf, type ImagePlace } from './host-image.ts';

const CHECKED = formatsWith(({ hasCheck }) => hasCheck);

export interface CheckImageOptions extends ImagePlace, CheckOptions {
  /** Default: detected from the file's first bytes. */
  readonly format?: Format | undefined;
  /** Check an image that another process may be writing to; not with a repair. Default false. */
  readonly forceShare?: boolean | undefined;
  /** Opens a data file, which must be there. Default: it is not looked at. */
  readonly openDataFile?: OpenDataFile | undefined;
}

export interface CheckedImage {
  readonly path: string;
  readonly format: Format;
  /** What is left, and what was repaired. */
  readonly report: CheckReport;
}

/**
 * Checks an image.
 *
 * @throws Qcow2BenchError `check-unsupported` for raw, which has no metadata, and for formats of
 *   other programs; `file-missing`, or what opening its format throws.
 */
export async function checkImageFile(options: CheckImageOptions): Promise<CheckedImage> {
  const { storage, name, repair } = options;
  // Spares the syncs that QEMU spares: the host operations of a repair are its too.
  const format = options.format ?? (await checkedFormat(options));
  const readOnly = repair === undefined;
  const lock = lockOf({ contents: contentsOf(format), readOnly }, readOnly && options.forceShare);
  const device = new SyncElision(storage.open(name, { readOnly, lock }));
  const { path } = device;
  const file = { device, readOnly, forCheck: true, openDataFile: options.openDataFile };
  return withLoneFile(format, file, async (engine, loneFile) => {
    if (engine.check !== undefined) return { path, format, report: await engine.check(loneFile, options) };
    throw new Qcow2BenchError(
      'check-unsupported',
      `a ${format} image has no metadata to check: only ${formatList(CHECKED, 'and')} can be checked`,
      { path },
    );
  });
}

async function checkedFormat(place: ImagePlace): Promise<Format> {
  const content = await contentOfPlace(place);
  if (typeof content === 'string') return content;
  throw new Qcow2BenchError(
    'check-unsupported',
    `the file is ${content.name}, which cannot be checked: only ${formatList(CHECKED, 'and')} can`,
    { path: content.path },
  );
}
