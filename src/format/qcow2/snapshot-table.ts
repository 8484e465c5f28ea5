/**
 * The codec of the snapshot table: what an internal snapshot is called, when it was taken, and where its L1 table lies.
 *
 *   byte  0 L1 offset u64       8 L1 entries u32    12 id length u16    14 name length u16
 *        16 seconds u32        20 nanoseconds u32   24 vm clock u64     32 vm state size u32
 *        36 extra length u32
 *   then extra data {vm state size u64, disk size u64, icount u64, anything unknown}, id, name, padding to 8
 *
 * (qcow2 specification, "Snapshots".)
 *
 * Invariants: every length is bounded before memory is taken for it; extra data that nobody here knows is kept.
 */

import { alignUp, ceilDiv } from '../../core/alignment.ts';
import { readU64be, viewOf, writeU64be } from '../../core/bytes.ts';
import { Qcow2BenchError } from '../../core/error.ts';
import { LIMITS } from '../../core/limits.ts';
import { allocatePages } from '../../core/page-memory.ts';
import { textOf } from './header-extensions.ts';
import type { HeaderStore } from './header-store.ts';
import { ENTRY_SIZE } from './layout.ts';

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
/** An instruction count that was not taken: all bits set. */
const NO_ICOUNT = 0xffff_ffff_ffff_ffffn;
/**
 * Clusters of all snapshots' L1 tables together: each is noted as metadata, so a table that claims the largest L1 for
 * each of 65,536 snapshots would take minutes to open. Real disks stay far below.
 */
const L1_CLUSTERS_MAX = 2 ** 22;

/** An internal snapshot, as the image describes it. */
export interface Snapshot {
  /** Unique within the image; QEMU gives decimal numbers. */
  readonly id: string;
  /** Need not be unique. */
  readonly name: string;
  /** Both as they are stored: text in whatever encoding, kept on rewrite. */
  readonly idBytes: Uint8Array;
  readonly nameBytes: Uint8Array;
  readonly l1Offset: number;
  readonly l1Entries: number;
  /** When it was taken: since 1970, UTC. */
  readonly seconds: number;
  readonly nanoseconds: number;
  /** How long the guest had run, in nanoseconds. */
  readonly vmClockNs: bigint;
  /** Bytes of the guest's memory and devices, stored past the end of the disk; 0 if only the disk was taken. */
  readonly vmStateSize: number;
  /** Bytes of the disk when it was taken. */
  readonly diskSize: number;
  /** Instructions that the guest had executed, if they were counted. */
  readonly icount: bigint | undefined;
  /** Extra data after the fields known here, kept on rewrite. */
  readonly unknownExtra: Uint8Array;
}

export interface SnapshotTable {
  readonly snapshots: readonly Snapshot[];
  /** Bytes of the table in the file. */
  readonly byteLength: number;
  /** Entries without the sizes that version 3 demands, by their index. */
  readonly incomplete: readonly number[];
}

/** Bytes that an entry takes in the table, up to the next one. */
export function snapshotLength({ unknownExtra, idBytes, nameBytes }: Snapshot): number {
  const variable = unknownExtra.byteLength + idBytes.byteLength + nameBytes.byteLength;
  return alignUp(FIXED_LENGTH + EXTRA_LENGTH + variable, 8);
}

/** An entry in the pieces that QEMU writes one by one: fixed fields, extra data, unknown extra data, id, name. */
export function encodeSnapshot(snapshot: Snapshot): readonly Uint8Array[] {
  const { idBytes, nameBytes, unknownExtra } = snapshot;
  const fixed = new Uint8Array(FIXED_LENGTH);
  const view = viewOf(fixed);
  writeU64be(view, FIELD.l1Offset, snapshot.l1Offset);
  view.setUint32(FIELD.l1Entries, snapshot.l1Entries);
  view.setUint16(FIELD.idLength, idBytes.byteLength);
  view.setUint16(FIELD.nameLength, nameBytes.byteLength);
  view.setUint32(FIELD.seconds, snapshot.seconds);
  view.setUint32(FIELD.nanoseconds, snapshot.nanoseconds);
  view.setBigUint64(FIELD.vmClock, snapshot.vmClockNs);
  // One that does not fit reads as none where only this field is known, as from QEMU: a part would be a wrong state.
  view.setUint32(FIELD.vmStateSize, snapshot.vmStateSize <= 0xffff_ffff ? snapshot.vmStateSize : 0);
  view.setUint32(FIELD.extraLength, EXTRA_LENGTH + unknownExtra.byteLength);
  const extra = new Uint8Array(EXTRA_LENGTH);
  writeU64be(viewOf(extra), EXTRA.vmStateSize, snapshot.vmStateSize);
  writeU64be(viewOf(extra), EXTRA.diskSize, snapshot.diskSize);
  viewOf(extra).setBigUint64(EXTRA.icount, snapshot.icount ?? NO_ICOUNT);
  return [fixed, extra, unknownExtra, idBytes, nameBytes].filter(({ byteLength }) => byteLength > 0);
}

/** @throws Qcow2BenchError `qcow2-bad-snapshot-table` naming the entry and the rule it breaks */
export async function readSnapshotTable(header: HeaderStore): Promise<SnapshotTable> {
  const { snapshotCount, snapshotsOffset } = header.values;
  const { device } = header;
  const snapshots: Snapshot[] = [];
  const incomplete: number[] = [];
  const clusterSize = 2 ** header.values.clusterBits;
  let length = 0;
  let l1Clusters = 0;
  for (let index = 0; index < snapshotCount; index++) {
    const offset = snapshotsOffset + length;
    const entry = new EntryReader(header, { index, offset });
    const fixed = await entry.readFixed();
    const { l1Entries, variableLength, extraLength } = fixed;
    if (header.values.version >= 3 && extraLength < EXTRA.diskSize + 8) incomplete.push(index);
    l1Clusters += ceilDiv(l1Entries * ENTRY_SIZE, clusterSize);
    if (l1Clusters > L1_CLUSTERS_MAX) {
      entry.fail(`brings the L1 tables of all snapshots above ${String(L1_CLUSTERS_MAX)} clusters`);
    }
    length += alignUp(FIXED_LENGTH + variableLength, 8);
    if (length > LIMITS.snapshotTableBytes) entry.fail('makes the snapshot table larger than 64 MiB');
    const variable = allocatePages(Math.max(1, variableLength)).subarray(0, variableLength);
    if (variableLength > 0) await device.read(offset + FIXED_LENGTH, variable, 'snapshot-table');
    snapshots.push(entry.decode(fixed, variable));
  }
  return { snapshots, byteLength: length, incomplete };
}

interface FixedFields {
  readonly view: DataView;
  readonly l1Offset: number;
  readonly l1Entries: number;
  readonly extraLength: number;
  readonly idLength: number;
  /** Bytes of extra data, id and name together. */
  readonly variableLength: number;
}

/** Reads one entry, each field with the check that belongs to it. */
class EntryReader {
  readonly #header: HeaderStore;
  readonly #index: number;
  readonly #offset: number;

  constructor(header: HeaderStore, place: { readonly index: number; readonly offset: number }) {
    this.#header = header;
    this.#index = place.index;
    this.#offset = place.offset;
  }

  async readFixed(): Promise<FixedFields> {
    const { device, values } = this.#header;
    const fileSize = device.size();
    if (this.#offset + FIXED_LENGTH > fileSize) this.fail('lies past the end of the file');
    const bytes = allocatePages(FIXED_LENGTH);
    await device.read(this.#offset, bytes, 'snapshot-table');
    const view = viewOf(bytes);
    const l1Entries = view.getUint32(FIELD.l1Entries);
    const l1Offset = readU64be(view, FIELD.l1Offset) ?? this.fail('has an L1 table above 2^53 − 1');
    const extraLength = view.getUint32(FIELD.extraLength);
    if (extraLength > LIMITS.snapshotExtraBytes) {
      this.fail(`has ${String(extraLength)} bytes of extra data; at most 1024 are allowed`);
    }
    if (l1Entries * ENTRY_SIZE > LIMITS.l1TableBytes) {
      this.fail(`has an L1 table of ${String(l1Entries)} entries, above 32 MiB`);
    }
    if (l1Offset % 2 ** values.clusterBits !== 0) {
      this.fail('has an L1 table that is not aligned to a cluster');
    }
    if (l1Entries > 0 && l1Offset >= fileSize) this.fail('has an L1 table past the end of the file');
    const idLength = view.getUint16(FIELD.idLength);
    const variableLength = extraLength + idLength + view.getUint16(FIELD.nameLength);
    return { view, l1Offset, l1Entries, extraLength, idLength, variableLength };
  }

  decode(fixed: FixedFields, variable: Uint8Array): Snapshot {
    const { view, l1Offset, l1Entries, extraLength, idLength } = fixed;
    const extra = viewOf(variable.subarray(0, extraLength));
    /** A field of the extra data; the entry may end before it. */
    const has = (at: number): boolean => extraLength >= at + 8;
    const size = (at: number, fallback: number): number =>
      has(at) ? (readU64be(extra, at) ?? this.fail('has a size above 2^53 − 1')) : fallback;
    const icount = has(EXTRA.icount) ? extra.getBigUint64(EXTRA.icount) : NO_ICOUNT;
    const idBytes = variable.slice(extraLength, extraLength + idLength);
    const nameBytes = variable.slice(extraLength + idLength);
    return {
      id: textOf(idBytes),
      name: textOf(nameBytes),
      idBytes,
      nameBytes,
      l1Offset,
      l1Entries,
      seconds: view.getUint32(FIELD.seconds),
      nanoseconds: view.getUint32(FIELD.nanoseconds),
      vmClockNs: view.getBigUint64(FIELD.vmClock),
      vmStateSize: size(EXTRA.vmStateSize, view.getUint32(FIELD.vmStateSize)),
      diskSize: size(EXTRA.diskSize, this.#header.values.virtualSize),
      icount: icount === NO_ICOUNT ? undefined : icount,
      unknownExtra: variable.slice(Math.min(extraLength, EXTRA_LENGTH), extraLength),
    };
  }

  fail(what: string): never {
    throw new Qcow2BenchError('qcow2-bad-snapshot-table', `snapshot ${String(this.#index)} ${what}`, {
      path: this.#header.device.path,
      offset: this.#offset,
    });
  }
}
