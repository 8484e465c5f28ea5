/**
 * The studies that ship, and those that a user names by path.
 *
 * Invariant: a study that ships has the name of its file without `.json`.
 */

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { Qcow2BenchError } from '../core/error.ts';
import { existsSync, readdirSync } from '../core/host-fs.ts';
import { LIMITS } from '../core/limits.ts';
import { didYouMean } from '../core/nearest-name.ts';
import { readCheckedJson } from '../result/checked-json.ts';
import { STUDY_SCHEMA, studySchema, type Study } from './schema.ts';

/** The same place seen from `src/study/` and from `dist/study/`. */
const SHIPPED = fileURLToPath(new URL('../../workloads/studies/', import.meta.url));
const ENDING = '.json';

/** Names of the studies that ship, in the order of the questions. */
export function studyNames(): readonly string[] {
  const found = existsSync(SHIPPED) ? readdirSync(SHIPPED).filter((file) => file.endsWith(ENDING)) : [];
  const names = found.map((file) => file.slice(0, -ENDING.length));
  return [
    ...ORDER.filter((name) => names.includes(name)),
    ...names.filter((name) => !ORDER.includes(name)).toSorted(),
  ];
}

const ORDER: readonly string[] = [
  'lazy-refcounts',
  'preallocation',
  'cache-modes',
  'l2-cache',
  'cluster-size',
  'file-system',
  'host-fs',
  'overhead',
  'growth',
  'chain',
  'durability',
];

/**
 * The path of a study by its name, or of the file itself.
 *
 * @throws Qcow2BenchError `unknown-study`.
 */
export function studyPath(nameOrPath: string): string {
  const names = studyNames();
  if (names.includes(nameOrPath)) return join(SHIPPED, nameOrPath + ENDING);
  if (existsSync(nameOrPath)) return nameOrPath;
  throw new Qcow2BenchError(
    'unknown-study',
    `no study or file '${nameOrPath}'${didYouMean(nameOrPath, names)}; bundled are ${names.join(', ')}`,
  );
}

/** @throws Qcow2BenchError `unknown-study`, or as `readCheckedJson` with the kind `study`. */
export function readStudy(nameOrPath: string): Study {
  return readCheckedJson(studyPath(nameOrPath), {
    schema: studySchema,
    schemaName: STUDY_SCHEMA,
    kind: 'study',
    sizeMax: LIMITS.workloadFileBytes,
  });
}
