/** Logs of other programs for tests: made of entries, of a recording of ours, or read from a file. */

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';

import { MemoryDevice } from '../../src/device/memory-device.ts';
import { SparseBytes } from '../../src/device/sparse-bytes.ts';
import type { BaseImage } from '../../src/crash/base-image.ts';
import type { LoggedRequest } from '../../src/crash/log-recording.ts';
import { applyOperation } from '../../src/crash/layers.ts';
import type { PageFiles } from '../../src/crash/pages.ts';
import { ScratchFiles, StateDevice } from '../../src/crash/state-device.ts';
import { alignDown, alignUp, SECTOR_SIZE } from '../../src/core/alignment.ts';
import type { Recording } from '../../src/crash/recording.ts';
import {
  DM_LOG_SECTOR_SIZE,
  encodeDmLogEntry,
  encodeDmLogHead,
} from '../../src/workload/trace/dm-log-writes.ts';

/** An entry to be written. */
export interface NewEntry {
  readonly op: 'write' | 'discard' | 'flush' | 'mark';
  readonly offset?: number;
  /** Of a discard. */
  readonly length?: number;
  /** Of a write. */
  readonly bytes?: Uint8Array | undefined;
  readonly fua?: boolean;
  /** Of a mark. */
  readonly text?: string;
}

const MARK = 8;

/** The bytes of a log. */
export function logOf(entries: readonly NewEntry[], counted = entries.length): Uint8Array {
  const parts: Uint8Array[] = [encodeDmLogHead(counted)];
  for (const { op, offset = 0, length = 0, bytes, fua = false, text = '' } of entries) {
    if (op === 'mark') {
      const sector = Buffer.alloc(DM_LOG_SECTOR_SIZE);
      sector.writeBigUInt64LE(BigInt(MARK), 16);
      sector.writeBigUInt64LE(BigInt(text.length), 24);
      sector.write(text, 32);
      parts.push(sector);
      continue;
    }
    const size = bytes?.byteLength ?? length;
    const request = { op, offset, length: size, fua, unmap: false, timeNs: 0 };
    parts.push(encodeDmLogEntry(request).sector, bytes ?? new Uint8Array(0));
  }
  return Buffer.concat(parts);
}

export function logDevice(bytes: Uint8Array): MemoryDevice {
  const sparse = new SparseBytes();
  sparse.write(0, bytes);
  return new MemoryDevice({ label: 'log', path: 'a.log', readOnly: true, bytes: sparse });
}

/** A recording of ours as another program's log would have it, and when its guest was answered. */
export function asLog({ base, operations, syncs, requests }: Recording): {
  readonly entries: readonly NewEntry[];
  readonly requests: readonly LoggedRequest[];
} {
  const events: { readonly entry: NewEntry; readonly doneAt: number }[] = [];
  const files = base.clone();
  const done = [...operations.map((operation) => ({ operation, doneAt: operation.doneAt })), ...syncs];
  for (const each of done.toSorted((a, b) => a.doneAt - b.doneAt)) {
    const { doneAt } = each;
    if (!('operation' in each)) {
      events.push({ entry: { op: 'flush' }, doneAt });
      continue;
    }
    const { op, offset, length } = each.operation;
    applyOperation(files, each.operation);
    // A log has no new sizes; a driver that has sectors reads what is around shorter writes.
    if (op === 'truncate' || op === 'reserve') continue;
    const from = alignDown(offset, SECTOR_SIZE);
    const size = alignUp(offset + length, SECTOR_SIZE) - from;
    const entry: NewEntry =
      op === 'punch-hole'
        ? { op: 'discard', offset, length }
        : { op: 'write', offset: from, bytes: bytesOf(files, from, size) };
    events.push({ entry, doneAt });
  }
  const before = (at: number): number => events.filter(({ doneAt }) => doneAt < at).length;
  return {
    entries: events.map(({ entry }) => entry),
    requests: requests.map(({ op, offset, length, fua, unmap, tokens, beganAt, doneAt }) => {
      const done = doneAt === Infinity ? Infinity : before(doneAt);
      const rest = { fua, unmap, tokens, began: before(beganAt), done, beganAt, doneAt };
      if (op === 'grow') return { op: 'resize', offset: offset + length, length: 0, ...rest };
      if (op === 'shrink') return { op: 'resize', offset, length: 0, ...rest };
      if (op !== 'write' && op !== 'write-zeroes' && op !== 'discard' && op !== 'flush') {
        throw new Error(`not in a log: ${op}`);
      }
      return { op, offset, length, ...rest };
    }),
  };
}

function bytesOf(files: PageFiles, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const device = new StateDevice(new ScratchFiles(files, () => undefined), 0, {
    label: 'image',
    name: 'disk',
  });
  device.read(offset, bytes);
  return bytes;
}

export function baseOf({ subject, base }: Recording): BaseImage {
  return { subject, base };
}

/** A log that `qemu-io` made over `blklogwrites`, and the image before it; `logs/` has them. */
export function qemuLog(name: string): { readonly base: Uint8Array; readonly log: Uint8Array } {
  const read = (kind: string): Uint8Array =>
    gunzipSync(readFileSync(fileURLToPath(new URL(`logs/${name}.${kind}.gz`, import.meta.url))));
  return { base: read('base'), log: read('log') };
}
