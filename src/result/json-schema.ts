/**
 * The JSON Schema of result files, made from the zod schema: `docs/result.schema.json` is its
 * output.
 */

import { z } from 'zod';

import { resultSchema } from './schema.ts';

/**
 * The text of `docs/result.schema.json`: JSON Schema 2020-12, two spaces a level, newline at the
 * end.
 */
export function resultJsonSchema(): string {
  return `${JSON.stringify(z.toJSONSchema(resultSchema), null, 2)}\n`;
}
