/** What the program's exit codes mean. `check` alone has those of `qemu-img check`. */

export const EXIT = {
  good: 0,
  error: 1,
  usage: 2,
  /** A regression, a parity mismatch or a failed verification. */
  verdict: 3,
  interrupted: 130,
} as const;
