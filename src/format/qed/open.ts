/**
 * Opening a QED image: check the header, open the backing file, read the first level, repair if the
 * image was not closed cleanly.
 *
 * Invariants: nothing is written before the whole header has been checked, and nothing at all if
 * the image is opened read-only; a failed open closes the backing chain.
 */

import { textUpToNul } from '../../core/byte-text.ts';
import { PLAIN_FORMAT } from '../../core/format-name.ts';
import type { BlockDevice } from '../../device/block-device.ts';
import type { DiskImage } from '../disk-image.ts';
import { enginePolicy } from '../engine-policy.ts';
import type { BackingReference, OpenOptions } from '../image-options.ts';
import { QedHeaderFile } from './header-file.ts';
import { HEADER_SIZE, parseQedHeader, type QedBackingPlace, type QedHeader } from './header.ts';
import { HostSpace } from './host-space.ts';
import { QedImage } from './qed-image.ts';
import { repairQed } from './repair.ts';
import { QedTables } from './tables.ts';

/**
 * Opens a QED image; one that needs a check is repaired first, unless it is opened read-only or for
 * a check.
 *
 * @throws Qcow2BenchError with a code of `parseQedHeader`, `repairQed` or the backing chain.
 */
export async function openQed(options: OpenOptions): Promise<QedImage> {
  const { device } = options;
  let backing: DiskImage | undefined;
  try {
    const fields = new Uint8Array(HEADER_SIZE);
    await device.read(0, fields, 'header');
    const header = parseQedHeader(fields, { path: device.path, size: device.size() });
    const headerFile = new QedHeaderFile(device, fields, header.needCheck);
    if (header.backing !== undefined) {
      backing = await options.openBacking(await readBackingReference(device, header.backing));
    }
    return await openTables(options, { header, headerFile, backing });
  } catch (error) {
    await backing?.abandon();
    throw error;
  }
}

async function openTables(
  options: OpenOptions,
  parts: {
    readonly header: QedHeader;
    readonly headerFile: QedHeaderFile;
    readonly backing: DiskImage | undefined;
  },
): Promise<QedImage> {
  const { device, readOnly } = options;
  const { header, headerFile, backing } = parts;
  const { geometry, l1Offset } = header;
  if (header.hasAutoclear && !readOnly) {
    await headerFile.rewriteFields(header.needCheck);
    await device.sync('dirty-bit');
  }
  const space = new HostSpace(geometry, device.size());
  const tables = new QedTables({ device, geometry, space, l1Offset });
  await tables.loadL1();
  const skipsRepair = readOnly || options.forCheck === true;
  if (header.needCheck && !skipsRepair) {
    await repairQed({ device, geometry, space, tables, header: headerFile, l1Offset });
  }
  return new QedImage({
    device,
    readOnly,
    readPurpose: options.readPurpose,
    virtualSize: header.virtualSize,
    geometry,
    space,
    tables,
    header: headerFile,
    backing,
    keepNeedCheck: header.needCheck && skipsRepair,
    policy: enginePolicy(options.policy),
  });
}

async function readBackingReference(device: BlockDevice, place: QedBackingPlace): Promise<BackingReference> {
  const bytes = new Uint8Array(place.length);
  await device.read(place.offset, bytes, 'header');
  return { name: textUpToNul(bytes), format: place.isRaw ? PLAIN_FORMAT : undefined };
}
