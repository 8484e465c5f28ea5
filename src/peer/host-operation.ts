/**
 * One operation of a real QEMU on a file of its image, as the system saw it. It has no purpose: the
 * system does not know why. Offsets and lengths are bytes.
 */

import type { HostOp, Phase } from '../device/operation.ts';

/**
 * `allocate` is a plain `fallocate`, which reserves space and changes no byte: only QEMU's fallback
 * uses it.
 */
export type TracedOp = HostOp | 'allocate';

export interface HostOperation {
  readonly phase: Phase;
  /** Index of the guest request during which it was issued; `undefined` at open and close. */
  readonly request: number | undefined;
  readonly op: TracedOp;
  /** The name the caller gave the file: `image`, `data` or `backing:N`. */
  readonly file: string;
  /** For a truncate the new size; 0 for a sync. */
  readonly offset: number;
  readonly length: number;
  /** The system's code if it failed, e.g. `EOPNOTSUPP`. */
  readonly error: string | undefined;
}
