/**
 * The log of the device-mapper target `log-writes` (Linux,
 * Documentation/admin-guide/device-mapper/log-writes.rst), which QEMU's `blklogwrites` driver
 * writes too: reader and writer.
 *
 *     sector 0   magic u64 | version u64 (1) | entries u64 | sector size u32
 *     an entry   sector u64 | sectors u64 | flags u64 | data length u64, in a sector of its own;
 *                then the data, `sectors` long; a discard has none, and a mark's text is in the entry's sector
 *     flags      1 flush | 2 FUA | 4 discard | 8 mark | 16 metadata
 *
 * Invariants: little-endian; sectors are the log's own, of the size that its head says. An entry
 * with the flush flag and sectors is a flush before a write. No times, no reads; marks are passed
 * over. QEMU never sets FUA (such a write is followed by a flush) and logs zero-writes as writes.
 */

import { isPowerOfTwo } from '../../core/alignment.ts';
import { readU64le, viewOf, writeU64le } from '../../core/bytes.ts';
import type { Request } from '../request.ts';
import type { RequestCollector } from './request-collector.ts';
import type { RecordParser } from './trace-parser.ts';

const MAGIC_LOW = 0x77736872;
const MAGIC_HIGH = 0x006a7366;
const VERSION = 1;

const HEAD_BYTES = 32;
const HEAD_VERSION = 8;
const HEAD_ENTRIES = 16;
const HEAD_SECTOR_SIZE = 24;

/** Of an entry, at the start of its sector. */
export const DM_LOG_ENTRY_BYTES = 32;
const ENTRY_SECTOR = 0;
const ENTRY_SECTORS = 8;
const ENTRY_FLAGS = 16;
const ENTRY_DATA_LENGTH = 24;

const FLAG_FLUSH = 1;
const FLAG_FUA = 2;
const FLAG_DISCARD = 4;
const FLAG_MARK = 8;
const FLAGS_KNOWN = 0x1f;

const SECTOR_SIZE_MIN = 512;
const SECTOR_SIZE_MAX = 64 * 1024;

/** Whether a file that begins so is such a log. */
export function isDmLogWrites(head: Uint8Array): boolean {
  if (head.length < HEAD_BYTES) return false;
  const view = viewOf(head);
  return view.getUint32(0, true) === MAGIC_LOW && view.getUint32(4, true) === MAGIC_HIGH;
}

export class DmLogWritesParser implements RecordParser {
  readonly unit = 'record';
  recordBytes = HEAD_BYTES;
  bytesToSkip = 0;
  /** An entry says how long it is itself. */
  canSkip = false;
  isDone = false;

  readonly #collector: RequestCollector;
  #sectorSize = 0;
  #entriesLeft = 0;

  constructor(collector: RequestCollector) {
    this.#collector = collector;
  }

  record(bytes: Uint8Array, start: number): string | undefined {
    const view = new DataView(bytes.buffer, bytes.byteOffset + start, this.recordBytes);
    return this.#sectorSize === 0 ? this.#head(bytes.subarray(start)) : this.#entry(view);
  }

  finish(): string | undefined {
    if (this.isDone) return undefined;
    if (this.#sectorSize === 0) return 'is empty, or ends within the header of a dm-log-writes log';
    return `has ${String(this.#entriesLeft)} entries fewer than its header says: the file is truncated`;
  }

  #head(head: Uint8Array): string | undefined {
    const read = readDmLogHead(head);
    if (typeof read === 'string') return read;
    this.#sectorSize = read.sectorSize;
    this.#entriesLeft = read.entries;
    this.recordBytes = DM_LOG_ENTRY_BYTES;
    this.bytesToSkip = read.sectorSize - HEAD_BYTES;
    this.isDone = read.entries === 0;
    return undefined;
  }

  #entry(view: DataView): string | undefined {
    const size = this.#sectorSize;
    this.canSkip = false;
    const entry = readDmLogEntry(view, size);
    if (typeof entry === 'string') return entry;
    this.bytesToSkip = size - DM_LOG_ENTRY_BYTES + entry.dataBytes;
    this.canSkip = true;
    this.isDone = --this.#entriesLeft === 0;
    if (entry.markBytes !== undefined) {
      this.#collector.passedOver.add('marks');
      return undefined;
    }
    const timeNs = 0;
    if (entry.isFlush) this.#collector.addFlush(timeNs);
    const fault = faultOfDmLogEntry(entry);
    if (fault !== undefined || entry.length === 0) return fault;
    const { offset, length, fua } = entry;
    const op = entry.isDiscard ? 'discard' : 'write';
    return this.#collector.add({ op, offset, length, fua: fua && !entry.isDiscard, unmap: false, timeNs });
  }
}

/** What sector 0 says. */
export interface DmLogHead {
  /** Bytes. */
  readonly sectorSize: number;
  /** As counted when it was last written: later ones may follow. */
  readonly entries: number;
}

/** @returns the broken rule, in words, if it is none */
export function readDmLogHead(head: Uint8Array): DmLogHead | string {
  if (!isDmLogWrites(head)) return 'is not a dm-log-writes log: the magic number is missing';
  const view = viewOf(head);
  const version = readU64le(view, HEAD_VERSION);
  if (version !== VERSION) {
    return `version ${String(version)} of the log is not supported; only 1 is`;
  }
  const entries = readU64le(view, HEAD_ENTRIES);
  if (entries === undefined) return 'the number of entries is 2^53 or more';
  const sectorSize = view.getUint32(HEAD_SECTOR_SIZE, true);
  if (!isPowerOfTwo(sectorSize) || sectorSize < SECTOR_SIZE_MIN || sectorSize > SECTOR_SIZE_MAX) {
    return `the sector size ${String(sectorSize)} is not a power of two from 512 to 64 KiB`;
  }
  return { sectorSize, entries };
}

export interface DmLogEntry {
  /** Before the write, if it is one. */
  readonly isFlush: boolean;
  readonly isDiscard: boolean;
  readonly fua: boolean;
  /** Of a mark: how long its text is, which follows in the entry's sector. */
  readonly markBytes: number | undefined;
  /** Bytes; `NaN` if it is at 2^53 or more. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
  /** Bytes of data that follow the entry's sector. */
  readonly dataBytes: number;
}

/** @returns the broken rule, in words, if nothing behind it can be found either */
export function readDmLogEntry(view: DataView, sectorSize: number): DmLogEntry | string {
  const sector = readU64le(view, ENTRY_SECTOR);
  const sectors = readU64le(view, ENTRY_SECTORS);
  const flags = readU64le(view, ENTRY_FLAGS);
  const markBytes = readU64le(view, ENTRY_DATA_LENGTH);
  if (flags === undefined || flags > FLAGS_KNOWN) return 'unknown flags: this is not a log entry';
  const length = (sectors ?? NaN) * sectorSize;
  if (!Number.isSafeInteger(length)) return 'the entry is 2^53 bytes or more long';
  const isMark = (flags & FLAG_MARK) !== 0;
  const isDiscard = (flags & FLAG_DISCARD) !== 0;
  if (isMark && (markBytes === undefined || markBytes > sectorSize - DM_LOG_ENTRY_BYTES)) {
    return 'the text of the mark does not fit its sector';
  }
  const offset = (sector ?? NaN) * sectorSize;
  return {
    isFlush: (flags & FLAG_FLUSH) !== 0,
    isDiscard,
    fua: (flags & FLAG_FUA) !== 0,
    markBytes: isMark ? markBytes : undefined,
    offset: Number.isSafeInteger(offset) ? offset : NaN,
    length,
    dataBytes: isDiscard || isMark ? 0 : length,
  };
}

/** What is wrong with an entry that is no mark, if something is. */
export function faultOfDmLogEntry({ isFlush, offset, length }: DmLogEntry): string | undefined {
  if (length === 0) {
    return isFlush ? undefined : 'an entry without sectors that is neither a flush nor a mark';
  }
  return Number.isNaN(offset) ? 'the entry is at 2^53 bytes or more' : undefined;
}

/** The sector size of logs that are written; requests are multiples of it. */
export const DM_LOG_SECTOR_SIZE = 512;

/** Sector 0 of a log of so many entries. */
export function encodeDmLogHead(entries: number): Uint8Array {
  const sector = new Uint8Array(DM_LOG_SECTOR_SIZE);
  const view = viewOf(sector);
  view.setUint32(0, MAGIC_LOW, true);
  view.setUint32(4, MAGIC_HIGH, true);
  writeU64le(view, HEAD_VERSION, VERSION);
  writeU64le(view, HEAD_ENTRIES, entries);
  view.setUint32(HEAD_SECTOR_SIZE, DM_LOG_SECTOR_SIZE, true);
  return sector;
}

/** An entry, as it is written; a mark has a text, which fits its sector. */
export interface NewDmLogEntry {
  readonly offset: number;
  readonly length: number;
  /** Alone, or before the write. */
  readonly isFlush: boolean;
  readonly isDiscard: boolean;
  readonly fua: boolean;
  readonly mark?: string | undefined;
}

/** The sector of an entry. */
export function dmLogSector(entry: NewDmLogEntry): Uint8Array {
  const { offset, length, isFlush, isDiscard, fua, mark } = entry;
  const sector = new Uint8Array(DM_LOG_SECTOR_SIZE);
  const view = viewOf(sector);
  writeU64le(view, ENTRY_SECTOR, offset / DM_LOG_SECTOR_SIZE);
  writeU64le(view, ENTRY_SECTORS, length / DM_LOG_SECTOR_SIZE);
  const flags =
    (isFlush ? FLAG_FLUSH : 0) |
    (fua ? FLAG_FUA : 0) |
    (isDiscard ? FLAG_DISCARD : 0) |
    (mark === undefined ? 0 : FLAG_MARK);
  writeU64le(view, ENTRY_FLAGS, flags);
  if (mark === undefined) return sector;
  const text = Buffer.from(mark, 'utf8').subarray(0, DM_LOG_SECTOR_SIZE - DM_LOG_ENTRY_BYTES);
  sector.set(text, DM_LOG_ENTRY_BYTES);
  writeU64le(view, ENTRY_DATA_LENGTH, text.byteLength);
  return sector;
}

/** The sector of a request's entry; `dataBytes` of data follow it. A read has none. */
export function encodeDmLogEntry({ op, offset, length, fua }: Request): {
  readonly sector: Uint8Array;
  readonly dataBytes: number;
} {
  const isDiscard = op === 'discard';
  const isFlush = op === 'flush';
  const sector = dmLogSector({ offset, length, isFlush, isDiscard, fua: fua && !isFlush && !isDiscard });
  return { sector, dataBytes: isDiscard ? 0 : length };
}
