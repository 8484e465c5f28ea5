/**
 * Which state of the tree an opening begins with: the newest superblock that is whole, and records
 * of the journal after it.
 *
 * Invariants:
 * - A superblock or a record that no sync was to keep in order counts only if all that is new with it
 *   is in the file, by checksums. One that fails is one whose flush never ended: what came before
 *   it is in force.
 * - Of several records only the last has to be proved: each was appended after the one before it
 *   was durable.
 */

import { hex, Qcow2BenchError } from '../../../core/error.ts';
import { allocatePages } from '../../../core/page-memory.ts';
import type { BlockDevice } from '../../../device/block-device.ts';
import { checksum } from '../on-disk/checksum.ts';
import { decodeRecord, within, wrongOperation, type JournalRecord } from '../on-disk/journal-record.ts';
import { BLOCK_SIZE, SUPERBLOCKS } from '../on-disk/layout.ts';
import { lowerHalf } from '../on-disk/node.ts';
import { decodeSnapshots, type StoredSnapshot } from '../on-disk/snapshot-table.ts';
import { decodeSuperblock, hasMagic, type Proofs, type Superblock } from '../on-disk/superblock.ts';
import { walkTree } from '../on-disk/tree-walk.ts';

export interface FoundState {
  readonly superblock: Superblock;
  /** Which of the two it is. */
  readonly slot: number;
  /** In order. */
  readonly records: readonly JournalRecord[];
  /** Larger than that of any superblock in the file. */
  readonly nextGeneration: number;
  /** A newer superblock or record was not whole: it must not come into force later. */
  readonly isFallback: boolean;
}

/** @throws Qcow2BenchError `btree-bad-magic`, `btree-bad-superblock`, `btree-bad-journal` */
export async function findState(device: BlockDevice): Promise<FoundState> {
  const wrong: string[] = [];
  const whole: { readonly superblock: Superblock; readonly slot: number }[] = [];
  let isKnown = false;
  for (let slot = 0; slot < SUPERBLOCKS; slot++) {
    const bytes = allocatePages(BLOCK_SIZE);
    await device.read(slot * BLOCK_SIZE, bytes, 'superblock');
    isKnown ||= hasMagic(bytes);
    const superblock = decodeSuperblock(bytes);
    if (typeof superblock === 'string') wrong.push(`at ${hex(slot * BLOCK_SIZE)}, ${superblock}`);
    else whole.push({ superblock, slot });
  }
  const { path } = device;
  if (!isKnown) {
    throw new Qcow2BenchError('btree-bad-magic', 'the file has no magic of a B-tree image', {
      path,
      offset: 0,
    });
  }
  const candidates = whole.toSorted((a, b) => b.superblock.generation - a.superblock.generation);
  const newest = candidates[0]?.superblock.generation ?? 0;
  for (const [index, { superblock, slot }] of candidates.entries()) {
    // The other one is older: this one was written after it was durable.
    const isProved = !superblock.isUnordered || index > 0 || (await isCommitWhole(device, superblock));
    if (!isProved) {
      wrong.push(`at ${hex(slot * BLOCK_SIZE)}, what it leads to was not written completely`);
      continue;
    }
    const { records, isFallback } = await readJournal(device, superblock);
    return { superblock, slot, records, nextGeneration: newest + 1, isFallback: isFallback || index > 0 };
  }
  throw new Qcow2BenchError(
    'btree-bad-superblock',
    `none of the two superblocks can be used: ${wrong.join('; ')}: restore the image from a copy`,
    { path, offset: 0 },
  );
}

/** @throws Qcow2BenchError `btree-bad-snapshot-table` */
export async function readSnapshots(
  device: BlockDevice,
  { snapshots: place }: Superblock,
): Promise<readonly StoredSnapshot[]> {
  if (place.bytes === 0) return [];
  const offset = place.block * BLOCK_SIZE;
  const refuse = (rule: string): Qcow2BenchError =>
    new Qcow2BenchError(
      'btree-bad-snapshot-table',
      `the snapshot table is damaged: ${rule}: restore the image from a copy`,
      {
        path: device.path,
        offset,
      },
    );
  if (offset + place.bytes > device.size()) throw refuse('it is past the end of the file');
  const bytes = allocatePages(place.bytes);
  await device.read(offset, bytes, 'snapshot-table');
  if (checksum(bytes) !== place.checksum) throw refuse('its checksum is wrong');
  const snapshots = decodeSnapshots(bytes);
  if (typeof snapshots === 'string') throw refuse(snapshots);
  return snapshots;
}

/** Whether all nodes and data that are new with a superblock are in the file. */
async function isCommitWhole(device: BlockDevice, superblock: Superblock): Promise<boolean> {
  const { root, generation, nodeSize, proofs } = superblock;
  const found = { isWhole: true };
  const visited = new Set<number>();
  await walkTree({ device, nodeSize }, root, {
    enters: (reference) => {
      if (!found.isWhole || lowerHalf(reference.generation) !== lowerHalf(generation)) return false;
      if (visited.has(reference.block)) found.isWhole = false;
      visited.add(reference.block);
      return found.isWhole;
    },
    onDamage: () => {
      found.isWhole = false;
    },
  });
  return found.isWhole && (await areDataWhole(device, proofs));
}

async function areDataWhole(device: BlockDevice, proofs: Proofs): Promise<boolean> {
  const bytes = allocatePages(BLOCK_SIZE);
  for (const [block, sum] of proofs) {
    const pending = device.read(block * BLOCK_SIZE, bytes, 'data');
    if (pending !== undefined) await pending;
    if (checksum(bytes) !== sum) return false;
  }
  return true;
}

async function readJournal(
  device: BlockDevice,
  superblock: Superblock,
): Promise<Pick<FoundState, 'records' | 'isFallback'>> {
  const { journal, generation } = superblock;
  const hostBlocks = Math.ceil(device.size() / BLOCK_SIZE);
  if (journal.blocks > 0 && journal.block + journal.blocks > hostBlocks) {
    throw badJournal(device, journal.block, 'it is past the end of the file');
  }
  const records: JournalRecord[] = [];
  const bytes = allocatePages(BLOCK_SIZE);
  while (records.length < journal.blocks) {
    const offset = (journal.block + records.length) * BLOCK_SIZE;
    const pending = device.read(offset, bytes, 'journal');
    if (pending !== undefined) await pending;
    const record = decodeRecord(bytes, { base: generation, sequence: records.length });
    if (record === undefined) break;
    records.push(record);
  }
  const last = records.at(-1);
  const isFallback = last !== undefined && !(await areDataWhole(device, last.proofs));
  if (isFallback) records.pop();
  refuseWrong(device, superblock, records);
  return { records: records.map((record) => within(record, hostBlocks)), isFallback };
}

function refuseWrong(device: BlockDevice, superblock: Superblock, records: readonly JournalRecord[]): void {
  const { journal, virtualSize } = superblock;
  for (const [index, record] of records.entries()) {
    const rule = wrongOperation(record, Math.ceil(virtualSize / BLOCK_SIZE));
    if (rule !== undefined) throw badJournal(device, journal.block + index, rule);
  }
}

function badJournal({ path }: BlockDevice, block: number, rule: string): Qcow2BenchError {
  return new Qcow2BenchError(
    'btree-bad-journal',
    `the journal is damaged: ${rule}: restore the image from a copy`,
    { path, offset: block * BLOCK_SIZE },
  );
}
