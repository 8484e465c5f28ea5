/**
 * Turns a recording (the log of nbdkit's log filter) into a native trace and prints what it holds. The recording
 * scripts call it; it needs Node 24, which runs the TypeScript sources as they are.
 *
 *     node scripts/record-convert.mjs LOG OUT.trace.csv.gz [KEY=VALUE …]      facts for the trace's header
 */

import { statSync } from 'node:fs';
import process from 'node:process';

import { openTrace } from '../src/workload/trace-reader.ts';
import { TraceWriter } from '../src/workload/trace-writer.ts';

const [log, out, ...facts] = process.argv.slice(2);
if (log === undefined || out === undefined || facts.some((fact) => !fact.includes('='))) {
  console.error('usage: node scripts/record-convert.mjs LOG OUT.trace.csv.gz [KEY=VALUE …]');
  process.exit(2);
}

try {
  await using trace = await openTrace(log, { format: 'nbdkit-log' });
  const provenance = facts.map((fact) => [
    fact.slice(0, fact.indexOf('=')),
    fact.slice(fact.indexOf('=') + 1),
  ]);
  await using writer = new TraceWriter(out, { virtualSize: trace.virtualSize, provenance });
  const counts = {};
  for await (const batch of trace.batches) {
    for (const request of batch) {
      counts[request.op] = (counts[request.op] ?? 0) + 1;
      await writer.write(request);
    }
  }
  await writer.close();
  console.log(
    `${out}: ${writer.count} requests, ${statSync(out).size} bytes; left out as failed: ${trace.failedCount}`,
  );
  console.log(JSON.stringify(counts));
} catch (error) {
  console.error(`record-convert: ${error.message}`);
  process.exit(1);
}
