/**
 * Which of the events of a request in the kernel's block layer is taken. A request shows
 * several times on its way: queued (Q), inserted into the scheduler's queue (I), issued to the
 * driver (D), completed (C), among others. A recorder may have been set to log only some of them.
 *
 * Invariants:
 * - Each request comes out once, with the time of the chosen event.
 * - Chosen is what was asked for; otherwise Q if there is one, else I, D or C. Inserted requests are
 *   chosen only if they are as many as the issued ones: what goes past the scheduler is not
 *   inserted.
 * - Up to `UNDECIDED_MAX` requests are held until the choice is clear. A Q after that is an error:
 *   what came before would be counted otherwise.
 * - A request that was requeued and is inserted or issued again is the same one.
 * - A completion with an error is a request that failed.
 */

import type { Request, RequestOp } from '../request.ts';
import { unreadablePlace } from './request-rules.ts';
import type { Tally } from './tally.ts';
import type { VolumeFilter } from './volume-filter.ts';

/** In the order in which they are preferred. */
export const BLOCK_ACTIONS = ['Q', 'I', 'D', 'C'] as const;
export type BlockAction = (typeof BLOCK_ACTIONS)[number];

/** How actions are counted that are passed over. */
const PASSED_OVER = new Map<string, string>();
const WORDS_MAX = 64;

const UNDECIDED_MAX = 65_536;
/** Requeued requests that are remembered until they are issued again. */
const REQUEUED_MAX = 65_536;

type HeldRequest = { -readonly [Field in keyof Request]: Request[Field] };

interface Held {
  readonly action: BlockAction;
  readonly request: HeldRequest;
  /** Of a request that breaks a rule: reports that, if the action is chosen. */
  readonly reject: (() => void) | undefined;
}

/** What an event says of its request, beside the place. */
export interface BlockKind {
  readonly flushes: boolean;
  readonly op: 'read' | 'write' | 'discard' | undefined;
  readonly fua: boolean;
  readonly isZoneAppend: boolean;
  /** As the recorder spells it. */
  readonly name: string;
}

interface EventPlace {
  /** Bytes, not yet known to be whole and below 2^53. */
  readonly offset: number;
  readonly length: number | undefined;
  readonly timeNs: number;
}

/** What takes the requests: the collector. */
interface ActionTarget {
  readonly volumes: VolumeFilter;
  readonly passedOver: Tally;
  timeNs: number;
  brokenRule(op: RequestOp, offset: number, length: number): string | undefined;
  rejectLater(rule: string): () => void;
  add(request: HeldRequest): string | undefined;
}

export class ActionChoice {
  chosen: BlockAction | undefined;
  /** Requests that failed when they were recorded. */
  failedCount = 0;

  readonly #target: ActionTarget;
  readonly #isAsked: boolean;
  #held: Held[] = [];
  readonly #otherVolumes: Record<BlockAction, number> = { Q: 0, I: 0, D: 0, C: 0 };
  readonly #failed: Record<BlockAction, number> = { Q: 0, I: 0, D: 0, C: 0 };
  readonly #again: Record<BlockAction, number> = { Q: 0, I: 0, D: 0, C: 0 };
  readonly #requeued = { I: new Map<string, number>(), D: new Map<string, number>() };

  constructor(asked: BlockAction | undefined, target: ActionTarget) {
    this.chosen = asked;
    this.#isAsked = asked !== undefined;
    this.#target = target;
  }

  /** Whether requests of the action are to be added; if not, counts the event as passed over. */
  wants(action: BlockAction): boolean {
    if (this.chosen === action || this.chosen === undefined) return true;
    this.passOver(action);
    return false;
  }

  /** The rule that an event breaks that is not wanted, or `undefined`. */
  lateRule(action: BlockAction): string | undefined {
    if (action !== 'Q' || this.#isAsked || this.chosen === 'Q') return undefined;
    return `an event of action Q after ${String(UNDECIDED_MAX)} requests without one; choose the action with --action`;
  }

  /** Counts an event of another action. */
  passOver(action: string, count = 1): void {
    if (count === 0) return;
    // One event in two is passed over, or more: its words are made once.
    let words = PASSED_OVER.get(action);
    if (words === undefined) {
      words = `action ${action}`;
      if (PASSED_OVER.size < WORDS_MAX) PASSED_OVER.set(action, words);
    }
    this.#target.passedOver.add(words, count);
  }

  /** A wanted event belongs to another volume. */
  addOfOtherVolume(action: BlockAction): void {
    if (this.chosen === undefined) this.#otherVolumes[action]++;
  }

  /** A wanted event is a request that failed. */
  addFailed(action: BlockAction): void {
    if (this.chosen === undefined) this.#failed[action]++;
    else this.failedCount++;
  }

  /** A request goes back to the queue, and will be inserted or issued a second time. */
  requeue(op: BlockKind['op'], offset: number, length: number): void {
    const place = placeOf(length === 0 ? 'flush' : op, offset, length);
    for (const places of [this.#requeued.I, this.#requeued.D]) {
      if (places.size < REQUEUED_MAX) places.set(place, (places.get(place) ?? 0) + 1);
    }
  }

  /** Takes the request of a wanted event; answers the rule it breaks. */
  add(action: BlockAction, request: HeldRequest): string | undefined {
    if ((action === 'I' || action === 'D') && this.#isAgain(this.#requeued[action], request)) {
      if (this.chosen === undefined) this.#again[action]++;
      else this.#addAgain(1);
      return undefined;
    }
    if (this.chosen === undefined && action === 'Q') this.#choose('Q');
    if (this.chosen !== undefined) return this.#target.add(request);
    const rule = this.#target.brokenRule(request.op, request.offset, request.length);
    const reject = rule === undefined ? undefined : this.#target.rejectLater(rule);
    this.#target.timeNs = request.timeNs;
    this.#held.push({ action, request, reject });
    if (this.#held.length >= UNDECIDED_MAX) this.#choose(this.#mostCovering());
    return undefined;
  }

  /**
   * Takes a wanted event of `length` bytes (`undefined`: it moves no data): the flush that comes
   * first, if it asks for one, and its request. Answers the rule it breaks.
   */
  addEvent(action: BlockAction, kind: BlockKind, { offset, length, timeNs }: EventPlace): string | undefined {
    const { passedOver } = this.#target;
    const { flushes, op, fua, isZoneAppend } = kind;
    if (flushes) {
      const flush = { op: 'flush', offset: 0, length: 0, fua: false, unmap: false, timeNs } as const;
      const rule = this.add(action, flush);
      if (rule !== undefined) return rule;
    }
    if (length === undefined || (length === 0 && (flushes || action === 'C'))) {
      if (!flushes) passedOver.add('events without data');
      return undefined;
    }
    if (isZoneAppend && action !== 'C') {
      passedOver.add('zone appends (their place is in the completion: --action C)');
      return undefined;
    }
    if (op === undefined) {
      passedOver.add(`requests of kind ${kind.name}`);
      return undefined;
    }
    return (
      unreadablePlace(offset, length) ?? this.add(action, { op, offset, length, fua, unmap: false, timeNs })
    );
  }

  /** The end of the trace. */
  settle(): void {
    if (this.chosen !== undefined) return;
    const isAny = this.#held.length > 0 || BLOCK_ACTIONS.some((action) => this.#failed[action] > 0);
    if (isAny) this.#choose(this.#mostCovering());
  }

  #isAgain(places: Map<string, number>, { op, offset, length }: HeldRequest): boolean {
    if (places.size === 0) return false;
    const place = placeOf(op, offset, length);
    const count = places.get(place) ?? 0;
    if (count === 1) places.delete(place);
    else if (count > 1) places.set(place, count - 1);
    return count > 0;
  }

  #addAgain(count: number): void {
    if (count > 0) this.#target.passedOver.add('requests issued again', count);
  }

  #mostCovering(): BlockAction {
    const counts = { ...this.#failed };
    for (const { action } of this.#held) counts[action]++;
    if (counts.I > 0 && counts.I >= counts.D) return 'I';
    return counts.D > 0 ? 'D' : 'C';
  }

  #choose(action: BlockAction): void {
    this.chosen = action;
    const { volumes } = this.#target;
    this.failedCount += this.#failed[action];
    this.#addAgain(this.#again[action]);
    for (const other of BLOCK_ACTIONS) {
      if (other === action) continue;
      volumes.otherCount -= this.#otherVolumes[other];
      const held = this.#held.reduce((sum, each) => sum + (each.action === other ? 1 : 0), 0);
      const left = this.#failed[other] + this.#otherVolumes[other] + this.#again[other];
      this.passOver(other, held + left);
    }
    const { timeNs } = this.#target;
    const chosen = this.#held.filter((held) => held.action === action);
    this.#held = [];
    for (const { request, reject } of chosen) {
      if (reject === undefined) this.#target.add(request);
      else reject();
    }
    this.#target.timeNs = Math.max(timeNs, this.#target.timeNs);
  }
}

/** A write where a read was requeued is another request. */
function placeOf(op: HeldRequest['op'] | undefined, offset: number, length: number): string {
  return `${op ?? 'other'} ${String(offset)}+${String(length)}`;
}

const MINOR_BITS = 20;

/** One number for major and minor, as the kernel has it. */
export function deviceNumber(major: number, minor: number): number {
  return major * 2 ** MINOR_BITS + minor;
}

/** `8,0`. */
export function deviceName(device: number): string {
  return `${String(device >>> MINOR_BITS)},${String(device & ((1 << MINOR_BITS) - 1))}`;
}
