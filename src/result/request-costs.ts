/**
 * What each guest request of a cell cost: the host operations issued for it, in order, as a text.
 * Two results then show which request was the first to cost something else, without their host
 * logs.
 *
 * Invariants:
 * - A text names operations, purposes and causes, and the bytes of metadata; no offsets. Requests
 *   that cost the same share a text, so a record stays small: most workloads have a few texts.
 * - What is kept is the beginning of the run: `REQUESTS_MAX` requests, or as many as have
 *   `COSTS_MAX` different costs. A limit is never exceeded by leaving requests out in between.
 */

import { deflateRawSync, inflateRawSync } from 'node:zlib';

import { z } from 'zod';

/** Requests whose costs are kept. */
export const REQUESTS_MAX = 65_536;
/** Different costs that are kept. */
export const COSTS_MAX = 1024;
/** Characters of one cost. */
export const COST_LENGTH_MAX = 1024;
const SEQUENCE_LENGTH_MAX = 262_144;

export const requestCostsSchema = z
  .strictObject({
    digest: z
      .string()
      .regex(/^[0-9a-f]{32}$/)
      .describe('Of the image that the workload describes and all requests: another one, another workload'),
    costs: z
      .array(z.string().max(COST_LENGTH_MAX))
      .max(COSTS_MAX)
      .describe('Different costs, such as `write data, sync writethrough`; empty text: no host operation'),
    sequence: z
      .base64()
      .max(SEQUENCE_LENGTH_MAX)
      .describe('Of each request the index of its cost: 16 bits, little endian, deflated'),
  })
  .meta({
    id: 'RequestCosts',
    description: `Host operations of each of the first requests, at most ${String(REQUESTS_MAX)}`,
  });
export interface RequestCosts {
  readonly digest: string;
  readonly costs: readonly string[];
  readonly sequence: string;
}

/** @param indices of each request the index of its cost. */
export function encodeSequence(indices: readonly number[]): string {
  const bytes = Buffer.alloc(2 * indices.length);
  for (const [request, index] of indices.entries()) bytes.writeUInt16LE(index, 2 * request);
  return deflateRawSync(bytes, { level: 9 }).toString('base64');
}

/**
 * The cost of each request, in order; as many as can be read. A sequence that is damaged ends where
 * it is: it explains counts and is never counted.
 */
export function costSequence({ costs, sequence }: RequestCosts): readonly string[] {
  const bytes = inflated(sequence);
  const texts: string[] = [];
  for (let at = 0; at + 2 <= bytes.length; at += 2) {
    const cost = costs[bytes.readUInt16LE(at)];
    if (cost === undefined) break;
    texts.push(cost);
  }
  return texts;
}

function inflated(sequence: string): Buffer {
  try {
    return inflateRawSync(Buffer.from(sequence, 'base64'), { maxOutputLength: 2 * REQUESTS_MAX });
  } catch {
    return Buffer.alloc(0);
  }
}
