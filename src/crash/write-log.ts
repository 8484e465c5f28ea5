/**
 * A dm-log-writes log as it is explored: what happened to one file, with the data. QEMU's driver
 * `blklogwrites` writes it below any format, the kernel's target `log-writes` below any file system.
 *
 * Invariants: every length is compared with the file before memory is taken; the data of all entries
 * are at most `LOG_DATA_MAX`.
 */

import { viewOf } from '../core/bytes.ts';
import { Qcow2BenchError, hex } from '../core/error.ts';
import { countOf } from '../core/number-text.ts';
import { formatSize } from '../core/size.ts';
import type { BlockDevice } from '../device/block-device.ts';
import {
  DM_LOG_ENTRY_BYTES,
  dmLogSector,
  encodeDmLogHead,
  faultOfDmLogEntry,
  readDmLogEntry,
  readDmLogHead,
  type DmLogEntry,
} from '../workload/trace/dm-log-writes.ts';
import { FILE_BYTES_MAX } from './pages.ts';

/** What happened to the file, in the order in which it was done. */
export interface LogEntry {
  readonly kind: 'write' | 'discard' | 'flush' | 'mark';
  /** Bytes; of a write or discard. */
  readonly offset: number;
  readonly length: number;
  /** Of a write. */
  readonly bytes: Uint8Array | undefined;
  /** Of a write: it is durable by itself. */
  readonly fua: boolean;
  /** Of a mark. */
  readonly text: string;
  /** Of the log, from 0; a flush before a write is of the same. */
  readonly number: number;
}

export interface WriteLog {
  readonly entries: readonly LogEntry[];
  /** How many the log's head counts. */
  readonly counted: number;
  /** How many were read. */
  readonly read: number;
}

/** States are made in memory. */
const LOG_DATA_MAX = 1024 * 1024 * 1024;
const LOG_ENTRIES_MAX = 1_000_000;

/**
 * Reads a log, without closing the device.
 *
 * @param isWhole also entries behind those that the head counts: a program that was killed had no
 *   time to count them. They end where nothing can be an entry, or where the file cuts one off.
 * @throws Qcow2BenchError `bad-write-log`, `write-log-too-large`
 */
export async function readWriteLog(
  device: BlockDevice,
  { isWhole = false }: { readonly isWhole?: boolean } = {},
): Promise<WriteLog> {
  return new LogReader(device, isWhole).read();
}

class LogReader {
  readonly #device: BlockDevice;
  readonly #isWhole: boolean;
  readonly #size: number;
  readonly #entries: LogEntry[] = [];
  #dataBytes = 0;

  constructor(device: BlockDevice, isWhole: boolean) {
    this.#device = device;
    this.#isWhole = isWhole;
    this.#size = device.size();
  }

  async read(): Promise<WriteLog> {
    const head = readDmLogHead(await this.#bytes(0, Math.min(this.#size, DM_LOG_ENTRY_BYTES)));
    if (typeof head === 'string') return this.#refuse(0, head);
    const { sectorSize, entries: counted } = head;
    let number = 0;
    let at = sectorSize;
    for (; number < counted || this.#isWhole; number++) {
      const isCounted = number < counted;
      const entry = await this.#entryAt(at, sectorSize);
      const end = typeof entry === 'string' ? at : at + sectorSize + entry.dataBytes;
      const fault = typeof entry === 'string' ? entry : faultOf(entry);
      if (!isCounted && (fault !== undefined || end > this.#size)) break;
      if (fault !== undefined) return this.#refuse(at, `entry ${String(number)}: ${fault}`);
      if (typeof entry === 'string') break;
      if (end > this.#size) {
        return this.#refuse(
          at,
          `entry ${String(number)} of ${String(counted)} ends at ${hex(end)}, behind the end of the file (${hex(this.#size)}): the log is truncated`,
        );
      }
      await this.#add(entry, at, { number, sectorSize });
      at = end;
    }
    return { entries: this.#entries, counted, read: number };
  }

  /** In place of an entry that the file cuts off, in words, what is wrong. */
  async #entryAt(at: number, sectorSize: number): Promise<DmLogEntry | string> {
    if (at + sectorSize > this.#size) return 'is behind the end of the file: the log is truncated';
    return readDmLogEntry(viewOf(await this.#bytes(at, DM_LOG_ENTRY_BYTES)), sectorSize);
  }

  async #add(
    { isFlush, isDiscard, fua, markBytes, offset, length, dataBytes }: DmLogEntry,
    at: number,
    { number, sectorSize }: { readonly number: number; readonly sectorSize: number },
  ): Promise<void> {
    if (number >= LOG_ENTRIES_MAX) {
      return this.#refuseSize(`it has more than ${countOf(LOG_ENTRIES_MAX, 'entry')}`);
    }
    const nothing = { offset: 0, length: 0, bytes: undefined, fua: false, text: '', number };
    if (markBytes !== undefined) {
      const text = Buffer.from(await this.#bytes(at + DM_LOG_ENTRY_BYTES, markBytes)).toString('utf8');
      this.#entries.push({ ...nothing, kind: 'mark', text: text.replace(/\0+$/, '') });
      return;
    }
    if (isFlush) this.#entries.push({ ...nothing, kind: 'flush' });
    if (length === 0) return;
    if (isDiscard) {
      this.#entries.push({ ...nothing, kind: 'discard', offset, length });
      return;
    }
    this.#dataBytes += dataBytes;
    if (this.#dataBytes > LOG_DATA_MAX) {
      return this.#refuseSize(
        `its first ${countOf(number + 1, 'entry')} hold more than ${formatSize(LOG_DATA_MAX)}`,
      );
    }
    const bytes = await this.#bytes(at + sectorSize, dataBytes);
    this.#entries.push({ ...nothing, kind: 'write', offset, length, bytes, fua });
  }

  async #bytes(offset: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    if (length > 0) await this.#device.read(offset, bytes, 'data');
    return bytes;
  }

  #refuse(offset: number, what: string): never {
    throw new Qcow2BenchError('bad-write-log', what, { path: this.#device.path, offset });
  }

  #refuseSize(what: string): never {
    throw new Qcow2BenchError(
      'write-log-too-large',
      `${what}: crash states are made in memory; log a shorter run`,
      { path: this.#device.path },
    );
  }
}

/** A log of these entries, each with the number that it has among them, from 0. */
export function writeLogOf(entries: readonly LogEntry[]): Uint8Array {
  const parts: Uint8Array[] = [];
  let count = 0;
  for (const [index, { kind, offset, length, bytes, fua, text, number }] of entries.entries()) {
    // One entry: a flush, then a write or a discard.
    if (kind === 'flush' && entries[index + 1]?.number === number) continue;
    const isFlush = kind === 'flush' || (index > 0 && entries[index - 1]?.number === number);
    const mark = kind === 'mark' ? text : undefined;
    parts.push(dmLogSector({ offset, length, isFlush, isDiscard: kind === 'discard', fua, mark }));
    if (bytes !== undefined) parts.push(bytes);
    count++;
  }
  return Buffer.concat([encodeDmLogHead(count), ...parts]);
}

function faultOf(entry: DmLogEntry): string | undefined {
  if (entry.markBytes !== undefined) return undefined;
  const fault = faultOfDmLogEntry(entry);
  if (fault !== undefined || entry.length === 0) return fault;
  const end = entry.offset + entry.length;
  if (end <= FILE_BYTES_MAX) return undefined;
  return `it ends at ${hex(end)}, behind ${formatSize(FILE_BYTES_MAX)}: no image file is that long`;
}
