/**
 * Image files in memory with the stack the bench puts around them: host log below, elision of
 * needless syncs above. What reached the "disk" is in `operations`.
 */

import type { BlockDevice } from '../../src/device/block-device.ts';
import { HostLog, type HostLogRecord } from '../../src/device/host-log.ts';
import { MemoryStorage } from '../../src/device/memory-storage.ts';
import { SyncElision } from '../../src/device/sync-elision.ts';
import type { ImageFiles } from '../../src/format/backing-chain.ts';
import { createImage, type CreateImageOptions } from '../../src/format/registry.ts';

export class RecordedFiles implements ImageFiles {
  readonly storage = new MemoryStorage();
  readonly operations: HostLogRecord[] = [];
  /** Put between the log and the engine, e.g. to make it slow or faulty. */
  wrap: (device: BlockDevice) => BlockDevice = (device) => device;

  open(name: string, options: { readonly label: string; readonly readOnly: boolean }): BlockDevice {
    const log = new HostLog(this.storage.open(name, options), {
      phases: { phase: 'run' },
      sink: (record) => this.operations.push(record),
    });
    return this.wrap(new SyncElision(log));
  }

  async create(name: string, options: Omit<CreateImageOptions, 'device'>): Promise<void> {
    const device = this.storage.create(name, { overwrite: true });
    await createImage({ ...options, device });
    device.close();
  }

  /** Makes `name` a file of these bytes. */
  put(name: string, bytes: Uint8Array): void {
    const device = this.storage.create(name, { overwrite: true });
    device.write(0, bytes, 'data');
    device.close();
  }

  contents(name: string): Uint8Array<ArrayBuffer> {
    return this.storage.open(name).contents();
  }

  /**
   * The operations since the last call that change or sync the image itself, as `W offset length`
   * or `F cause`.
   */
  takeChanges(): string[] {
    const changes = this.operations
      .filter((record) => record.file === 'image' && record.op !== 'read')
      .map(describe);
    this.operations.length = 0;
    return changes;
  }
}

function describe(record: HostLogRecord): string {
  if (record.op === 'sync') return `F ${record.cause}`;
  const letters = { write: 'W', 'zero-range': 'Z', 'punch-hole': 'P', truncate: 'T', read: 'R' } as const;
  return `${letters[record.op]} ${record.purpose} ${String(record.offset)} ${String(record.length)}`;
}

/** Writes and syncs among changes, and the bytes the writes carry. */
export function tally(changes: readonly string[]): { writes: number; syncs: number; bytes: number } {
  const writes = changes.filter((change) => change.startsWith('W '));
  return {
    writes: writes.length,
    syncs: changes.filter((change) => change.startsWith('F ')).length,
    bytes: writes.reduce((sum, write) => sum + Number(write.split(' ')[3]), 0),
  };
}

/** `length` bytes, all equal to `value`. */
export function filled(length: number, value: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(length).fill(value);
}
