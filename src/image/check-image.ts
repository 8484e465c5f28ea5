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
import type { BlockDevice } from '../device/block-device.ts';
import { SyncElision } from '../device/sync-elision.ts';
import { contentsOf } from '../format/backing-chain.ts';
import type { CheckOptions, CheckReport } from '../format/check-report.ts';
import type { Format } from '../format/disk-image.ts';
import { withContent } from '../format/file-content.ts';
import type { OpenDataFile } from '../format/image-options.ts';
import { isCutOff, l1TableOf } from '../format/qcow2/on-disk/file-end.ts';
import type { Qcow2Header } from '../format/qcow2/on-disk/header.ts';
import { checkQed } from '../format/qed/check.ts';
import { contentOfPlace } from './detect-format.ts';
import { lockOf, type ImagePlace } from './host-image.ts';
import { openLoneQcow2 } from './lone-image.ts';

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
  switch (format) {
    case 'raw':
      await device.close();
      throw new Qcow2BenchError(
        'check-unsupported',
        'a raw image has no metadata to check: only qcow2 and qed can be checked',
        { path },
      );
    case 'qcow2':
      return { path, format, report: await checkQcow2(device, options) };
    case 'qed':
      return { path, format, report: await checkAndCloseQed(device, options) };
  }
}

async function checkedFormat(place: ImagePlace): Promise<Format> {
  const content = await contentOfPlace(place);
  if (typeof content === 'string') return content;
  throw new Qcow2BenchError(
    'check-unsupported',
    `the file is ${content.name}, which cannot be checked: only qcow2 and qed can`,
    { path: content.path },
  );
}

async function checkQcow2(device: BlockDevice, options: CheckImageOptions): Promise<CheckReport> {
  const { repair, onProgress, openDataFile } = options;
  const { image } = await openLoneQcow2({
    device,
    readOnly: repair === undefined,
    forCheck: true,
    openDataFile,
  });
  try {
    const wasLost = isMappingLost(image.header.values, device);
    const first = await image.check(repair, options);
    if (repair === undefined) return first;
    const repaired = await recounted(first, () => image.check(undefined, { onProgress }));
    const isEmptied = wasLost && !isMappingLost(image.header.values, device);
    const report = isEmptied ? withLostMapping(repaired, options) : repaired;
    if (report.corruptions + report.checkErrors === 0) await image.close();
    // Closing would call the image clean, which it is not. One that was stopped in the middle takes
    // no more writes.
    else if (!image.header.isStopped) await image.flush('repair');
    return report;
  } finally {
    await image.abandon();
  }
}

/** The file ends before the L1 table does. */
function isMappingLost(header: Qcow2Header, device: BlockDevice): boolean {
  return isCutOff(l1TableOf(header), device.size());
}

/** A repair made the file long enough for its table: not without a word of what that means. */
function withLostMapping(report: CheckReport, { onDetail }: CheckOptions): CheckReport {
  const told =
    'The L1 table was truncated; its lost entries are now empty and their data is lost: restore a complete copy';
  onDetail?.('repair', told);
  return { ...report, messages: [...report.messages, told] };
}

async function checkAndCloseQed(device: BlockDevice, options: CheckOptions): Promise<CheckReport> {
  try {
    const first = await checkQed(device, options);
    return options.repair === undefined ? first : await recounted(first, () => checkQed(device));
  } catch (error) {
    throw await withContent(error, { device, format: 'qed', purpose: 'data' });
  } finally {
    await device.close();
  }
}

/** What a repair fixed, and what a second check still finds. */
async function recounted(first: CheckReport, check: () => Promise<CheckReport>): Promise<CheckReport> {
  const { corruptionsFixed, leaksFixed, messages, messagesDropped } = first;
  if (corruptionsFixed + leaksFixed === 0) return first;
  const second = await secondLook(first, check);
  // An error that stopped the repair is reported unless nothing is left to repair.
  const isClean = second.corruptions + second.checkErrors === 0;
  const checkErrors = isClean ? 0 : Math.max(first.checkErrors, second.checkErrors);
  return { ...second, checkErrors, corruptionsFixed, leaksFixed, messages, messagesDropped };
}

/**
 * A repair that did not come to its end can leave an image that no check goes through: it is not
 * refused, but written.
 */
async function secondLook(first: CheckReport, check: () => Promise<CheckReport>): Promise<CheckReport> {
  try {
    return await check();
  } catch (error) {
    if (!(error instanceof Qcow2BenchError) || first.checkErrors === 0) throw error;
    return first;
  }
}
