/** Checking a qcow2 file, with what a repair of a truncated one has to report. */

import type { BlockDevice } from '../../device/block-device.ts';
import type { CheckOptions, CheckReport } from '../check-report.ts';
import type { LoneFile } from '../format-facts.ts';
import { recounted } from '../recounted.ts';
import { isCutOff, l1TableOf } from './on-disk/file-end.ts';
import type { Qcow2Header } from './on-disk/header.ts';
import { openQcow2 } from './open.ts';

/**
 * Checks an image file, and repairs it if requested; the mark of an unclean close stays unless the
 * repair left no corruption.
 */
export async function checkQcow2File(file: LoneFile, options: CheckOptions): Promise<CheckReport> {
  const { device } = file;
  const { repair, onProgress } = options;
  const image = await openQcow2(file.options);
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
