/** Time, injected by the caller of a run: no benchmark code reads a clock itself. */

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
  /**
   * Resolves when `ticksNs` is `untilNs`, or rejects with the signal's reason; absent if the clock
   * cannot wait.
   */
  waitUntil?(untilNs: number, signal?: AbortSignal): Promise<void>;
  /** Absent if not available: records then have no CPU times. */
  cpuTimes?(): CpuTimes;
}

/** The clock's ticks in nanoseconds, however it keeps them. */
export function ticksOf(clock: Clock): () => number {
  return clock.ticksNs === undefined ? () => Number(clock.nowNs()) : () => clock.ticksNs?.() ?? 0;
}
