/**
 * The names of host operations and of the phases of a run, spelled as results and host logs spell
 * them.
 */

/** What a host operation does. */
export const HOST_OPS = ['write', 'read', 'zero-range', 'punch-hole', 'truncate', 'sync'] as const;
export type HostOp = (typeof HOST_OPS)[number];

/**
 * The parts of a run that are counted apart: opening the image, the guest's requests, closing it.
 */
export const PHASES = ['open', 'run', 'close'] as const;
export type Phase = (typeof PHASES)[number];

/** The source of the current phase, such as `HostMeter`. */
export interface PhaseSource {
  readonly phase: Phase;
}
