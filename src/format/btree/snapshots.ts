/**
 * Internal snapshots: roots of trees that are kept. Taking one costs a commit and nothing else; what it
 * shares with the disk is known by the epoch of nodes and extents.
 *
 * Invariants: no guest request is in flight; the lock is held throughout.
 */

import { bytesOfText } from '../../core/byte-text.ts';
import { Qcow2BenchError } from '../../core/error.ts';
import { LIMITS } from '../../core/limits.ts';
import type { ImageSnapshots, NewSnapshot } from '../disk-image.ts';
import type { StoredSnapshot } from './on-disk/snapshot-table.ts';
import { claimAll } from './tree/claims.ts';
import type { ImageCore } from './tree/image-core.ts';

/** Bytes of a name; as in qcow2. */
const NAME_BYTES_MAX = 255;

export class BtreeSnapshots implements ImageSnapshots {
  readonly #core: ImageCore;

  constructor(core: ImageCore) {
    this.#core = core;
  }

  get list(): readonly StoredSnapshot[] {
    return this.#core.snapshots;
  }

  find(idOrName: string): StoredSnapshot | undefined {
    return this.list.find(({ id }) => id === idOrName) ?? this.list.find(({ name }) => name === idOrName);
  }

  /** @throws Qcow2BenchError `snapshot-name-too-long`, `too-many-snapshots` */
  async create({ name, seconds, nanoseconds }: NewSnapshot): Promise<StoredSnapshot> {
    const length = bytesOfText(name).byteLength;
    if (length > NAME_BYTES_MAX) {
      throw this.#error(
        'snapshot-name-too-long',
        `the name has ${String(length)} bytes; at most ${String(NAME_BYTES_MAX)} are allowed`,
      );
    }
    if (this.list.length >= LIMITS.snapshotCount) {
      throw this.#error(
        'too-many-snapshots',
        `the image has ${String(LIMITS.snapshotCount)} snapshots, the maximum: delete one`,
      );
    }
    const core = this.#core;
    return core.lock.hold(async () => {
      const { nodes } = core;
      await nodes.write();
      const snapshot: StoredSnapshot = {
        id: String(1 + this.list.reduce((largest, { id }) => Math.max(largest, Number(id) || 0), 0)),
        name,
        seconds,
        nanoseconds,
        vmClockNs: 0n,
        vmStateSize: 0,
        diskSize: core.virtualSize,
        icount: undefined,
        root: nodes.root,
        epoch: nodes.epoch,
      };
      nodes.epoch++;
      await core.setSnapshots([...this.list, snapshot]);
      await core.commit('snapshot');
      return snapshot;
    });
  }

  async apply(idOrName: string): Promise<void> {
    const core = this.#core;
    const { root, diskSize } = this.#named(idOrName);
    await core.lock.hold(async () => {
      core.setVirtualSize(diskSize);
      await core.setSnapshots(this.list, root);
      await core.commit('snapshot');
      await claimAll(core);
    });
  }

  async delete(nameOrId: string): Promise<void> {
    const core = this.#core;
    const snapshot = this.list.find(({ name }) => name === nameOrId) ?? this.#named(nameOrId);
    await core.lock.hold(async () => {
      await core.setSnapshots(this.list.filter((each) => each !== snapshot));
      await core.commit('snapshot');
      await claimAll(core);
    });
  }

  show(idOrName: string): Promise<void> {
    const { root, diskSize } = this.#named(idOrName);
    this.#core.virtualSize = diskSize;
    this.#core.nodes.reset(root, false);
    return Promise.resolve();
  }

  /** @throws Qcow2BenchError `snapshot-missing` */
  #named(idOrName: string): StoredSnapshot {
    const snapshot = this.find(idOrName);
    if (snapshot === undefined) {
      throw this.#error('snapshot-missing', `the image has no snapshot '${idOrName}'`);
    }
    return snapshot;
  }

  #error(code: string, message: string): Qcow2BenchError {
    return new Qcow2BenchError(code, message, { path: this.#core.device.path });
  }
}
