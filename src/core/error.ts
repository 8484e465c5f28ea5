/**
 * The one error class for everything that is caused by the user or the system: a bad image, a bad
 * option, a full disk. A program bug is an assertion (`assertInvariant`), never this class.
 *
 * Invariants: `code` is stable and machine-readable; `message` is one sentence that says what is
 * wrong, where, by which rule, and what to do about it; the system's own error stays in `cause`.
 */

import { completeCode } from './system-error-name.ts';

/** Where an error is, as far as it is known. Offsets are bytes from the start of `path`. */
export interface ErrorPlace {
  readonly path?: string | undefined;
  readonly offset?: number | bigint | undefined;
  readonly line?: number | undefined;
}

export class Qcow2BenchError extends Error {
  /** Stable identifier, lower-case words joined by hyphens, e.g. `qcow2-bad-magic`. */
  readonly code: string;
  readonly path: string | undefined;
  readonly offset: number | bigint | undefined;
  readonly line: number | undefined;

  constructor(code: string, message: string, place: ErrorPlace = {}, cause?: unknown) {
    super(describePlace(place) + message, cause === undefined ? undefined : { cause });
    this.name = 'Qcow2BenchError';
    this.code = code;
    this.path = place.path;
    this.offset = place.offset;
    this.line = place.line;
  }
}

/** `0x…` in lower case, for host and guest offsets in messages. */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

/** The system's error code (`ENOSPC`, `EINVAL` …) of a caught value, if it carries one. */
export function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error && 'code' in error && typeof error.code === 'string')) return undefined;
  return completeCode(error.code, 'errno' in error ? error.errno : undefined);
}

/** Of an error and others that followed while its block was left: the one that was first. */
export function firstError(error: unknown): unknown {
  return error instanceof SuppressedError ? firstError(error.suppressed) : error;
}

/** States what the program itself guarantees; a failure is a bug here, not bad input. */
export function assertInvariant(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(`internal error: ${what}`);
}

function describePlace(place: ErrorPlace): string {
  const parts: string[] = [];
  if (place.path !== undefined) parts.push(place.path);
  if (place.line !== undefined) parts.push(`line ${String(place.line)}`);
  if (place.offset !== undefined) parts.push(`offset ${hex(place.offset)}`);
  return parts.length === 0 ? '' : `${parts.join(', ')}: `;
}
