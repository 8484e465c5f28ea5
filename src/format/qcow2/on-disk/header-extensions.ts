/**
 * Header extensions: typed blocks between the fixed header and the backing file name.
 *
 *   byte 0 type u32   4 length u32   8 data, padded with zeroes to a multiple of 8
 *
 * (QEMU's docs/interop/qcow2.txt, section "Header extensions".) Invariants: no length is trusted;
 * extensions that are not rebuilt from other values are kept as they are, in file order.
 */

import { textUpToNul } from '../../../core/byte-text.ts';
import { alignUp } from '../../../core/alignment.ts';
import { viewOf } from '../../../core/bytes.ts';
import { Qcow2BenchError, hex } from '../../../core/error.ts';
import { FEATURE_NAMES } from './layout.ts';

/** Types of extensions that are known here. */
export const EXTENSION = {
  end: 0,
  backingFormat: 0xe279_2aca,
  featureNames: 0x6803_f857,
  bitmaps: 0x2385_2875,
  dataFile: 0x4441_5441,
  luksKeys: 0x0537_be77,
} as const;

/** As in QEMU, whose buffer for the name has one byte more. */
const BACKING_FORMAT_LENGTH_MAX = 15;

/** Bytes of type and length before an extension's data. */
const PREFIX_LENGTH = 8;
/** Bytes of an entry of the feature name table: type, bit, name padded with NULs. */
const FEATURE_NAME_LENGTH = 48;
const FEATURE_NAME_TEXT = 2;

export interface HeaderExtension {
  readonly type: number;
  readonly data: Uint8Array;
}

/**
 * Reads extensions from `start` up to the end marker, or to `end`.
 *
 * @param cluster the header cluster
 * @param hasKeys the image is encrypted by LUKS
 * @throws Qcow2BenchError `qcow2-extension-too-long`, `qcow2-bad-extension`
 */
export function parseExtensions(
  cluster: Uint8Array,
  range: { readonly start: number; readonly end: number },
  { path, hasKeys }: { readonly path: string; readonly hasKeys: boolean },
): HeaderExtension[] {
  const view = viewOf(cluster);
  const end = Math.min(range.end, cluster.byteLength);
  const found: HeaderExtension[] = [];
  let offset = range.start;
  // A file may end early and reads as zeroes there; a name of the backing file cuts nothing off.
  while (offset < range.end && offset + PREFIX_LENGTH <= cluster.byteLength) {
    const type = view.getUint32(offset);
    const length = view.getUint32(offset + 4);
    const dataOffset = offset + PREFIX_LENGTH;
    if (length > end - dataOffset) {
      throw new Qcow2BenchError(
        'qcow2-extension-too-long',
        `the header extension ${hex(type)} claims ${String(length)} bytes, past the end of the header`,
        { path, offset },
      );
    }
    // QEMU refuses a wrong length in the end marker too.
    if (type === EXTENSION.end) break;
    if (!(hasKeys && type === EXTENSION.luksKeys)) checkKnown({ type, length }, { path, offset });
    found.push({ type, data: cluster.slice(dataOffset, dataOffset + length) });
    offset = dataOffset + alignUp(length, 8);
  }
  return found;
}

/**
 * Extensions for which QEMU refuses an image. Bitmaps are checked where they are read: a disk can be
 * copied without them.
 */
function checkKnown(
  { type, length }: { readonly type: number; readonly length: number },
  place: { readonly path: string; readonly offset: number },
): void {
  if (type === EXTENSION.backingFormat && length > BACKING_FORMAT_LENGTH_MAX) {
    throw new Qcow2BenchError(
      'qcow2-bad-extension',
      `the name of the backing file's format has ${String(length)} bytes; at most ${String(BACKING_FORMAT_LENGTH_MAX)} are possible`,
      place,
    );
  }
  if (type === EXTENSION.luksKeys) {
    const message = 'the header has an extension with LUKS keys, but the image is not encrypted';
    throw new Qcow2BenchError('qcow2-bad-extension', message, place);
  }
}

/** Bytes that extensions and the end marker take. */
export function extensionsLength(extensions: readonly HeaderExtension[]): number {
  let length = PREFIX_LENGTH;
  for (const { data } of extensions) length += PREFIX_LENGTH + alignUp(data.byteLength, 8);
  return length;
}

/** Writes extensions and the end marker from `start` on; answers where they end. */
export function writeExtensions(
  cluster: Uint8Array,
  start: number,
  extensions: readonly HeaderExtension[],
): number {
  const view = viewOf(cluster);
  let offset = start;
  for (const { type, data } of extensions) {
    view.setUint32(offset, type);
    view.setUint32(offset + 4, data.byteLength);
    cluster.set(data, offset + PREFIX_LENGTH);
    offset += PREFIX_LENGTH + alignUp(data.byteLength, 8);
  }
  cluster.fill(0, offset, offset + PREFIX_LENGTH);
  return offset + PREFIX_LENGTH;
}

/** The feature name table that QEMU 7.2 writes. */
export function featureNameTable(): HeaderExtension {
  const data = new Uint8Array(FEATURE_NAMES.length * FEATURE_NAME_LENGTH);
  for (const [index, { type, bit, name }] of FEATURE_NAMES.entries()) {
    data.set([type, bit], index * FEATURE_NAME_LENGTH);
    data.set(Buffer.from(name), index * FEATURE_NAME_LENGTH + FEATURE_NAME_TEXT);
  }
  return { type: EXTENSION.featureNames, data };
}

/**
 * What to call incompatible feature `bit`: the format's own name, or else what the image claims.
 */
export function featureName(bit: number, extensions: readonly HeaderExtension[]): string {
  const own = FEATURE_NAMES.find((feature) => feature.type === 0 && feature.bit === bit);
  if (own !== undefined) return own.name;
  const table = extensions.find(({ type }) => type === EXTENSION.featureNames)?.data ?? new Uint8Array(0);
  for (let at = 0; at + FEATURE_NAME_LENGTH <= table.byteLength; at += FEATURE_NAME_LENGTH) {
    if (table[at] === 0 && table[at + 1] === bit) {
      const name = textUpToNul(table.subarray(at + FEATURE_NAME_TEXT, at + FEATURE_NAME_LENGTH));
      return `named '${name.replace(/[^\x20-\x7e]/g, '?')}'`;
    }
  }
  return 'unnamed';
}
