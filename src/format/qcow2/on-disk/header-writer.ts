/**
 * Writes the qcow2 header cluster; its layout is in `header`.
 *
 * Invariant: the form is the canonical one that QEMU 7.2 writes, with the fields and extensions
 * kept that neither knows.
 */

import { bytesOfText } from '../../../core/byte-text.ts';
import { viewOf, writeU64be } from '../../../core/bytes.ts';
import { Qcow2BenchError } from '../../../core/error.ts';
import { COMPRESSION_TYPES } from '../../image-shape.ts';
import {
  EXTENSION,
  extensionsLength,
  featureNameTable,
  writeExtensions,
  type HeaderExtension,
} from './header-extensions.ts';
import { FIELD, MAGIC, V2_LENGTH, V3_LENGTH, type Qcow2Header } from './header.ts';

/** QEMU leaves the feature name table out of clusters up to this size. */
const FEATURE_NAMES_MIN_CLUSTER = 4096;

/**
 * The header cluster in QEMU's canonical form.
 *
 * @throws Qcow2BenchError `qcow2-header-full` if extensions and backing file name do not fit one
 *   cluster
 */
export function serializeHeader(header: Qcow2Header, path: string): Uint8Array<ArrayBuffer> {
  const clusterSize = 2 ** header.clusterBits;
  const bytes = new Uint8Array(clusterSize);
  const view = viewOf(bytes);
  view.setUint32(FIELD.magic, MAGIC);
  view.setUint32(FIELD.version, header.version);
  view.setUint32(FIELD.clusterBits, header.clusterBits);
  writeU64be(view, FIELD.virtualSize, header.virtualSize);
  view.setUint32(FIELD.l1Entries, header.l1Entries);
  writeU64be(view, FIELD.l1Offset, header.l1Offset);
  writeU64be(view, FIELD.refcountTableOffset, header.refcountTableOffset);
  view.setUint32(FIELD.refcountTableClusters, header.refcountTableClusters);
  view.setUint32(FIELD.snapshotCount, header.snapshotCount);
  writeU64be(view, FIELD.snapshotsOffset, header.snapshotsOffset);
  let position = V2_LENGTH;
  if (header.version === 3) {
    position = V3_LENGTH + header.unknownFields.byteLength;
    writeU64be(view, FIELD.incompatible, header.incompatible);
    view.setBigUint64(FIELD.compatible, header.compatible);
    view.setBigUint64(FIELD.autoclear, header.autoclear);
    view.setUint32(FIELD.refcountOrder, header.refcountOrder);
    view.setUint32(FIELD.headerLength, position);
    view.setUint8(FIELD.compressionType, COMPRESSION_TYPES.indexOf(header.compressionType));
    bytes.set(header.unknownFields, V3_LENGTH);
  }

  const extensions: HeaderExtension[] = [];
  if (header.backingFormat !== undefined) {
    extensions.push({ type: EXTENSION.backingFormat, data: bytesOfText(header.backingFormat) });
  }
  if (header.dataFile !== undefined) {
    extensions.push({ type: EXTENSION.dataFile, data: bytesOfText(header.dataFile) });
  }
  if (header.version === 3 && clusterSize > FEATURE_NAMES_MIN_CLUSTER) extensions.push(featureNameTable());
  extensions.push(...header.otherExtensions);
  const name = bytesOfText(header.backingFile ?? '');
  const needed = position + extensionsLength(extensions) + name.byteLength;
  if (needed > clusterSize) {
    throw new Qcow2BenchError(
      'qcow2-header-full',
      `header extensions and backing file name need ${String(needed)} bytes; they must fit the header's cluster of ${String(clusterSize)}`,
      { path },
    );
  }
  const nameOffset = writeExtensions(bytes, position, extensions);
  if (name.byteLength > 0) {
    writeU64be(view, FIELD.backingOffset, nameOffset);
    view.setUint32(FIELD.backingLength, name.byteLength);
    bytes.set(name, nameOffset);
  }
  return bytes;
}
