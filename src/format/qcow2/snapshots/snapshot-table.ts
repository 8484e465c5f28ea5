/**
 * The codec of the snapshot table: what an internal snapshot is called, when it was taken, and
 * where its L1 table is.
 *
 *   byte  0 L1 offset u64       8 L1 entries u32    12 id length u16    14 name length u16
 *        16 seconds u32        20 nanoseconds u32   24 vm clock u64     32 vm state size u32
 *        36 extra length u32
 *   then extra data {vm state size u64, disk size u64, icount u64, anything unknown}, id, name, padding to 8
 *
 * (qcow2 specification, "Snapshots".)
 *
 * Invariants: every length is bounded before memory is taken for it; extra data that is not known
 * here is kept. Values that cannot be right are kept to the bit, so that writing the table again
 * changes nothing else in it. Where an L1 table is is not judged here: a broken one makes its own
 * snapshot unusable, not the image (`broken-snapshots.ts`).
 */

import { textOfBytes } from '../../../core/byte-text.ts';
import { alignUp, ceilDiv } from '../../../core/alignment.ts';
import { viewOf, writeU64be } from '../../../core/bytes.ts';
import { hex, Qcow2BenchError } from '../../../core/error.ts';
import { LIMITS } from '../../../core/limits.ts';
import { allocatePages } from '../../../core/page-memory.ts';
import type { BlockDevice } from '../../../device/block-device.ts';
import type { SnapshotInfo } from '../../disk-image.ts';
import type { OpenPurpose } from '../on-disk/header.ts';
import type { HeaderStore } from '../metadata/header-store.ts';
import { ENTRY_SIZE, OFFSET_LIMIT } from '../on-disk/layout.ts';

const FIELD = {
  l1Offset: 0,
  l1Entries: 8,
  idLength: 12,
  nameLength: 14,
  seconds: 16,
  nanoseconds: 20,
  vmClock: 24,
  vmStateSize: 32,
  extraLength: 36,
} as const;
const FIXED_LENGTH = 40;
/** Byte offsets within the extra data. */
const EXTRA = { vmStateSize: 0, diskSize: 8, icount: 16 } as const;
/** What is written: all extra fields that are known. */
const EXTRA_LENGTH = 24;
export const KNOWN_LENGTH = FIXED_LENGTH + EXTRA_LENGTH;
/** An instruction count that was not taken: all bits set. */
const NO_ICOUNT = 0xffff_ffff_ffff_ffffn;
/**
 * Clusters of all snapshots' L1 tables together: each is noted as metadata, so a table that claims
 * the largest L1 for each of 65,536 snapshots would take minutes to open. Real disks stay far
 * below.
 */
const L1_CLUSTERS_MAX = 2 ** 22;
/**
 * Bytes of the file that the entries of a table may span: what is cut from them by a repair does
 * not count otherwise.
 */
const LENGTH_MAX = 2 ** 31 - 1;

/** Bytes of a table that are read at a time. */
const READ_AHEAD = 65_536;
const NOTHING = new Uint8Array(0);
/** Read-only zeroes for bytes past the end of a file. */
const ZEROES = new Uint8Array(READ_AHEAD);

/** An internal snapshot, as the image describes it. */
export interface Snapshot extends SnapshotInfo {
  /** Both as they are stored: text in whatever encoding, kept on rewrite. */
  readonly idBytes: Uint8Array;
  readonly nameBytes: Uint8Array;
  readonly l1Offset: number;
  readonly l1Entries: number;
  /** Extra data after the fields known here, kept on rewrite. */
  readonly unknownExtra: Uint8Array;
  /** As stored, where one of them is above 2^53 − 1: the fields are then rounded. */
  readonly stored?: StoredSizes | undefined;
}

type StoredSizes = Readonly<Record<'l1Offset' | 'vmStateSize' | 'diskSize', bigint>>;

export interface SnapshotTable {
  readonly snapshots: readonly Snapshot[];
  /** Bytes of the table, a multiple of 8. */
  readonly byteLength: number;
  /** Of these, how many behind the last entry pad it: they need not be in the file. */
  readonly padding: number;
  /** Entries without the sizes that version 3 demands, by their index. */
  readonly incomplete: readonly number[];
  /** Entries whose extra data was too long and is cut here, by their index; only for a repair. */
  readonly cut: readonly number[];
  /** Entries that are left out because no table may be so long; only for a repair. */
  readonly dropped: number;
  /** Snapshots that are left out because their L1 table cannot be used; only for a repair. */
  readonly broken: readonly Snapshot[];
}

export const NO_SNAPSHOTS: SnapshotTable = {
  snapshots: [],
  byteLength: 0,
  padding: 0,
  incomplete: [],
  cut: [],
  dropped: 0,
  broken: [],
};

/** Bytes that an entry takes in the table, up to the next one. */
export function snapshotLength({ unknownExtra, idBytes, nameBytes }: Snapshot): number {
  const variable = unknownExtra.byteLength + idBytes.byteLength + nameBytes.byteLength;
  return alignUp(FIXED_LENGTH + EXTRA_LENGTH + variable, 8);
}

/**
 * An entry in the pieces that QEMU writes one by one: fixed fields, extra data, unknown extra data,
 * id, name.
 *
 * @param room for the first two, of `KNOWN_LENGTH` bytes; default new ones
 */
export function encodeSnapshot(
  snapshot: Snapshot,
  room: Uint8Array = new Uint8Array(KNOWN_LENGTH),
): readonly Uint8Array[] {
  const { idBytes, nameBytes, unknownExtra, stored } = snapshot;
  const view = viewOf(room);
  const putSize = (at: number, name: keyof StoredSizes): void => {
    if (stored === undefined) writeU64be(view, at, snapshot[name]);
    else view.setBigUint64(at, stored[name]);
  };
  putSize(FIELD.l1Offset, 'l1Offset');
  view.setUint32(FIELD.l1Entries, snapshot.l1Entries);
  view.setUint16(FIELD.idLength, idBytes.byteLength);
  view.setUint16(FIELD.nameLength, nameBytes.byteLength);
  view.setUint32(FIELD.seconds, snapshot.seconds);
  view.setUint32(FIELD.nanoseconds, snapshot.nanoseconds);
  view.setBigUint64(FIELD.vmClock, snapshot.vmClockNs);
  // One that does not fit reads as none where only this field is known, as from QEMU: a part would
  // be a wrong state.
  view.setUint32(FIELD.vmStateSize, snapshot.vmStateSize <= 0xffff_ffff ? snapshot.vmStateSize : 0);
  view.setUint32(FIELD.extraLength, EXTRA_LENGTH + unknownExtra.byteLength);
  putSize(FIXED_LENGTH + EXTRA.vmStateSize, 'vmStateSize');
  putSize(FIXED_LENGTH + EXTRA.diskSize, 'diskSize');
  view.setBigUint64(FIXED_LENGTH + EXTRA.icount, snapshot.icount ?? NO_ICOUNT);
  const known = [room.subarray(0, FIXED_LENGTH), room.subarray(FIXED_LENGTH)];
  return [...known, unknownExtra, idBytes, nameBytes].filter(({ byteLength }) => byteLength > 0);
}

/**
 * Reads the table that the header points to.
 *
 * @param purpose for `use` every entry has to begin within the file. A check takes zeroes for what
 *   is past its end; a repair also cuts what is too long.
 * @throws Qcow2BenchError `qcow2-bad-snapshot-table` naming the entry and the rule it breaks
 */
export async function readSnapshotTable(
  header: HeaderStore,
  purpose: OpenPurpose | 'repair' = 'use',
): Promise<SnapshotTable> {
  const { snapshotCount, snapshotsOffset, version } = header.values;
  const snapshots: Snapshot[] = [];
  const incomplete: number[] = [];
  const cut: number[] = [];
  const clusterSize = 2 ** header.values.clusterBits;
  const file = new ReadAhead(header.device);
  let length = 0;
  let padding = 0;
  let lengthRewritten = 0;
  let l1Clusters = 0;
  for (let index = 0; index < snapshotCount; index++) {
    const entry = new EntryReader(header, file, { index, offset: snapshotsOffset + length, purpose });
    const fixed = await entry.readFixed();
    const { l1Entries, extraLength, keptExtra, idLength, nameLength } = fixed;
    if (l1Entries * ENTRY_SIZE <= LIMITS.l1TableBytes) {
      l1Clusters += ceilDiv(l1Entries * ENTRY_SIZE, clusterSize);
    }
    if (l1Clusters > L1_CLUSTERS_MAX) {
      entry.fail(`raises the L1 tables of all snapshots above ${String(L1_CLUSTERS_MAX)} clusters`);
    }
    if (keptExtra < extraLength) cut.push(index);
    const lengthBefore = length;
    const entryLength = FIXED_LENGTH + extraLength + idLength + nameLength;
    const paddingBefore = padding;
    padding = alignUp(entryLength, 8) - entryLength;
    length += alignUp(entryLength, 8);
    lengthRewritten += alignUp(FIXED_LENGTH + keptExtra + idLength + nameLength, 8);
    if (lengthRewritten > LIMITS.snapshotTableBytes || length > LENGTH_MAX) {
      if (purpose !== 'repair') entry.fail('makes the snapshot table larger than 64 MiB');
      const dropped = snapshotCount - index;
      const kept = { byteLength: lengthBefore, padding: paddingBefore };
      return { ...NO_SNAPSHOTS, ...kept, snapshots, incomplete, cut, dropped };
    }
    if (version >= 3 && extraLength < EXTRA.diskSize + 8) incomplete.push(index);
    snapshots.push(await entry.readRest(fixed));
  }
  return { ...NO_SNAPSHOTS, snapshots, byteLength: length, padding, incomplete, cut };
}

interface FixedFields {
  readonly view: DataView;
  readonly l1Offset: bigint;
  readonly l1Entries: number;
  readonly extraLength: number;
  /** Bytes of extra data that are taken over. */
  readonly keptExtra: number;
  readonly idLength: number;
  readonly nameLength: number;
}

interface EntryPlace {
  readonly index: number;
  readonly offset: number;
  readonly purpose: OpenPurpose | 'repair';
}

/** Reads one entry, each field with the check that belongs to it. */
class EntryReader {
  readonly #header: HeaderStore;
  readonly #file: ReadAhead;
  readonly #place: EntryPlace;

  constructor(header: HeaderStore, file: ReadAhead, place: EntryPlace) {
    this.#header = header;
    this.#file = file;
    this.#place = place;
  }

  async readFixed(): Promise<FixedFields> {
    const { offset, purpose } = this.#place;
    if (purpose === 'use' && offset === 0) this.fail('overlaps the header');
    if (purpose === 'use' && offset + FIXED_LENGTH > this.#header.device.size()) {
      this.fail('is past the end of the file');
    }
    const view = viewOf(await this.#file.read(offset, FIXED_LENGTH));
    const l1Entries = view.getUint32(FIELD.l1Entries);
    const l1Offset = view.getBigUint64(FIELD.l1Offset);
    const extraLength = view.getUint32(FIELD.extraLength);
    if (extraLength > LIMITS.snapshotExtraBytes && purpose !== 'repair') {
      const wayOut = purpose === 'check' ? '; check --repair all truncates it' : '';
      this.fail(`has ${String(extraLength)} bytes of extra data; at most 1024 are allowed${wayOut}`);
    }
    if (purpose === 'check') this.#checkReadable(l1Offset, l1Entries);
    const idLength = view.getUint16(FIELD.idLength);
    const nameLength = view.getUint16(FIELD.nameLength);
    const keptExtra = Math.min(extraLength, LIMITS.snapshotExtraBytes);
    return { view, l1Offset, l1Entries, extraLength, keptExtra, idLength, nameLength };
  }

  /** The extra data, id and name of an entry, and all of it as values. */
  async readRest(fixed: FixedFields): Promise<Snapshot> {
    const { offset } = this.#place;
    const { extraLength, keptExtra, idLength, nameLength } = fixed;
    const start = offset + FIXED_LENGTH;
    if (keptExtra === extraLength) {
      const rest = await this.#file.read(start, extraLength + idLength + nameLength);
      return this.#decode(fixed, rest.subarray(0, extraLength), rest.subarray(extraLength));
    }
    const extra = await this.#file.read(start, keptExtra);
    return this.#decode(fixed, extra, await this.#file.read(start + extraLength, idLength + nameLength));
  }

  fail(what: string): never {
    throw new Qcow2BenchError('qcow2-bad-snapshot-table', `snapshot ${String(this.#place.index)} ${what}`, {
      path: this.#header.device.path,
      offset: this.#place.offset,
    });
  }

  /**
   * What is wrong with an L1 table is a check's finding, unless no system can read so far: before
   * anything is repaired.
   */
  #checkReadable(l1Offset: bigint, l1Entries: number): void {
    const isAligned = l1Offset % BigInt(2 ** this.#header.values.clusterBits) === 0n;
    if (!isAligned || l1Entries === 0 || l1Entries * ENTRY_SIZE > LIMITS.l1TableBytes) return;
    if (l1Offset >= BigInt(OFFSET_LIMIT)) {
      this.fail(`has an L1 table at ${hex(l1Offset)}, an unreadable offset`);
    }
  }

  #decode(fixed: FixedFields, extraBytes: Uint8Array, names: Uint8Array): Snapshot {
    const { view, l1Offset, l1Entries, idLength } = fixed;
    const extra = viewOf(extraBytes);
    /** A field of the extra data; the entry may end before it. */
    const has = (at: number): boolean => extraBytes.byteLength >= at + 8;
    const vmStateSize = has(EXTRA.vmStateSize)
      ? extra.getBigUint64(EXTRA.vmStateSize)
      : BigInt(view.getUint32(FIELD.vmStateSize));
    const diskSize = has(EXTRA.diskSize)
      ? extra.getBigUint64(EXTRA.diskSize)
      : BigInt(this.#header.values.virtualSize);
    const icount = has(EXTRA.icount) ? extra.getBigUint64(EXTRA.icount) : NO_ICOUNT;
    const isRounded = [l1Offset, vmStateSize, diskSize].some(
      (size) => size > BigInt(Number.MAX_SAFE_INTEGER),
    );
    const idBytes = upToNul(names.subarray(0, idLength));
    const nameBytes = upToNul(names.subarray(idLength));
    return {
      id: textOfBytes(idBytes),
      name: textOfBytes(nameBytes),
      idBytes,
      nameBytes,
      l1Offset: Number(l1Offset),
      l1Entries,
      seconds: view.getUint32(FIELD.seconds),
      nanoseconds: view.getUint32(FIELD.nanoseconds),
      vmClockNs: view.getBigUint64(FIELD.vmClock),
      vmStateSize: Number(vmStateSize),
      diskSize: Number(diskSize),
      icount: icount === NO_ICOUNT ? undefined : icount,
      unknownExtra: copyOf(extraBytes.subarray(EXTRA_LENGTH)),
      stored: isRounded ? { l1Offset, vmStateSize, diskSize } : undefined,
    };
  }
}

/**
 * The table by pieces of the file: an entry each would be a hundred thousand reads in a table as
 * long as there may be.
 */
class ReadAhead {
  readonly #device: BlockDevice;
  #start = 0;
  #bytes: Uint8Array = NOTHING;

  constructor(device: BlockDevice) {
    this.#device = device;
  }

  /** Bytes that stay as they are; zeroes for what is past the end of the file. */
  async read(offset: number, length: number): Promise<Uint8Array> {
    if (length === 0) return NOTHING;
    if (offset >= this.#device.size() && length <= READ_AHEAD) return ZEROES.subarray(0, length);
    if (offset >= this.#device.size()) return new Uint8Array(length);
    if (offset < this.#start || offset + length > this.#start + this.#bytes.byteLength) {
      this.#start = offset;
      this.#bytes = allocatePages(Math.max(length, READ_AHEAD));
      await this.#device.read(offset, this.#bytes, 'snapshot-table');
    }
    return this.#bytes.subarray(offset - this.#start, offset - this.#start + length);
  }
}

/**
 * QEMU takes ids and names for strings of C, and so they end where one would, also when they are
 * rewritten.
 */
function upToNul(bytes: Uint8Array): Uint8Array {
  const end = bytes.indexOf(0);
  return copyOf(end < 0 ? bytes : bytes.subarray(0, end));
}

/** Tens of thousands of snapshots may have nothing at all here, which takes no memory. */
function copyOf(bytes: Uint8Array): Uint8Array {
  return bytes.byteLength === 0 ? NOTHING : bytes.slice();
}
