/** Time, handed in by whoever starts a run: nothing in a benchmark reads a clock of its own. */

export interface CpuTimes {
  /** Nanoseconds of this process in user mode, since any fixed moment. */
  readonly userNs: number;
  /** Nanoseconds of this process in the kernel. */
  readonly systemNs: number;
  /** How often the system took the processor away from this process, since any fixed moment. */
  readonly preemptions: number;
}

export interface Clock {
  /** Nanoseconds since any fixed moment; never goes backwards. */
  nowNs(): bigint;
  /** The same as a number, for differences on hot paths; left out: read from `nowNs`. */
  ticksNs?(): number;
  /** Resolves when `ticksNs` is `untilNs`, or rejects with the signal's reason; left out where nobody can wait. */
  waitUntil?(untilNs: number, signal?: AbortSignal): Promise<void>;
  /** Left out where it is not to be had: records then hold no processor times. */
  cpuTimes?(): CpuTimes;
}

/** The clock's ticks in nanoseconds, however it keeps them. */
export function ticksOf(clock: Clock): () => number {
  return clock.ticksNs === undefined ? () => Number(clock.nowNs()) : () => clock.ticksNs?.() ?? 0;
}
