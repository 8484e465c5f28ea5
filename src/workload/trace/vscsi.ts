/**
 * The traces of CloudPhysics (Waldspurger et al.: SHARDS, FAST '15), binary records of VMware's
 * vscsi layer.
 *
 *     v1, 32 bytes: serial u32 | length u32 | segments u32 | command u16 | version u16 | block u64 | time u64
 *     v2, 40 bytes: command u16 | version u16 | serial u32 | length u32 | segments u32 | block u64 | time u64 | response u64
 *
 * Invariants: little-endian; the version is the high byte of its field, 1 or 2, the same in all
 * records; lengths are bytes, blocks 512 bytes, times microseconds. Commands are SCSI operation
 * codes (SBC-4); those that neither read nor write are passed over. Neither flush nor FUA.
 */

import { readU64le, viewOf } from '../../core/bytes.ts';
import { SECTOR_SIZE } from '../request.ts';
import type { RequestCollector } from './request-collector.ts';
import type { RecordParser } from './trace-parser.ts';

interface Layout {
  readonly version: number;
  readonly bytes: number;
  readonly command: number;
  readonly versionField: number;
  readonly length: number;
  readonly block: number;
  readonly time: number;
}

const V1: Layout = { version: 1, bytes: 32, command: 12, versionField: 14, length: 4, block: 16, time: 24 };
const V2: Layout = { version: 2, bytes: 40, command: 0, versionField: 2, length: 8, block: 16, time: 24 };

/** READ and WRITE with 6, 10, 12, 16 bytes; WRITE AND VERIFY counts as writing. */
const READ_COMMANDS: ReadonlySet<number> = new Set([0x08, 0x28, 0xa8, 0x88]);
const WRITE_COMMANDS: ReadonlySet<number> = new Set([0x0a, 0x2a, 0xaa, 0x8a, 0x2e, 0xae, 0x8e]);

const NS_PER_US = 1000;
/** Records that are looked at to tell the version. */
const PROBED_RECORDS = 8;

/** Whether a file that begins so is such a trace. */
export function isVscsiTrace(head: Uint8Array): boolean {
  return layoutOf(head) !== undefined;
}

function layoutOf(head: Uint8Array): Layout | undefined {
  return [V1, V2].find((layout) => {
    const records = Math.min(PROBED_RECORDS, Math.floor(head.length / layout.bytes));
    if (records === 0) return false;
    const view = viewOf(head);
    return Array.from({ length: records }, (_, n) => n * layout.bytes).every(
      (start) =>
        view.getUint16(start + layout.versionField, true) >>> 8 === layout.version &&
        view.getUint16(start + layout.command, true) <= 0xff,
    );
  });
}

export class VscsiParser implements RecordParser {
  readonly unit = 'record';
  readonly recordBytes: number;
  readonly bytesToSkip = 0;
  readonly canSkip = true;
  readonly #collector: RequestCollector;
  readonly #layout: Layout | undefined;

  constructor(collector: RequestCollector, head: Uint8Array) {
    this.#collector = collector;
    this.#layout = layoutOf(head);
    this.recordBytes = this.#layout?.bytes ?? V1.bytes;
  }

  record(bytes: Uint8Array, start: number): string | undefined {
    const layout = this.#layout;
    if (layout === undefined) return 'the version of the first records is neither 1 nor 2';
    const view = new DataView(bytes.buffer, bytes.byteOffset + start, layout.bytes);
    const version = view.getUint16(layout.versionField, true) >>> 8;
    if (version !== layout.version) {
      return `the record has version ${String(version)}, the file has version ${String(layout.version)}`;
    }
    const command = view.getUint16(layout.command, true);
    const op = READ_COMMANDS.has(command) ? 'read' : WRITE_COMMANDS.has(command) ? 'write' : undefined;
    if (op === undefined) {
      this.#collector.passedOver.add(`SCSI commands 0x${command.toString(16).padStart(2, '0')}`);
      return undefined;
    }
    const offset = (readU64le(view, layout.block) ?? NaN) * SECTOR_SIZE;
    if (!Number.isSafeInteger(offset)) return 'the block is at 2^53 bytes or more';
    const length = view.getUint32(layout.length, true);
    const timeUs = this.#collector.clock.since(
      view.getUint32(layout.time + 4, true),
      view.getUint32(layout.time, true),
      2 ** 32,
    );
    const timeNs = timeUs * NS_PER_US;
    if (!Number.isSafeInteger(timeNs)) return 'its time is more than 2^53 ns from the first one';
    return this.#collector.add({ op, offset, length, fua: false, unmap: false, timeNs });
  }
}
