/**
 * Time that passes only because a model says so: a clock, and an agenda of what ends when.
 *
 * Invariants:
 * - Time never goes backwards. Events come in the order of their times, those of one time in the
 *   order in which they were put down, each when nothing else is left to run: so the same requests
 *   give the same times, always.
 */

interface Event {
  readonly atNs: number;
  readonly order: number;
  readonly happen: () => void;
}

export class VirtualTime {
  #nowNs = 0;
  #order = 0;
  /** A binary heap, the earliest event first. */
  readonly #agenda: Event[] = [];
  #isPumping = false;

  /** Nanoseconds since this time began. */
  get nowNs(): number {
    return this.#nowNs;
  }

  /** Lets `ns` nanoseconds pass at once, for work that nothing else goes on beside. */
  advance(ns: number): void {
    this.#nowNs += ns;
  }

  /** Resolves when the time is `atNs`. */
  until(atNs: number): Promise<void> {
    return new Promise((resolve) => {
      this.#put({ atNs, order: this.#order++, happen: resolve });
      if (this.#isPumping) return;
      this.#isPumping = true;
      setImmediate(() => {
        this.#pump();
      });
    });
  }

  /** One event a turn of the event loop: all that follows from it runs before the next. */
  #pump(): void {
    const event = this.#take();
    if (event !== undefined) {
      this.#nowNs = Math.max(this.#nowNs, event.atNs);
      event.happen();
    }
    this.#isPumping = this.#agenda.length > 0;
    if (!this.#isPumping) return;
    setImmediate(() => {
      this.#pump();
    });
  }

  #put(event: Event): void {
    const heap = this.#agenda;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent];
      if (above === undefined || !isBefore(event, above)) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = event;
  }

  #take(): Event | undefined {
    const heap = this.#agenda;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      const left = heap[2 * at + 1];
      const right = heap[2 * at + 2];
      if (left === undefined) break;
      const isRight = right !== undefined && isBefore(right, left);
      const child = isRight ? right : left;
      if (!isBefore(child, last)) break;
      heap[at] = child;
      at = 2 * at + (isRight ? 2 : 1);
    }
    heap[at] = last;
    return first;
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.atNs < b.atNs || (a.atNs === b.atNs && a.order < b.order);
}
