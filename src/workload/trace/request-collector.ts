/**
 * Where the parsers of a trace put its requests: holds every request against the rules, leaves out
 * other volumes, and gives the rest out in batches, in the order of their times.
 *
 * Invariants:
 * - Times come out from 0 or later, in nanoseconds, and never go backwards. A request may stand up
 *   to the format's window of requests after its place; one that is later breaks a rule.
 * - It holds at most the window and a batch.
 */

import { alignDown, alignUp } from '../../core/alignment.ts';
import type { Request, RequestOp } from '../request.ts';
import { ActionChoice, type BlockAction } from './block-action.ts';
import { kindOf, RequestColumns } from './request-columns.ts';
import { brokenRule, brokenSizeRule } from './request-rules.ts';
import { Tally } from './tally.ts';
import { VolumeFilter } from './volume-filter.ts';
import { WideClock } from './wide-clock.ts';

/** Requests that are given out at once, but for those at the end of a trace. */
export const BATCH_REQUESTS = 4096;
const MIB = 1024 * 1024;

export interface CollectorOptions {
  /** Requests by which one may be after its place in time; 0 where the format is in order. */
  readonly orderWindow: number;
  /** Whether the times of the file count from somewhere else than the first request. */
  readonly rebases: boolean;
  /** The volume to read; `undefined`: the only one. */
  readonly volume: string | undefined;
  /** Bytes of the device if they are known before; otherwise the format says or the requests do. */
  readonly size: number | undefined;
  /** Bytes to whose multiples requests are widened; default: such a request breaks a rule. */
  readonly align?: number | undefined;
  /** For formats with several events of a request: which of them to take. Default: see there. */
  readonly action?: BlockAction | undefined;
}

export class RequestCollector {
  readonly volumes: VolumeFilter;
  /** For the formats whose times are wider than a number; shared by the files of a trace. */
  readonly clock = new WideClock();
  /** For the formats with several events of a request. */
  readonly actions: ActionChoice;
  /** What was recognised and not taken. */
  readonly passedOver = new Tally();
  /** What was taken otherwise than it is recorded. */
  readonly adjusted = new Tally();
  /**
   * Remembers the place of the present line or record, whose request is held back, for the rule
   * that it breaks. Set by the feed that is being parsed.
   */
  rejectLater: (rule: string) => () => void = () => () => undefined;
  /** The time of the request that came last, as its file counts. */
  timeNs = -Infinity;
  /** Where the requests so far end, in bytes. */
  endOffset = 0;

  /**
   * Requests that a batch is to have; fewer where fewer are wanted, so that nothing is looked at in
   * vain.
   */
  batchRequests = BATCH_REQUESTS;

  readonly #orderWindow: number;
  readonly #rebases: boolean;
  readonly #align: number;
  readonly #sizeIsGiven: boolean;
  #virtualSize: number | undefined;
  #sizeLimit: number;
  readonly #held = new RequestColumns();
  /** What was given out last. */
  readonly #batch = new RequestColumns();
  #newestNs = -Infinity;
  #isDisordered = false;
  /** The time of the last request that was given out. */
  #floorNs = -Infinity;
  /** What is taken off every time. */
  #originNs: number | undefined;

  constructor({ orderWindow, rebases, volume, size, align = 1, action }: CollectorOptions) {
    this.volumes = new VolumeFilter(volume);
    this.actions = new ActionChoice(action, this);
    this.#orderWindow = orderWindow;
    this.#rebases = rebases;
    this.#align = align;
    this.#virtualSize = size;
    this.#sizeIsGiven = size !== undefined;
    this.#sizeLimit = size ?? Number.MAX_SAFE_INTEGER;
  }

  /** Bytes of the device, if the user or the file has said so. */
  get virtualSize(): number | undefined {
    return this.#virtualSize;
  }

  /** Bytes of a device that just holds the requests so far: up to whole MiB. */
  get footprintSize(): number {
    return footprintOf(this.endOffset);
  }

  /**
   * The file records the device's size; the user's size takes precedence. Answers the rule it
   * breaks.
   */
  setVirtualSize(bytes: number): string | undefined {
    const rule = brokenSizeRule(bytes);
    if (rule !== undefined || this.#sizeIsGiven) return rule;
    this.#virtualSize = bytes;
    this.#sizeLimit = bytes;
    return undefined;
  }

  /** The rule that a request breaks by what it addresses, or `undefined`. */
  brokenRule(op: RequestOp, offset: number, length: number): string | undefined {
    if (this.#align === 1) return brokenRule(op, offset, length, this.#sizeLimit);
    // A length of 0 stays one.
    const from = alignDown(offset, this.#align);
    return brokenRule(
      op,
      from,
      length === 0 ? 0 : alignUp(offset + length, this.#align) - from,
      this.#sizeLimit,
    );
  }

  /** Takes a request, of which nothing is kept but its values; answers the rule it breaks. */
  add({ op, offset, length, fua, unmap, timeNs }: Request): string | undefined {
    const rule = this.brokenRule(op, offset, length);
    if (rule !== undefined) return rule;
    if (timeNs < this.#newestNs) {
      if (timeNs < this.#floorNs) return this.#lateRule(timeNs);
      this.#isDisordered = true;
    } else {
      this.#newestNs = timeNs;
    }
    this.timeNs = timeNs;
    let start = offset;
    let end = offset + length;
    if (this.#align > 1) {
      start = alignDown(start, this.#align);
      end = alignUp(end, this.#align);
      if (end - start > length) {
        this.adjusted.add(`requests widened to multiples of ${String(this.#align)} bytes`);
      }
    }
    if (end > this.endOffset) this.endOffset = end;
    this.#held.push(kindOf(op, fua, unmap), start, end - start, timeNs);
    return undefined;
  }

  /** Takes a flush; answers the rule it breaks. */
  addFlush(timeNs: number): string | undefined {
    return this.add({ op: 'flush', offset: 0, length: 0, fua: false, unmap: false, timeNs });
  }

  /** The trace has ended: what was held back until something was known is added. */
  settle(): void {
    this.actions.settle();
  }

  /** Whether a batch waits to be taken. */
  get isFull(): boolean {
    return this.#held.count >= this.#orderWindow + this.batchRequests;
  }

  /** The next requests in order, valid until the next call; `ended`: all that are left. */
  take({ ended }: { readonly ended: boolean }): RequestColumns {
    const held = this.#held;
    if (this.#isDisordered) held.sort();
    this.#isDisordered = false;
    const batch = this.#batch;
    held.moveFirst(ended ? held.count : Math.max(0, held.count - this.#orderWindow), batch);
    const { count, timesNs } = batch;
    if (count === 0) return batch;
    this.#floorNs = timesNs[count - 1] ?? this.#floorNs;
    this.#originNs ??= this.#rebases ? (timesNs[0] ?? 0) : 0;
    const originNs = this.#originNs;
    if (originNs !== 0) for (let at = 0; at < count; at++) timesNs[at] = (timesNs[at] ?? 0) - originNs;
    return batch;
  }

  #lateRule(timeNs: number): string {
    const byMs = ((this.#floorNs - timeNs) / 1e6).toFixed(3);
    return `its time is ${byMs} ms before a request that is more than ${String(this.#orderWindow)} requests earlier in the file`;
  }
}

/** Bytes of a device that just holds requests up to `endOffset`: up to whole MiB. */
export function footprintOf(endOffset: number): number {
  return Math.max(MIB, Math.ceil(endOffset / MIB) * MIB);
}
