/** The table of snapshots: the root of each one's tree, and what is known of it. */

import { bytesOfText, textOfBytes } from '../../../core/byte-text.ts';
import { readU64le, viewOf, writeU64le } from '../../../core/bytes.ts';
import { LIMITS } from '../../../core/limits.ts';
import type { SnapshotInfo } from '../../disk-image.ts';
import { VIRTUAL_SIZE_MAX } from './layout.ts';
import { readRoot, writeRoot, type TreeRoot } from './superblock.ts';

export interface StoredSnapshot extends SnapshotInfo {
  readonly root: TreeRoot;
  /** Extents and nodes of this epoch, and of older ones, may be its. */
  readonly epoch: number;
}

/** Bytes before the id and the name. */
const FIXED_BYTES = 64;
const ENTRY_FIELD = {
  root: 0,
  epoch: 20,
  diskSize: 24,
  seconds: 32,
  vmClock: 40,
  nanoseconds: 48,
  idLength: 52,
  nameLength: 54,
} as const;

export function encodeSnapshots(snapshots: readonly StoredSnapshot[]): Uint8Array {
  const texts = snapshots.map(({ id, name }) => ({ id: bytesOfText(id), name: bytesOfText(name) }));
  const length = texts.reduce((sum, { id, name }) => sum + sizeOf(id.byteLength, name.byteLength), 0);
  const bytes = new Uint8Array(length);
  const view = viewOf(bytes);
  let at = 0;
  for (const [index, snapshot] of snapshots.entries()) {
    const { id, name } = texts[index] as (typeof texts)[number];
    writeRoot(view, at + ENTRY_FIELD.root, snapshot.root);
    view.setUint32(at + ENTRY_FIELD.epoch, snapshot.epoch, true);
    writeU64le(view, at + ENTRY_FIELD.diskSize, snapshot.diskSize);
    writeU64le(view, at + ENTRY_FIELD.seconds, snapshot.seconds);
    view.setBigUint64(at + ENTRY_FIELD.vmClock, snapshot.vmClockNs, true);
    view.setUint32(at + ENTRY_FIELD.nanoseconds, snapshot.nanoseconds, true);
    view.setUint16(at + ENTRY_FIELD.idLength, id.byteLength, true);
    view.setUint16(at + ENTRY_FIELD.nameLength, name.byteLength, true);
    bytes.set(id, at + FIXED_BYTES);
    bytes.set(name, at + FIXED_BYTES + id.byteLength);
    at += sizeOf(id.byteLength, name.byteLength);
  }
  return bytes;
}

/** @returns in words, what is wrong; or the snapshots, in the order of their taking */
export function decodeSnapshots(bytes: Uint8Array): readonly StoredSnapshot[] | string {
  const view = viewOf(bytes);
  const snapshots: StoredSnapshot[] = [];
  for (let at = 0; at < bytes.byteLength;) {
    if (at + FIXED_BYTES > bytes.byteLength) return 'the last entry is truncated';
    if (snapshots.length === LIMITS.snapshotCount) {
      return `it has more than ${String(LIMITS.snapshotCount)} entries`;
    }
    const idLength = view.getUint16(at + ENTRY_FIELD.idLength, true);
    const nameLength = view.getUint16(at + ENTRY_FIELD.nameLength, true);
    const names = at + FIXED_BYTES;
    if (names + idLength + nameLength > bytes.byteLength) return 'the last entry is truncated';
    const root = readRoot(view, at + ENTRY_FIELD.root);
    if (typeof root === 'string') return `of entry ${String(snapshots.length)}, ${root}`;
    const diskSize = readU64le(view, at + ENTRY_FIELD.diskSize);
    const seconds = readU64le(view, at + ENTRY_FIELD.seconds);
    if (
      diskSize === undefined ||
      diskSize > VIRTUAL_SIZE_MAX ||
      diskSize % 512 !== 0 ||
      seconds === undefined
    ) {
      return `entry ${String(snapshots.length)} has an impossible size or time`;
    }
    snapshots.push({
      id: textOfBytes(bytes.subarray(names, names + idLength)),
      name: textOfBytes(bytes.subarray(names + idLength, names + idLength + nameLength)),
      seconds,
      nanoseconds: view.getUint32(at + ENTRY_FIELD.nanoseconds, true),
      vmClockNs: view.getBigUint64(at + ENTRY_FIELD.vmClock, true),
      vmStateSize: 0,
      diskSize,
      icount: undefined,
      root,
      epoch: view.getUint32(at + ENTRY_FIELD.epoch, true),
    });
    at += sizeOf(idLength, nameLength);
  }
  return snapshots;
}

function sizeOf(idLength: number, nameLength: number): number {
  return FIXED_BYTES + Math.ceil((idLength + nameLength) / 8) * 8;
}
