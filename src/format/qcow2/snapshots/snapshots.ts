/**
 * Internal snapshots of an open image: taking one, going back to one, dropping one, in QEMU's order
 * of operations.
 *
 *   snapshot table ── entry ─▶ the snapshot's L1 table ─▶ L2 tables and clusters that it shares with the active one
 *
 * Invariants:
 * - What a snapshot leads to is never written in place: its clusters and L2 tables have a refcount
 *   above one wherever the active tables lead to them too, and no copied flag.
 * - The header points to a whole table at every moment; a crash in between leaves clusters counted
 *   too often at worst.
 * - No guest request is in flight; the metadata lock is held throughout.
 */

import { bytesOfText } from '../../../core/byte-text.ts';
import { Qcow2BenchError } from '../../../core/error.ts';
import { LIMITS } from '../../../core/limits.ts';
import { allocatePages } from '../../../core/page-memory.ts';
import type { ImageSnapshots, NewSnapshot } from '../../disk-image.ts';
import { BrokenSnapshots, type L1Fault } from './broken-snapshots.ts';
import type { ImageCore } from '../metadata/image-core.ts';
import { ENTRY_SIZE } from '../on-disk/layout.ts';
import { SharedReferences } from './shared-references.ts';
import { NO_SNAPSHOTS, readSnapshotTable, type Snapshot, type SnapshotTable } from './snapshot-table.ts';
import { StoredSnapshots } from './stored-snapshots.ts';

/** Bytes of a name; QEMU cuts longer ones. */
const NAME_BYTES_MAX = 255;

export interface SnapshotsOptions {
  /**
   * As the image's table has them; left out where the image is opened for a check, which reads the
   * table itself.
   */
  readonly table: SnapshotTable | undefined;
  /** Makes the disk larger or smaller; the lock is held. */
  readonly resize: (virtualSize: number) => Promise<void>;
  /** Whether dirty bitmaps follow the disk: going back to a snapshot would make them wrong. */
  readonly hasBitmaps: () => boolean;
}

export class Snapshots implements ImageSnapshots {
  readonly #core: ImageCore;
  readonly #options: SnapshotsOptions;
  readonly #stored: StoredSnapshots;
  readonly #references: SharedReferences;
  readonly #broken: BrokenSnapshots;

  constructor(core: ImageCore, options: SnapshotsOptions) {
    this.#core = core;
    this.#options = options;
    this.#references = new SharedReferences(core);
    this.#stored = new StoredSnapshots(core, options.table);
    this.#broken = new BrokenSnapshots(core.header, core.metadata);
    this.#broken.find(this.list);
    this.#broken.claim(this.list);
  }

  /** In the order of the table, which is that of their taking. */
  get list(): readonly Snapshot[] {
    return this.#stored.table.snapshots;
  }

  /**
   * The snapshot that `apply` goes back to: an id is looked for first, then a name; of several the
   * first counts.
   */
  find(idOrName: string): Snapshot | undefined {
    return this.list.find(({ id }) => id === idOrName) ?? this.list.find(({ name }) => name === idOrName);
  }

  /** Why the L1 table of a snapshot cannot be used. */
  faultOf(snapshot: Snapshot): L1Fault | undefined {
    return this.#broken.faultOf(snapshot);
  }

  /** As it was read or last written. */
  get table(): SnapshotTable {
    return this.#stored.table;
  }

  /**
   * Reads the table again for a check, with all that may be wrong with it; the lock is held.
   *
   * @param purpose `use` keeps the rules of opening, and what it has passed; `repair` leaves out
   *   what no table may hold, and snapshots that cannot be used, for `rewriteTable` to make that
   *   last.
   * @throws Qcow2BenchError `qcow2-bad-snapshot-table` if not even a check can go on
   */
  async readForCheck(purpose: 'use' | 'check' | 'repair'): Promise<SnapshotTable> {
    // Two tables at a time would be twice the memory.
    this.#stored.table = NO_SNAPSHOTS;
    const table = await readSnapshotTable(this.#core.header, purpose);
    const found = this.#broken.find(table.snapshots);
    const broken = purpose === 'repair' ? found : [];
    const snapshots = table.snapshots.filter((each) => !broken.includes(each));
    this.#stored.table = { ...table, snapshots, broken };
    this.#claimTables();
    return this.#stored.table;
  }

  /**
   * Takes a snapshot of the disk as it is. Its id is one above the largest there is.
   *
   * @throws Qcow2BenchError `snapshot-name-too-long`, `too-many-snapshots`;
   *   `qcow2-refcount-out-of-range` if a cluster cannot be shared once more: the snapshot is not
   *   taken, and clusters may leak, as in QEMU.
   */
  async create({ name, seconds, nanoseconds }: NewSnapshot): Promise<Snapshot> {
    if (this.#core.header.hasDataFile) {
      throw this.#error(
        'snapshot-data-file',
        'the image has an external data file, whose clusters have no refcounts and cannot be shared with a snapshot',
      );
    }
    const nameBytes = bytesOfText(name);
    if (nameBytes.byteLength > NAME_BYTES_MAX) {
      throw this.#error(
        'snapshot-name-too-long',
        `the name has ${String(nameBytes.byteLength)} bytes; at most ${String(NAME_BYTES_MAX)} are allowed`,
      );
    }
    if (this.list.length >= LIMITS.snapshotCount) {
      throw this.#error(
        'too-many-snapshots',
        `the image has ${String(LIMITS.snapshotCount)} snapshots, the maximum: delete one`,
      );
    }
    return this.#change(async () => {
      const { header, tables, metadata } = this.#core;
      const l1 = tables.encodeL1();
      const l1Offset = await this.#stored.writeL1(l1);
      const id = nextId(this.list);
      const snapshot: Snapshot = {
        id,
        name,
        idBytes: Buffer.from(id),
        nameBytes,
        l1Offset,
        l1Entries: tables.l1Entries,
        seconds,
        nanoseconds,
        vmClockNs: 0n,
        vmStateSize: 0,
        diskSize: header.values.virtualSize,
        icount: 0n,
        unknownExtra: new Uint8Array(0),
      };
      await this.#shareActive();
      const table = await this.#stored.write([...this.list, snapshot]).catch(async (error: unknown) => {
        await this.#unshareActive(l1Offset, l1.byteLength);
        throw error;
      });
      await this.#stored.switchTo(table);
      if (l1.byteLength > 0) metadata.add(l1Offset, l1.byteLength, 'l1-table');
      return snapshot;
    });
  }

  /**
   * Makes the disk what it was when the snapshot was taken, its size too; the snapshot stays. What
   * was written since is gone, unless another snapshot has it.
   *
   * @param idOrName as `find` takes it
   * @throws Qcow2BenchError `snapshot-missing`; `snapshot-broken` if its tables cannot be read;
   *   `snapshot-with-bitmaps` if the image has dirty bitmaps, as QEMU refuses
   */
  async apply(idOrName: string): Promise<void> {
    if (this.#options.hasBitmaps()) {
      throw this.#error(
        'snapshot-with-bitmaps',
        'the image has dirty bitmaps, which would not match the reverted disk: remove them with bitmap --remove',
      );
    }
    const snapshot = this.find(idOrName) ?? this.#missing(idOrName);
    this.#broken.refuseToApply(snapshot);
    await this.#change(async () => {
      const { header, tables } = this.#core;
      if (snapshot.diskSize !== header.values.virtualSize) await this.#options.resize(snapshot.diskSize);
      await tables.grow(snapshot.l1Entries, 'exact');
      const taken = await this.#readL1(snapshot);
      const shared = taken.slice();
      await this.#references.change({ offset: snapshot.l1Offset, bytes: shared }, 'add');
      await this.#replaceActive(shared);
      // QEMU puts `taken` there first, with the copied flags of the day: for a moment the file says
      // that tables which the snapshot shares may be written in place. It has to write the table
      // again, and so does this engine, where only those bytes are the same before and after.
      await this.#recheckActive(this.#activeLike(taken));
    });
  }

  /**
   * Drops a snapshot; clusters that nothing else uses are given back. Of one whose L1 table reaches
   * past the end of the file only the entry goes: what it led to stays counted, as a leak.
   *
   * @param nameOrId a name is looked for first, then an id; of several the first goes
   * @throws Qcow2BenchError `snapshot-missing`; `snapshot-broken` if its tables cannot be read, as
   *   QEMU refuses
   */
  async delete(nameOrId: string): Promise<void> {
    const snapshot =
      this.list.find(({ name }) => name === nameOrId) ??
      this.list.find(({ id }) => id === nameOrId) ??
      this.#missing(nameOrId);
    this.#broken.refuseToDelete(snapshot);
    await this.#change(async () => {
      const { refcounts, metadata } = this.#core;
      const rest = this.list.filter((each) => each !== snapshot);
      if (this.#broken.faultOf(snapshot) !== undefined) {
        // The place it claims is free from now on, for the new table too.
        this.#broken.claim(rest);
        try {
          await this.#stored.replace(rest);
        } catch (error) {
          this.#broken.claim(this.list);
          throw error;
        }
        return;
      }
      await this.#stored.replace(rest);
      const l1Length = snapshot.l1Entries * ENTRY_SIZE;
      if (l1Length > 0) metadata.remove(snapshot.l1Offset, l1Length, 'l1-table');
      const bytes = await this.#readL1(snapshot);
      await this.#references.change({ offset: snapshot.l1Offset, bytes }, 'drop');
      await refcounts.free(snapshot.l1Offset, l1Length, 'discard');
      await this.#recheckActive(this.#core.tables.encodeL1());
    });
  }

  /**
   * Shows a snapshot in place of the disk, its size too, until the image is closed. Nothing is
   * written: the image has to be open read-only.
   *
   * @param idOrName as `find` takes it
   * @throws Qcow2BenchError `snapshot-missing`; `snapshot-broken` if its tables cannot be read
   */
  async show(idOrName: string): Promise<void> {
    const { header, tables, lock } = this.#core;
    const snapshot = this.find(idOrName) ?? this.#missing(idOrName);
    this.#broken.refuseToApply(snapshot);
    await lock.hold(async () => {
      header.show(snapshot);
      await tables.load();
    });
  }

  /** Rewrites the table, each entry with all that is known; the lock is held, by a repair. */
  async rewriteTable(): Promise<void> {
    await this.#stored.replace(this.list);
    this.#claimTables();
    await this.#core.flush('snapshot');
  }

  /**
   * No repair writes where an entry says that an L1 table is. The map of an image in use has them
   * already.
   */
  #claimTables(): void {
    if (this.#options.table === undefined) this.#broken.claimAll(this.#stored.table);
  }

  async #change<T>(work: () => Promise<T>): Promise<T> {
    const { header, lock } = this.#core;
    if (header.readOnly) {
      throw this.#error('image-read-only', 'the image is open read-only: open it for writing');
    }
    return lock.hold(async () => {
      header.assertRunning();
      return work();
    });
  }

  /**
   * Counts what the active tables lead to once more. Memory follows even if the file fails: a flag
   * too few is safe.
   */
  async #shareActive(): Promise<void> {
    const { header, tables } = this.#core;
    const bytes = tables.encodeL1();
    try {
      await this.#references.change({ offset: header.values.l1Offset, bytes }, 'add');
    } finally {
      tables.adoptL1(bytes);
    }
  }

  /**
   * Takes back what `#shareActive` counted for a snapshot that does not come about, as on a full
   * disk, and frees its L1 table. What cannot be taken back are leaks.
   */
  async #unshareActive(l1Offset: number, l1Length: number): Promise<void> {
    const { header, tables, refcounts } = this.#core;
    if (header.isStopped) return;
    try {
      await this.#references.change({ offset: header.values.l1Offset, bytes: tables.encodeL1() }, 'drop');
      await refcounts.free(l1Offset, l1Length, 'keep');
      await this.#recheckActive(tables.encodeL1());
    } catch {
      // The failure that led here is the one to report.
    }
  }

  /** Puts other entries into the active L1 table, then drops what the former ones led to. */
  async #replaceActive(entries: Uint8Array): Promise<void> {
    const { header, tables } = this.#core;
    const { l1Offset } = header.values;
    const bytes = this.#activeLike(entries);
    if (bytes.byteLength > 0) await header.device.write(l1Offset, bytes, 'l1-table');
    await header.device.sync('snapshot');
    try {
      await this.#references.change({ offset: l1Offset, bytes: tables.encodeL1() }, 'drop');
    } finally {
      tables.adoptL1(bytes);
    }
  }

  /**
   * Sets copied flags where a reference was the last but one; `bytes` is the active table, with
   * whatever flags.
   */
  async #recheckActive(bytes: Uint8Array): Promise<void> {
    const { header, tables } = this.#core;
    await this.#references.change({ offset: header.values.l1Offset, bytes }, 'recheck');
    tables.adoptL1(bytes);
  }

  /** Entries as an L1 table of the active one's size. */
  #activeLike(entries: Uint8Array): Uint8Array<ArrayBuffer> {
    const bytes = allocatePages(Math.max(1, this.#core.tables.l1Entries * ENTRY_SIZE));
    bytes.set(entries);
    return bytes.subarray(0, this.#core.tables.l1Entries * ENTRY_SIZE);
  }

  async #readL1({ l1Offset, l1Entries }: Snapshot): Promise<Uint8Array<ArrayBuffer>> {
    const length = l1Entries * ENTRY_SIZE;
    if (length === 0) return new Uint8Array(0);
    const bytes = allocatePages(length);
    await this.#core.header.device.read(l1Offset, bytes, 'l1-table');
    return bytes;
  }

  #missing(wanted: string): never {
    const known = this.list.slice(0, 5).map(({ id, name }) => `${id} '${name}'`);
    const more = this.list.length > known.length ? ', …' : '';
    const there = known.length === 0 ? 'the image has none' : `it has ${known.join(', ')}${more}`;
    throw this.#error('snapshot-missing', `no snapshot '${wanted}': ${there}`);
  }

  #error(code: string, message: string): Qcow2BenchError {
    return new Qcow2BenchError(code, message, { path: this.#core.header.device.path });
  }
}

/** Ids are decimal numbers; text without a leading number counts as 0. */
function nextId(snapshots: readonly Snapshot[]): string {
  const numbers = snapshots.map(({ id }) => Number(/^\d+/.exec(id)?.[0] ?? 0));
  return String(numbers.reduce((highest, number) => Math.max(highest, number), 0) + 1);
}
