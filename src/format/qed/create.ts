/**
 * Making a QED image: byte for byte and write for write what `qemu-img create -f qed` makes.
 *
 *      header (64 bytes) · name of the backing file, if any · up to the next cluster nothing · first-level table
 */

import { bytesOfText } from '../../core/byte-text.ts';
import { Qcow2BenchError } from '../../core/error.ts';
import { PLAIN_FORMAT } from '../../core/format-name.ts';
import { LIMITS } from '../../core/limits.ts';
import type { CreateOptions } from '../image-options.ts';
import { zeroBytes } from '../real-zeroes.ts';
import { CLUSTER_SIZE_DEFAULT, qedGeometry, TABLE_CLUSTERS_DEFAULT } from './geometry.ts';
import {
  checkClusterSize,
  checkTableBytes,
  checkVirtualSize,
  encodeQedHeader,
  HEADER_SIZE,
} from './header.ts';

/**
 * Makes `device` an empty QED image. The format of a backing file is stored only if it is raw: QED
 * has no room for another, so the caller that opens the image has to name it.
 *
 * @throws Qcow2BenchError `qed-bad-cluster-size`, `qed-table-too-large`, `qed-bad-image-size` or
 * `qed-bad-backing-name`; nothing has been written then.
 */
export async function createQed(options: CreateOptions): Promise<void> {
  const { device, virtualSize, backingFile } = options;
  const place = { path: device.path };
  const clusterSize = options.clusterSize ?? CLUSTER_SIZE_DEFAULT;
  checkClusterSize(clusterSize, place);
  const geometry = qedGeometry({ clusterSize, tableClusters: TABLE_CLUSTERS_DEFAULT, headerClusters: 1 });
  checkTableBytes(geometry.tableSize, place);
  checkVirtualSize(virtualSize, geometry, place);
  const name = backingFile === undefined ? undefined : bytesOfText(backingFile.name);
  if (name !== undefined && (name.byteLength === 0 || name.byteLength > LIMITS.backingFileNameBytes)) {
    throw new Qcow2BenchError(
      'qed-bad-backing-name',
      `the backing file's name has ${String(name.byteLength)} bytes: it must have 1 to ${String(LIMITS.backingFileNameBytes)}`,
      place,
    );
  }
  const header = encodeQedHeader({
    clusterSize,
    tableClusters: TABLE_CLUSTERS_DEFAULT,
    virtualSize,
    backing: name && { nameLength: name.byteLength, isRaw: backingFile?.format === PLAIN_FORMAT },
  });
  await device.truncate(0, 'header');
  await device.write(0, header, 'header');
  if (name !== undefined) await device.write(HEADER_SIZE, name, 'header');
  await device.write(clusterSize, zeroBytes(geometry.tableSize), 'l1-table');
}
