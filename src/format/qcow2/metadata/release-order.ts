/**
 * In which order the slots of a table cache were let go: the one let go longest ago is the next to
 * be evicted.
 *
 * Invariants: a slot is in the order once, or not at all if it was never let go or was forgotten
 * since. A list of links, so that each step costs the same with 8,192 slots as with 2.
 */

export class ReleaseOrder {
  /**
   * Of each slot those before and after it; `slots` means both ends, −1 for a slot not in the
   * order.
   */
  readonly #before: Int32Array;
  readonly #after: Int32Array;
  readonly #end: number;
  #absent: number;

  constructor(slots: number) {
    this.#before = new Int32Array(slots + 1).fill(-1);
    this.#after = new Int32Array(slots + 1).fill(-1);
    this.#end = slots;
    this.#before[slots] = slots;
    this.#after[slots] = slots;
    this.#absent = slots;
  }

  /** Whether any slot was never let go, or forgotten since. */
  get hasAbsent(): boolean {
    return this.#absent > 0;
  }

  has(slot: number): boolean {
    return this.#after[slot] !== -1;
  }

  /** The slot let go longest ago, or the one let go next after `slot`; −1 if there is none. */
  oldest(): number {
    return this.next(this.#end);
  }

  next(slot: number): number {
    const next = this.#after[slot] as number;
    return next === this.#end ? -1 : next;
  }

  /** The slot is let go now: it becomes the last. */
  release(slot: number): void {
    // Mostly it is the last already: one table serves many requests in turn.
    if (this.#before[this.#end] === slot) return;
    if (this.has(slot)) this.#unlink(slot);
    else this.#absent--;
    const newest = this.#before[this.#end] as number;
    this.#before[slot] = newest;
    this.#after[newest] = slot;
    this.#after[slot] = this.#end;
    this.#before[this.#end] = slot;
  }

  forget(slot: number): void {
    if (!this.has(slot)) return;
    this.#unlink(slot);
    this.#before[slot] = -1;
    this.#after[slot] = -1;
    this.#absent++;
  }

  #unlink(slot: number): void {
    const before = this.#before[slot] as number;
    const after = this.#after[slot] as number;
    this.#after[before] = after;
    this.#before[after] = before;
  }
}
