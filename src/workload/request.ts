/**
 * A guest request, the unit that generators make, traces hold and images serve.
 *
 * Invariants: `offset` and `length` are bytes, multiples of 512; a flush has both 0; `timeNs`
 * counts from the stream's start and never goes backwards. A stream reuses nothing: each request is
 * a value.
 */

export const REQUEST_OPS = ['read', 'write', 'flush', 'discard', 'write-zeroes'] as const;
export type RequestOp = (typeof REQUEST_OPS)[number];

export { SECTOR_SIZE } from '../core/alignment.ts';

export interface Request {
  readonly op: RequestOp;
  /** Guest offset in bytes. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
  /** Force unit access: the write is durable when it is acknowledged. */
  readonly fua: boolean;
  /** For `write-zeroes`: the image may deallocate. */
  readonly unmap: boolean;
  /** Nanoseconds since the stream began; 0 in generated workloads. */
  readonly timeNs: number;
}
