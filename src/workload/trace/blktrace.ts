/**
 * The binary events of blktrace (linux/blktrace_api.h), one file a CPU.
 *
 *     magic u32 (0x65617400 | version 7) | sequence u32 | time u64 (ns) | sector u64 | bytes u32 | action u32 | pid u32 |
 *     device u32 (major << 20 | minor) | cpu u32 | error u16 | pdu length u16; then the pdu
 *     action     low 8 bits: what happened (1 Q: queued); bits 16 to 31: categories
 *     categories 0 read | 1 write | 2 flush | 3 sync | 9 pass-through | 10 notify | 12 meta | 13 discard | 15 FUA
 *
 * Invariants: the machine's own byte order, detected by the magic number; sectors are 512 bytes. A
 * request shows several times on its way, so only its `Q` counts. One with the flush category is a
 * flush before whatever else it is. Write-zeroes cannot be distinguished from writes. A device is a
 * volume, called `8,0` as blkparse prints it.
 */

import { SECTOR_SIZE } from '../request.ts';
import type { RequestCollector } from './request-collector.ts';
import type { RecordParser } from './trace-parser.ts';

const MAGIC = 0x65617400;
const VERSION = 7;

const EVENT_BYTES = 48;
const EVENT_TIME = 8;
const EVENT_SECTOR = 16;
const EVENT_LENGTH = 24;
const EVENT_ACTION = 28;
const EVENT_DEVICE = 36;
const EVENT_PDU_LENGTH = 46;

/** Above these bits of the action is a flag that says the pdu begins with a cgroup. */
const ACTION_MASK = 0xff;
const ACTION_QUEUED = 1;
const CATEGORY_READ = 1 << 16;
const CATEGORY_WRITE = 1 << 17;
const CATEGORY_FLUSH = 1 << 18;
const CATEGORY_PASS_THROUGH = 1 << 25;
const CATEGORY_NOTIFY = 1 << 26;
const CATEGORY_DISCARD = 1 << 29;
const CATEGORY_FUA = 1 << 31;

const MINOR_BITS = 20;

/** Whether a file that begins so is such a trace. */
export function isBlktrace(head: Uint8Array): boolean {
  return isLittleEndian(head) || isBigEndian(head);
}

function isLittleEndian(head: Uint8Array): boolean {
  return head[1] === 0x74 && head[2] === 0x61 && head[3] === 0x65;
}

function isBigEndian(head: Uint8Array): boolean {
  return head[0] === 0x65 && head[1] === 0x61 && head[2] === 0x74;
}

export class BlktraceParser implements RecordParser {
  readonly unit = 'record';
  readonly recordBytes = EVENT_BYTES;
  bytesToSkip = 0;
  canSkip = true;

  readonly #collector: RequestCollector;
  readonly #littleEndian: boolean;

  constructor(collector: RequestCollector, head: Uint8Array) {
    this.#collector = collector;
    this.#littleEndian = !isBigEndian(head);
  }

  record(bytes: Uint8Array, start: number): string | undefined {
    const view = new DataView(bytes.buffer, bytes.byteOffset + start, EVENT_BYTES);
    const little = this.#littleEndian;
    const magic = view.getUint32(0, little);
    if ((magic & ~0xff) !== MAGIC) {
      this.canSkip = false;
      return "the event does not start with blktrace's magic number";
    }
    if ((magic & 0xff) !== VERSION) {
      this.canSkip = false;
      return `version ${String(magic & 0xff)} of blktrace is not supported; only 7 is`;
    }
    this.bytesToSkip = view.getUint16(EVENT_PDU_LENGTH, little);
    const action = view.getInt32(EVENT_ACTION, little);
    if ((action & ACTION_MASK) !== ACTION_QUEUED) return undefined;
    if ((action & (CATEGORY_NOTIFY | CATEGORY_PASS_THROUGH)) !== 0) return undefined;
    if (!this.#collector.volumes.takesNumber(view.getUint32(EVENT_DEVICE, little), deviceName)) {
      return undefined;
    }
    const timeNs = this.#time(view);
    if (!Number.isSafeInteger(timeNs)) return 'its time is more than 2^53 ns from the first one';
    if ((action & CATEGORY_FLUSH) !== 0) {
      const rule = this.#collector.addFlush(timeNs);
      if (rule !== undefined) return rule;
    }
    const length = view.getUint32(EVENT_LENGTH, little);
    if (length === 0) return undefined;
    const offset = this.#sector(view) * SECTOR_SIZE;
    if (!Number.isSafeInteger(offset)) return 'its sector is at 2^53 bytes or more';
    const op = opOf(action);
    if (op === undefined) return undefined;
    const fua = op === 'write' && (action & CATEGORY_FUA) !== 0;
    return this.#collector.add({ op, offset, length, fua, unmap: false, timeNs });
  }

  #time(view: DataView): number {
    const first = view.getUint32(EVENT_TIME, this.#littleEndian);
    const second = view.getUint32(EVENT_TIME + 4, this.#littleEndian);
    const { clock } = this.#collector;
    return this.#littleEndian ? clock.since(second, first, 2 ** 32) : clock.since(first, second, 2 ** 32);
  }

  #sector(view: DataView): number {
    const first = view.getUint32(EVENT_SECTOR, this.#littleEndian);
    const second = view.getUint32(EVENT_SECTOR + 4, this.#littleEndian);
    return this.#littleEndian ? second * 2 ** 32 + first : first * 2 ** 32 + second;
  }
}

function opOf(action: number): 'read' | 'write' | 'discard' | undefined {
  if ((action & CATEGORY_DISCARD) !== 0) return 'discard';
  if ((action & CATEGORY_WRITE) !== 0) return 'write';
  return (action & CATEGORY_READ) !== 0 ? 'read' : undefined;
}

/** `8,0`. */
function deviceName(device: number): string {
  return `${String(device >>> MINOR_BITS)},${String(device & ((1 << MINOR_BITS) - 1))}`;
}
