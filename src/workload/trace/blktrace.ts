/**
 * The binary events of blktrace (linux/blktrace_api.h), one file a CPU.
 *
 *     version 7   magic u32 (0x65617400 | version) | sequence u32 | time u64 (ns) | sector u64 | bytes u32 |
 *                 action u32 | pid u32 | device u32 (major << 20 | minor) | cpu u32 | error u16 | pdu length u16;
 *                 then the pdu
 *     version 8   … bytes u32 | pid u32 | action u64 | device u32 | cpu u32 | error u16 | pdu length u16 | 12 bytes;
 *                 then the pdu
 *     action      low 8 bits: what happened (1 Q, 6 R, 7 D, 8 C, 12 I …); bits 16 to 31: categories
 *     categories  0 read | 1 write | 2 flush | 3 sync | 9 pass-through | 10 notify | 12 meta | 13 discard | 15 FUA
 *     version 8   bit 48 of the action: zone append
 *
 * Invariants: the machine's own byte order, detected by the magic number; sectors are 512 bytes. A
 * request shows several times on its way, and `ActionChoice` takes one of them. One with the flush
 * category is a flush before whatever else it is. Write-zeroes cannot be distinguished from writes.
 * A device is a volume, called `8,0` as blkparse prints it.
 */

import { SECTOR_SIZE } from '../request.ts';
import { deviceName, type BlockAction } from './block-action.ts';
import type { RequestCollector } from './request-collector.ts';
import type { RecordParser } from './trace-parser.ts';

const MAGIC = 0x65617400;

/** Where the fields are whose place depends on the version. */
interface Layout {
  readonly bytes: number;
  /** Its low half, in which what happened and the categories are. */
  readonly action: number;
  /** Its high half, if it has one. */
  readonly actionHigh: number | undefined;
  readonly device: number;
  readonly error: number;
  readonly pduLength: number;
}

/** The low half of a 64-bit action is second in big-endian files. */
function layoutOf(version: number, littleEndian: boolean): Layout | undefined {
  if (version === 7) {
    return { bytes: 48, action: 28, actionHigh: undefined, device: 36, error: 44, pduLength: 46 };
  }
  if (version !== 8) return undefined;
  const [action, actionHigh] = littleEndian ? [32, 36] : [36, 32];
  return { bytes: 64, action, actionHigh, device: 40, error: 48, pduLength: 50 };
}

const EVENT_BYTES_MIN = 48;
const EVENT_TIME = 8;
const EVENT_SECTOR = 16;
const EVENT_LENGTH = 24;

/** Above these bits of the action is a flag that says the pdu begins with a cgroup. */
const ACTION_MASK = 0xff;
const ACTIONS = new Map<number, BlockAction>([
  [1, 'Q'],
  [7, 'D'],
  [8, 'C'],
  [12, 'I'],
]);
const ACTION_REQUEUED = 6;
/** As blkparse calls them, by their numbers. */
const OTHER_ACTIONS: readonly string[] = ' Q M F G S R D C P U UT I X B A'.split(' ');
const CATEGORY_READ = 1 << 16;
const CATEGORY_WRITE = 1 << 17;
const CATEGORY_FLUSH = 1 << 18;
const CATEGORY_PASS_THROUGH = 1 << 25;
const CATEGORY_NOTIFY = 1 << 26;
const CATEGORY_DISCARD = 1 << 29;
const CATEGORY_FUA = 1 << 31;
/** Of the action's high half. */
const CATEGORY_ZONE_APPEND = 1 << 16;

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
  readonly recordBytes: number;
  bytesToSkip = 0;
  canSkip = true;

  readonly #collector: RequestCollector;
  readonly #littleEndian: boolean;
  readonly #layout: Layout | undefined;

  constructor(collector: RequestCollector, head: Uint8Array) {
    this.#collector = collector;
    this.#littleEndian = !isBigEndian(head);
    this.#layout = layoutOf(head[this.#littleEndian ? 0 : 3] ?? 0, this.#littleEndian);
    this.recordBytes = this.#layout?.bytes ?? EVENT_BYTES_MIN;
  }

  record(bytes: Uint8Array, start: number): string | undefined {
    const view = new DataView(bytes.buffer, bytes.byteOffset + start, this.recordBytes);
    const little = this.#littleEndian;
    const magic = view.getUint32(0, little);
    if ((magic & ~0xff) !== MAGIC) {
      this.canSkip = false;
      return "the event does not start with blktrace's magic number";
    }
    const layout = this.#layout;
    if (layout === undefined || layoutOf(magic & 0xff, little)?.bytes !== layout.bytes) {
      this.canSkip = false;
      return `version ${String(magic & 0xff)} of blktrace is not supported${layout === undefined ? '; only 7 and 8 are' : ' in a file of another version'}`;
    }
    this.bytesToSkip = view.getUint16(layout.pduLength, little);
    const code = view.getInt32(layout.action, little);
    const { actions, passedOver, volumes } = this.#collector;
    if ((code & CATEGORY_NOTIFY) !== 0) {
      passedOver.add('messages');
      return undefined;
    }
    const number = code & ACTION_MASK;
    const action = ACTIONS.get(number);
    if (action === undefined) {
      actions.passOver(OTHER_ACTIONS[number] ?? String(number));
      if (number === ACTION_REQUEUED) {
        actions.requeue(opOf(code), this.#sector(view) * SECTOR_SIZE, view.getUint32(EVENT_LENGTH, little));
      }
      return undefined;
    }
    if (!actions.wants(action)) return actions.lateRule(action);
    if ((code & CATEGORY_PASS_THROUGH) !== 0) {
      passedOver.add('pass-through commands');
      return undefined;
    }
    if (!volumes.takesNumber(view.getUint32(layout.device, little), deviceName)) {
      actions.addOfOtherVolume(action);
      return undefined;
    }
    if (action === 'C' && view.getUint16(layout.error, little) !== 0) {
      actions.addFailed(action);
      return undefined;
    }
    const high = layout.actionHigh === undefined ? 0 : view.getUint32(layout.actionHigh, little);
    return this.#request(action, view, { code, isAppend: (high & CATEGORY_ZONE_APPEND) !== 0 });
  }

  #request(
    action: BlockAction,
    view: DataView,
    { code, isAppend }: { readonly code: number; readonly isAppend: boolean },
  ): string | undefined {
    const { actions } = this.#collector;
    const timeNs = this.#time(view);
    if (!Number.isSafeInteger(timeNs)) return 'its time is more than 2^53 ns from the first one';
    const length = view.getUint32(EVENT_LENGTH, this.#littleEndian);
    const op = isAppend ? 'write' : opOf(code);
    const kind = {
      flushes: (code & CATEGORY_FLUSH) !== 0,
      op,
      fua: op === 'write' && (code & CATEGORY_FUA) !== 0,
      isZoneAppend: isAppend,
      name: 'N',
    };
    const offset = this.#sector(view) * SECTOR_SIZE;
    return actions.addEvent(action, kind, { offset, length: length === 0 ? undefined : length, timeNs });
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

function opOf(code: number): 'read' | 'write' | 'discard' | undefined {
  if ((code & CATEGORY_DISCARD) !== 0) return 'discard';
  if ((code & CATEGORY_WRITE) !== 0) return 'write';
  return (code & CATEGORY_READ) !== 0 ? 'read' : undefined;
}
