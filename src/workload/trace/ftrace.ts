/**
 * The kernel's block events as text: ftrace's trace files, `trace-cmd report`, `perf script` and
 * Perfetto's systrace.
 *
 *        dd-812  [001] ..... 42155.454638: block_bio_queue: 254,0 FWS 2048 + 8 [dd]                 Q
 *        dd-812  [001] ...1. 42155.454673: block_rq_insert: 254,0 WS 4096 () 2048 + 8 be,0,4 [dd]   I
 *        dd 812  [001] 42155.454679: block:block_rq_issue: 254,0 WS 4096 () 2048 + 8 [dd]           D
 *        dd-812  [001] ..s.. 42155.455803: block_rq_complete: 254,0 WS () 2048 + 8 [0]              C
 *     task and pid, cpu, flags, seconds: event: device RWBS bytes (command) sector + sectors priority [task] or [error]
 *
 * Invariants: a request shows several times on its way, and `ActionChoice` takes one of them;
 * sectors are 512 bytes. Lines of other events, stacks and comments are passed over and counted; a
 * line with one of these events that has another form is not. The device is the volume.
 */

import { SECTOR_SIZE } from '../request.ts';
import { deviceName, deviceNumber, type BlockAction } from './block-action.ts';
import { textOf, WIDE_UNIT } from './line-fields.ts';
import type { RequestCollector } from './request-collector.ts';
import { Rwbs } from './rwbs.ts';
import type { LineParser } from './trace-parser.ts';

const ACTIONS: ReadonlyMap<string, BlockAction | 'requeue'> = new Map([
  ['block_bio_queue', 'Q'],
  ['block_rq_insert', 'I'],
  ['block_rq_issue', 'D'],
  ['block_rq_complete', 'C'],
  ['block_rq_requeue', 'requeue'],
]);

/** The time, the event and what it says. */
const EVENT = /\s(\d{1,9})\.(\d{6}|\d{9}): +(?:\w+:)?(\w+): *(.*)$/;
const BLOCK_EVENT =
  /^(\d{1,4}),(\d{1,7}) ([A-Z]{1,9})(?: \d+)?(?: \(([^)]*)\))? (\d{1,20}) \+ (\d{1,10}) (.*)$/;
/** Of a completion, at its end. */
const ERROR = /\[(-?\d+)\]$/;
const PART_OF_EVENT = /\bblock_(?:bio_queue|rq_(?:insert|issue|complete|requeue)): /;
const LOST_EVENTS = /^CPU:\d+ \[LOST/;

const BROKEN =
  'is not a block event: seconds: block_rq_issue: device RWBS bytes (command) sector + sectors [task]';

export class FtraceParser implements LineParser {
  readonly unit = 'line';
  readonly canSkip = true;
  /** Whether there was a block event. */
  isRecognised = false;

  readonly #collector: RequestCollector;
  readonly #rwbs = new Rwbs();

  constructor(collector: RequestCollector) {
    this.#collector = collector;
  }

  line(bytes: Uint8Array, start: number, end: number): string | undefined {
    if (start === end) return undefined;
    const text = textOf(bytes, start, end);
    const [, seconds, fraction = '', name = '', says = ''] = EVENT.exec(text) ?? [];
    if (seconds === undefined) return this.#otherLine(text);
    const action = ACTIONS.get(name);
    if (action === undefined) {
      this.#collector.passedOver.add(`events ${name}`);
      return undefined;
    }
    const match = BLOCK_EVENT.exec(says);
    if (match === null) return BROKEN;
    this.isRecognised = true;
    const timeNs = this.#collector.clock.since(Number(seconds), Number(fraction.padEnd(9, '0')), WIDE_UNIT);
    return this.#event(action, match, timeNs);
  }

  #event(action: BlockAction | 'requeue', match: RegExpExecArray, timeNs: number): string | undefined {
    const [, major, minor, rwbs = '', command = '', sector, sectors, rest = ''] = match;
    const { actions, volumes, passedOver } = this.#collector;
    const place = { offset: Number(sector) * SECTOR_SIZE, length: Number(sectors) * SECTOR_SIZE, timeNs };
    const letters = Buffer.from(rwbs, 'latin1');
    this.#rwbs.read(letters, 0, letters.length);
    if (action === 'requeue') {
      actions.passOver('R');
      actions.requeue(this.#rwbs.op, place.offset, place.length);
      return undefined;
    }
    if (!actions.wants(action)) return actions.lateRule(action);
    if (command !== '') {
      passedOver.add('pass-through commands');
      return undefined;
    }
    if (!volumes.takesNumber(deviceNumber(Number(major), Number(minor)), deviceName)) {
      actions.addOfOtherVolume(action);
      return undefined;
    }
    if (action === 'C' && ERROR.exec(rest)?.[1] !== '0') {
      actions.addFailed(action);
      return undefined;
    }
    return actions.addEvent(action, this.#rwbs, place);
  }

  #otherLine(text: string): string | undefined {
    if (LOST_EVENTS.test(text)) return 'the tracer lost events here';
    if (PART_OF_EVENT.test(text)) return BROKEN;
    this.#collector.passedOver.add(text.startsWith('#') ? 'comment lines' : 'lines of other output');
    return undefined;
  }
}
