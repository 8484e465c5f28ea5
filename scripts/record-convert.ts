/**
 * Turns a recording (the log of nbdkit's log filter) into a native trace and prints what it holds. The recording
 * scripts call it; it needs Node 24, which runs the TypeScript sources as they are.
 *
 *     node scripts/record-convert.ts LOG OUT.trace.csv.gz [KEY=VALUE …]      facts for the trace's header
 */

import { statSync } from 'node:fs';
import process from 'node:process';

import { Qcow2BenchError } from '../src/core/error.ts';
import type { RequestOp } from '../src/workload/request.ts';
import { openTrace } from '../src/workload/trace/trace-reader.ts';
import { TraceWriter } from '../src/workload/trace/trace-writer.ts';

const [log, out, ...facts] = process.argv.slice(2);
if (log === undefined || out === undefined || facts.some((fact) => !fact.includes('='))) {
  process.stderr.write('usage: node scripts/record-convert.ts LOG OUT.trace.csv.gz [KEY=VALUE …]\n');
  process.exit(2);
}

try {
  await using trace = await openTrace(log, { format: 'nbdkit-log' });
  const provenance = facts.map((fact): readonly [string, string] => {
    const equals = fact.indexOf('=');
    return [fact.slice(0, equals), fact.slice(equals + 1)];
  });
  await using writer = new TraceWriter(out, { virtualSize: trace.virtualSize, provenance });
  const counts: Partial<Record<RequestOp, number>> = {};
  for await (const batch of trace.batches) {
    for (const request of batch) {
      counts[request.op] = (counts[request.op] ?? 0) + 1;
      await writer.write(request);
    }
  }
  await writer.close();
  const bytes = String(statSync(out).size);
  const failed = String(trace.failedCount);
  process.stdout.write(
    `${out}: ${String(writer.count)} requests, ${bytes} bytes; left out as failed: ${failed}\n`,
  );
  process.stdout.write(`${JSON.stringify(counts)}\n`);
} catch (error) {
  if (!(error instanceof Qcow2BenchError)) throw error;
  process.stderr.write(`record-convert: ${error.message}\n`);
  process.exit(1);
}
