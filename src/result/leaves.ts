/**
 * The leaves of a schema, in its order: the columns of the CSV and the names by which the gate
 * compares counts.
 *
 * Invariant: a record keyed by a closed vocabulary has one leaf for each of its words, present or
 * not, so two records of one schema have the same leaves.
 */

import { z } from 'zod';

/** The way from the root to a value, e.g. `['counts', 'run', 'syncs', 'ops']`. */
export type LeafPath = readonly string[];

/** Paths of all values in the schema that are no objects; arrays count as leaves. */
export function schemaLeaves(schema: unknown): readonly LeafPath[] {
  if (schema instanceof z.ZodNullable || schema instanceof z.ZodOptional) {
    return schemaLeaves(schema.unwrap());
  }
  if (schema instanceof z.ZodObject) {
    const shape: Readonly<Record<string, unknown>> = schema.shape;
    return Object.entries(shape).flatMap(([key, child]) => below(key, child));
  }
  if (schema instanceof z.ZodRecord && schema.keyType instanceof z.ZodEnum) {
    const { valueType } = schema;
    return schema.keyType.options.flatMap((key) => below(String(key), valueType));
  }
  return [[]];
}

/** The value at `path`, or `undefined` where an optional or null part of the way is missing. */
export function leafValue(root: unknown, path: LeafPath): unknown {
  let value = root;
  for (const key of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = Reflect.get(value, key);
  }
  return value;
}

function below(key: string, child: unknown): readonly LeafPath[] {
  return schemaLeaves(child).map((path) => [key, ...path]);
}
