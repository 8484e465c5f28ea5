/**
 * What is where in an image file, read while no process has it open: the kind of metadata at a host
 * offset, and which guest byte a host byte holds.
 *
 * Invariants of all readers (`readLayout` of a format):
 * - Only the codecs of the format are used, none of the code that serves requests: a statement about
 *   another program's operations does not lean on the engine that they are compared with.
 * - Memory is taken for tables that the file has room for, each bounded by its format's header.
 */

import { viewOf } from '../core/bytes.ts';
import type { GuestOffset, HostOffset } from '../core/offsets.ts';
import type { BlockDevice } from '../device/block-device.ts';
import type { Purpose } from '../device/purpose.ts';

export interface FileLayout {
  /**
   * Bytes of the unit in which host space changes hands; for raw any one, as guest and host are the
   * same.
   */
  readonly clusterSize: number;
  /** The metadata at a host offset, in bytes; `undefined` where there is none. */
  metadataAt(hostOffset: HostOffset): Purpose | undefined;
  /** The guest offset of the byte at a host offset; `undefined` where no guest cluster is. */
  guestOffsetAt(hostOffset: HostOffset): GuestOffset | undefined;
}

/**
 * The metadata at a host offset of a file that was changed: what is there at the end counts, and where
 * that is nothing, what was there at the start.
 */
export function metadataIn(
  hostOffset: HostOffset,
  { before, after }: { readonly before: FileLayout; readonly after: FileLayout },
): Purpose | undefined {
  const metadata = after.metadataAt(hostOffset);
  if (metadata !== undefined || after.guestOffsetAt(hostOffset) !== undefined) return metadata;
  return before.metadataAt(hostOffset);
}

/** The layout of a format with clusters, filled from its tables. */
export class ClusterMap implements FileLayout {
  readonly clusterSize: number;
  readonly #metadata = new Map<number, Purpose>();
  /** Guest cluster by host cluster. */
  readonly #guestClusters = new Map<number, number>();

  constructor(clusterSize: number) {
    this.clusterSize = clusterSize;
  }

  metadataAt(hostOffset: HostOffset): Purpose | undefined {
    return this.#metadata.get(Math.floor(hostOffset / this.clusterSize));
  }

  guestOffsetAt(hostOffset: HostOffset): GuestOffset | undefined {
    const guestCluster = this.#guestClusters.get(Math.floor(hostOffset / this.clusterSize));
    return guestCluster === undefined
      ? undefined
      : guestCluster * this.clusterSize + (hostOffset % this.clusterSize);
  }

  addMetadata(hostOffset: HostOffset, length: number, purpose: Purpose): void {
    for (let at = hostOffset; at < hostOffset + length; at += this.clusterSize) {
      this.#metadata.set(at / this.clusterSize, purpose);
    }
  }

  /** Does nothing where a guest cluster is already. */
  addGuestCluster(guestCluster: number, hostOffset: HostOffset): void {
    const index = Math.floor(hostOffset / this.clusterSize);
    if (!this.#guestClusters.has(index)) this.#guestClusters.set(index, guestCluster);
  }
}

/** A table of the file, for its codec. */
export async function readTable(device: BlockDevice, offset: number, length: number): Promise<DataView> {
  const bytes = new Uint8Array(length);
  await device.read(offset, bytes, 'l2-table');
  return viewOf(bytes);
}
