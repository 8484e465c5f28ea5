/** Time, handed in by whoever starts a run: nothing in a benchmark reads a clock of its own. */

export interface CpuTimes {
  /** Nanoseconds of this process in user mode, since any fixed moment. */
  readonly userNs: number;
  /** Nanoseconds of this process in the kernel. */
  readonly systemNs: number;
}

export interface Clock {
  /** Nanoseconds since any fixed moment; never goes backwards. */
  nowNs(): bigint;
  /** Left out where it is not to be had: records then hold no processor times. */
  cpuTimes?(): CpuTimes;
}
