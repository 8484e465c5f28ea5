/**
 * The memory that all clients of a server share: what a request takes from when it is begun until
 * the kernel has taken its reply.
 *
 * Invariants:
 * - Each client has a reserve of its own that no other client can use up. What goes beyond it comes
 *   from a common part. A client holds at most `clientBytes`, or a single request.
 * - Of the common part a client takes a first request where it fits, and further ones only behind
 *   all that wait. So a client that sends one request after another is not kept waiting by one that
 *   needs more than is free.
 * - While a client waits for the common part, one that holds some of it, or waits too, and moves
 *   nothing for `stallMs`, though it is its turn to read or to send, is dropped. So no client waits
 *   for one that never reads.
 */

export interface BudgetLimits {
  /** Bytes that each client may always hold. */
  readonly reserveBytes: number;
  /**
   * Bytes beyond the reserves, for all clients together. At least as many as a single request
   * takes.
   */
  readonly commonBytes: number;
  /** Bytes that a client may hold with more than one request. */
  readonly clientBytes: number;
  readonly stallMs: number;
}

export interface MemoryHolder {
  /**
   * Whether the client has to do something (read replies, send data) before memory can be released.
   */
  readonly isAwaited: () => boolean;
  /** Closes the connection. */
  readonly drop: () => void;
}

interface Waiter {
  readonly client: ClientMemory;
  readonly bytes: number;
  readonly resolve: (isGranted: boolean) => void;
}

export class MemoryBudget {
  readonly limits: BudgetLimits;
  readonly #clients = new Set<ClientMemory>();
  #waiters: Waiter[] = [];
  #commonHeld = 0;
  #stallTimer: NodeJS.Timeout | undefined;

  constructor(limits: BudgetLimits) {
    this.limits = limits;
  }

  /** Bytes that all clients hold. */
  get heldBytes(): number {
    let sum = 0;
    for (const { heldBytes } of this.#clients) sum += heldBytes;
    return sum;
  }

  open(holder: MemoryHolder): ClientMemory {
    const client = new ClientMemory(this, holder);
    this.#clients.add(client);
    return client;
  }

  /**
   * For `ClientMemory`: takes the bytes if they are free and, after a first request, no other
   * client waits.
   */
  take(client: ClientMemory, bytes: number): boolean {
    const common = this.#commonOf(client.heldBytes + bytes) - this.#commonOf(client.heldBytes);
    if (common > 0) {
      if (this.#isOverOwnLimit(client, bytes)) return false;
      if (this.#commonHeld + common > this.limits.commonBytes) return false;
      if (client.heldBytes > 0 && this.#isWaitedFor) return false;
    }
    this.#commonHeld += common;
    client.heldBytes += bytes;
    return true;
  }

  /**
   * For `ClientMemory`: resolves with true when the bytes are taken, with false when the client has
   * left.
   */
  wait(client: ClientMemory, bytes: number): Promise<boolean> {
    return new Promise((resolve) => {
      this.#waiters.push({ client, bytes, resolve });
      this.#watchForStalls();
    });
  }

  /** For `ClientMemory`. */
  release(client: ClientMemory, bytes: number): void {
    this.#commonHeld += this.#commonOf(client.heldBytes - bytes) - this.#commonOf(client.heldBytes);
    client.heldBytes -= bytes;
    if (this.#waiters.length > 0) this.#grant();
  }

  /** For `ClientMemory`: the client waits no more. */
  cancel(client: ClientMemory): void {
    const waiting = this.#waiters.filter((waiter) => waiter.client === client);
    this.#waiters = this.#waiters.filter((waiter) => waiter.client !== client);
    for (const { resolve } of waiting) resolve(false);
    // It may have been the one for which the common part was kept.
    this.#grant();
  }

  /** For `ClientMemory`. */
  close(client: ClientMemory): void {
    this.#clients.delete(client);
    this.release(client, client.heldBytes);
  }

  #commonOf(heldBytes: number): number {
    return Math.max(0, heldBytes - this.limits.reserveBytes);
  }

  #isOverOwnLimit({ heldBytes }: ClientMemory, bytes: number): boolean {
    return heldBytes > 0 && heldBytes + bytes > this.limits.clientBytes;
  }

  /** Whether a client waits for what others hold, and not only for its own replies to leave. */
  get #isWaitedFor(): boolean {
    return this.#waiters.some(({ client, bytes }) => !this.#isOverOwnLimit(client, bytes));
  }

  /** Serves those who wait, in order. */
  #grant(): void {
    const waiting = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiting) {
      if (this.take(waiter.client, waiter.bytes)) waiter.resolve(true);
      else this.#waiters.push(waiter);
    }
    this.#watchForStalls();
  }

  #watchForStalls(): void {
    if (!this.#isWaitedFor) {
      clearInterval(this.#stallTimer);
      this.#stallTimer = undefined;
    } else if (this.#stallTimer === undefined) {
      for (const client of this.#clients) client.isMoving = false;
      this.#stallTimer = setInterval(() => this.#dropStalled(), this.limits.stallMs);
    }
  }

  #dropStalled(): void {
    const waiting = new Set(this.#waiters.map(({ client }) => client));
    const stalled = [...this.#clients].filter((client) => {
      const isInvolved = this.#commonOf(client.heldBytes) > 0 || waiting.has(client);
      return isInvolved && !client.isMoving && client.holder.isAwaited();
    });
    for (const client of this.#clients) client.isMoving = false;
    // All leave first: what one of them releases must not go to another.
    for (const client of stalled) client.leave();
    for (const client of stalled) client.holder.drop();
  }
}

/** What one client holds. */
export class ClientMemory {
  heldBytes = 0;
  /** Whether a request was answered, or a reply has left, since this was set to false. */
  isMoving = true;
  readonly holder: MemoryHolder;
  readonly #budget: MemoryBudget;
  #hasLeft = false;

  constructor(budget: MemoryBudget, holder: MemoryHolder) {
    this.#budget = budget;
    this.holder = holder;
  }

  /** Takes the bytes at once; false: they are not free. */
  take(bytes: number): boolean {
    return !this.#hasLeft && this.#budget.take(this, bytes);
  }

  /**
   * Takes the bytes when they are free; false: the client has left. One request waits at a time.
   */
  async wait(bytes: number): Promise<boolean> {
    return this.#hasLeft ? false : this.#budget.wait(this, bytes);
  }

  release(bytes: number): void {
    this.isMoving = true;
    this.#budget.release(this, bytes);
  }

  /** The client has left: nothing more is taken. What is in flight still holds its memory. */
  leave(): void {
    if (this.#hasLeft) return;
    this.#hasLeft = true;
    this.#budget.cancel(this);
  }

  /** After `leave`, when nothing is in flight: gives back the rest. */
  close(): void {
    this.leave();
    this.#budget.close(this);
  }
}
