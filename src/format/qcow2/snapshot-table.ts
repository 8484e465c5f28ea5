/**
 * The snapshot table, as far as finding what internal snapshots refer to needs it.
 *
 *   byte  0 L1 offset u64       8 L1 entries u32    12 id length u16    14 name length u16
 *        16 seconds u32        20 nanoseconds u32   24 vm clock u64     32 vm state size u32
 *        36 extra length u32   then extra data, id, name, padding to 8
 *
 * (qcow2 specification, "Snapshots".) Invariant: every length is bounded before memory is taken for it.
 */

import { alignUp, ceilDiv } from '../../core/alignment.ts';
import { readU64be, viewOf } from '../../core/bytes.ts';
import { Qcow2BenchError } from '../../core/error.ts';
import { LIMITS } from '../../core/limits.ts';
import { allocatePages } from '../../core/page-memory.ts';
import type { HeaderStore } from './header-store.ts';
import { ENTRY_SIZE } from './layout.ts';

const FIELD = { l1Offset: 0, l1Entries: 8, idLength: 12, nameLength: 14, extraLength: 36 } as const;
const FIXED_LENGTH = 40;
/**
 * Clusters of all snapshots' L1 tables together: each is noted as metadata, so a table that claims the largest L1 for
 * each of 65,536 snapshots would take minutes to open. Real disks stay far below.
 */
const L1_CLUSTERS_MAX = 2 ** 22;

export interface SnapshotReference {
  readonly l1Offset: number;
  readonly l1Entries: number;
}

export interface SnapshotTable {
  readonly snapshots: readonly SnapshotReference[];
  /** Bytes of the table in the file. */
  readonly byteLength: number;
}

/** @throws Qcow2BenchError `qcow2-bad-snapshot-table` naming the entry and the rule it breaks */
export async function readSnapshotTable(header: HeaderStore): Promise<SnapshotTable> {
  const { snapshotCount, snapshotsOffset } = header.values;
  const { device } = header;
  const snapshots: SnapshotReference[] = [];
  const clusterSize = 2 ** header.values.clusterBits;
  let length = 0;
  let l1Clusters = 0;
  for (let index = 0; index < snapshotCount; index++) {
    const offset = snapshotsOffset + length;
    const fail = (what: string): never => {
      throw new Qcow2BenchError('qcow2-bad-snapshot-table', `snapshot ${String(index)} ${what}`, {
        path: device.path,
        offset,
      });
    };
    if (offset + FIXED_LENGTH > device.size()) fail('lies past the end of the file');
    const fixed = allocatePages(FIXED_LENGTH);
    await device.read(offset, fixed, 'snapshot-table');
    const view = viewOf(fixed);
    const l1Entries = view.getUint32(FIELD.l1Entries);
    const l1Offset = readU64be(view, FIELD.l1Offset) ?? fail('has an L1 table above 2^53 − 1');
    const extra = view.getUint32(FIELD.extraLength);
    if (extra > LIMITS.snapshotExtraBytes) {
      fail(`has ${String(extra)} bytes of extra data; at most 1024 are allowed`);
    }
    if (l1Entries * ENTRY_SIZE > LIMITS.l1TableBytes) {
      fail(`has an L1 table of ${String(l1Entries)} entries, above 32 MiB`);
    }
    if (l1Offset % clusterSize !== 0) fail('has an L1 table that is not aligned to a cluster');
    if (l1Entries > 0 && l1Offset >= device.size()) fail('has an L1 table past the end of the file');
    l1Clusters += ceilDiv(l1Entries * ENTRY_SIZE, clusterSize);
    if (l1Clusters > L1_CLUSTERS_MAX) {
      fail(`brings the L1 tables of all snapshots above ${String(L1_CLUSTERS_MAX)} clusters`);
    }
    snapshots.push({ l1Offset, l1Entries });
    length += alignUp(
      FIXED_LENGTH + extra + view.getUint16(FIELD.idLength) + view.getUint16(FIELD.nameLength),
      8,
    );
    if (length > LIMITS.snapshotTableBytes) fail('makes the snapshot table larger than 64 MiB');
  }
  return { snapshots, byteLength: length };
}
