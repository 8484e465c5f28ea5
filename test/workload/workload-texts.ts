/** Workloads for tests: a small valid one as plain JSON values, and as the generator takes it. */

import { parseWorkload } from '../../src/workload/workload-file.ts';
import type { Workload } from '../../src/workload/schema.ts';

export type Json = Record<string, unknown>;

export function phaseJson(changes: Json = {}): Json {
  return {
    name: 'phase',
    requests: 10,
    mix: { write: 1 },
    blockSizes: [{ size: '4KiB' }],
    pattern: { kind: 'sequential' },
    ...changes,
  };
}

export function workloadJson(changes: Json = {}): Json {
  return {
    schema: 'qcow2-bench/workload@1',
    name: 'for-a-test',
    title: 'For a test',
    description: 'Nothing to learn here.',
    seed: 1,
    image: { size: '1MiB' },
    phases: [phaseJson()],
    ...changes,
  };
}

export function workload(changes: Json = {}): Workload {
  return parseWorkload(JSON.stringify(workloadJson(changes)), 'test.json');
}
