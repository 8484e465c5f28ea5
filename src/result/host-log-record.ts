/**
 * A line of host operations that any block layer can write (`docs/host-log.schema.json`): what the
 * program's own host log has, of which purpose, cause and phase may be left out.
 */

import { z } from 'zod';

import { PHASES, PURPOSES, SYNC_CAUSES } from './vocabulary.ts';

const count = z.int().nonnegative();
const origin = {
  phase: z
    .enum(PHASES)
    .optional()
    .describe(
      'Default: `run` of an operation with a request; `open` before the first, `close` after the last',
    ),
  file: z
    .string()
    .regex(/^(?:image|data|backing:\d{1,3}(?::data)?)$/)
    .optional()
    .describe('`image` (default), `data` (its data file) or `backing:N`, the nearest first'),
  request: count
    .optional()
    .describe('Number of the guest request that it was issued for, from 0; absent at open and close'),
  guest: z
    .looseObject({ op: z.string() })
    .optional()
    .describe('That request, in the first line of each; not read'),
};

const rangeSchema = z.strictObject({
  ...origin,
  op: z.enum(['write', 'read', 'zero-range', 'punch-hole', 'truncate']),
  offset: count.describe('Host offset in bytes; of a truncate the new size'),
  length: count.describe('Bytes; of a truncate 0'),
  purpose: z.enum(PURPOSES).optional().describe('Default: from the structure of the image'),
  parts: z
    .array(z.tuple([z.enum(PURPOSES), count]))
    .max(1024)
    .optional()
    .describe('Of a write that holds several: purpose and bytes of each part, in order'),
});

const syncSchema = z.strictObject({
  ...origin,
  op: z.literal('sync').describe('fdatasync, fsync'),
  cause: z.enum(SYNC_CAUSES).optional().describe('Default: from the operations around it and the cache mode'),
});

export const hostLogRecordSchema = z
  .discriminatedUnion('op', [rangeSchema, syncSchema])
  .meta({ title: 'Line of a log of host operations' });
export type GivenRecord = z.infer<typeof hostLogRecordSchema>;

/** The published schema. */
export function hostLogJsonSchema(): unknown {
  return z.toJSONSchema(hostLogRecordSchema, { io: 'input' });
}
