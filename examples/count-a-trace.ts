/**
 * Counts what a recorded trace costs on qcow2 with eager and with lazy refcounts: syncs and bytes
 * per guest write.
 *
 *   node examples/count-a-trace.ts [TRACE]     default: a recording of SQLite that ships
 *
 * In your own program, import from 'qcow2-bench'.
 */

import { BuiltinEngine, cellName, deriveFigures, findSource, planMatrix } from '../src/index.ts';

const [trace = 'sqlite-rollback'] = process.argv.slice(2);

const plans = planMatrix({
  sources: [await findSource(trace)],
  formats: ['qcow2'],
  refcounts: ['eager', 'lazy'],
  caches: ['writethrough'],
  clusterSizes: [65_536],
  queueDepths: [1],
  engines: ['builtin'],
  devices: ['memory'],
});
const engine = new BuiltinEngine();
for (const plan of plans) {
  const { counts } = await engine.count(plan, { limit: 5000 });
  const { syncsPerWrite, bytesPerWrite } = deriveFigures(counts);
  const figures = `${(syncsPerWrite ?? 0).toFixed(3)} syncs, ${(bytesPerWrite ?? 0).toFixed(0)} bytes a write`;
  console.log(`${cellName(plan.cell)}: ${figures}`);
}
