/**
 * The table of formats: the one place that names them together. What a format is and can do is
 * asked here; `registry.ts` opens and creates.
 */

import { FORMATS, PLAIN_FORMAT, type Format } from '../core/format-name.ts';
import { givenSizes, type CacheSizes } from './cache-sizes.ts';
import type { FormatFacts } from './format-facts.ts';
import { SHAPE_DEFAULTS, type ImageShape } from './image-shape.ts';
import { btreeFormat } from './btree/format.ts';
import { qcow2Format } from './qcow2/format.ts';
import { qedFormat } from './qed/format.ts';
import { rawFormat } from './raw/format.ts';

export const FORMAT_FACTS: Readonly<Record<Format, FormatFacts>> = {
  raw: rawFormat,
  qcow2: qcow2Format,
  qed: qedFormat,
  btree: btreeFormat,
};

/** Those of which something is true, in the order of the table. */
export function formatsWith(fact: (facts: FormatFacts) => boolean): readonly Format[] {
  return FORMATS.filter((format) => fact(FORMAT_FACTS[format]));
}

/** A list for a sentence: `raw, qcow2 or qed`. */
export function formatList(formats: readonly Format[] = FORMATS, last: 'or' | 'and' = 'or'): string {
  return sentenceList(formats, last);
}

/** The same of their titles: `raw, qcow2 or QED`. */
export function titleList(formats: readonly Format[] = FORMATS): string {
  return sentenceList(
    formats.map((format) => FORMAT_FACTS[format].title),
    'or',
  );
}

function sentenceList(names: readonly string[], last: string): string {
  const [end] = names.slice(-1);
  if (end === undefined || names.length === 1) return end ?? '';
  return `${names.slice(0, -1).join(', ')} ${last} ${end}`;
}

/** The formats of backing files that an image of the format names. */
export function namesBackingFormat(format: Format, backing: Format): boolean {
  const stored = FORMAT_FACTS[format].backing;
  return stored === 'any' || (stored === 'plain' && backing === PLAIN_FORMAT);
}

/** The formats in which a property of an image can be chosen. */
export function formatsWithShape(property: keyof ImageShape): readonly Format[] {
  return formatsWith(({ shape }) => shape.includes(property));
}

/** What of `shape` the format has and is not its default; `undefined` if that is nothing. */
export function shapeFor(format: Format, shape: ImageShape): ImageShape | undefined {
  const parts = FORMAT_FACTS[format].shape.flatMap((key) => {
    const value = shape[key];
    return value === undefined || value === SHAPE_DEFAULTS[key] ? [] : [[key, value] as const];
  });
  // The same names and values; only some were left out.
  return parts.length === 0 ? undefined : Object.fromEntries(parts);
}

/** What of the sizes of caches the format has; `undefined` if that is nothing. */
export function cachesFor(format: Format, sizes: CacheSizes): CacheSizes | undefined {
  const parts = FORMAT_FACTS[format].cacheSizes.map((key) => [key, sizes[key]] as const);
  return givenSizes(Object.fromEntries(parts));
}
