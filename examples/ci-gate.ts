/**
 * A gate for continuous integration: counts some cells and compares them with a committed baseline.
 * The exit code is 1 if a count got worse.
 *
 *   node examples/ci-gate.ts [BASELINE]     default: results/baseline.json of this project
 *
 * Counts are exact, so one sync more a run is enough to fail. In your own program, import from
 * 'qcow2-bench'.
 */

import { fileURLToPath } from 'node:url';

import {
  BuiltinEngine,
  collectEnvironment,
  compareCounts,
  findSource,
  gateRecord,
  planMatrix,
  readBaseline,
  verdictText,
  type CellRecord,
  type ResultRecord,
} from '../src/index.ts';

const WORKLOAD = 'stride';
const [path = fileURLToPath(new URL('../results/baseline.json', import.meta.url))] = process.argv.slice(2);
const whole = readBaseline(path);
const baseline = { ...whole, cells: whole.cells.filter(({ cell }) => cell.workload === WORKLOAD) };

const engine = new BuiltinEngine();
const plans = planMatrix({
  sources: [await findSource(WORKLOAD)],
  formats: ['raw', 'qcow2', 'qed'],
  refcounts: ['eager', 'lazy'],
  caches: ['writethrough', 'directsync', 'writeback', 'none', 'unsafe'],
  clusterSizes: [65_536],
  queueDepths: [1],
  engines: [engine.name],
  devices: ['memory'],
});
const cells: CellRecord[] = [];
for (const plan of plans) {
  const { counts, countsDevice, fallbacks } = await engine.count(plan, {});
  cells.push({
    cell: plan.cell,
    countsDevice,
    counts,
    timedRequests: 0,
    timings: [],
    fallbacks: [...fallbacks],
    skipped: null,
  });
}
const environment = collectEnvironment({ date: new Date(), commandLine: process.argv, seed: 0 });
const result: ResultRecord = { schema: 'qcow2-bench/result@1', environment, cells };
const verdict = compareCounts(result, baseline);
const record = gateRecord({
  verdict,
  result,
  baseline,
  paths: { result: 'this run', baseline: path },
  acceptCommand: 'qcow2-bench gate RESULT --accept',
});
console.log(verdictText(record));
process.exitCode = verdict.passed ? 0 : 1;
