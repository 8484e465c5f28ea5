/**
 * Is the harness faster than what it measures? The whole table in one run, side by side.
 *
 *   npm run --silent perf -- [--json FILE] [--only resident,throughput,flatness,qemu,depth32,prediction] [--dir DIR] [--pairs N]
 *
 * Writes FILE and, next to it, the same as Markdown, which is printed too; prints progress to
 * stderr.
 */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { Qcow2BenchError } from '../src/core/error.ts';
import { probeCapabilities } from '../src/device/capabilities.ts';
import { findQemuTools } from '../src/peer/qemu-tools.ts';
import { againstQemu } from './perf/against-qemu.ts';
import { perfDocument } from './perf/document.ts';
import { flatness, resident, throughput } from './perf/in-memory.ts';
import { verdictOf, type Measure } from './perf/measure.ts';
import { prediction } from './perf/prediction.ts';

const PARTS = ['resident', 'throughput', 'flatness', 'qemu', 'depth32', 'prediction'] as const;
type Part = (typeof PARTS)[number];

// Read by libuv when its threads are first used, by the overlapped files.
process.env['UV_THREADPOOL_SIZE'] ??= '64';
await main();

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      json: { type: 'string' },
      only: { type: 'string', default: PARTS.join(',') },
      dir: { type: 'string', default: tmpdir() },
      pairs: { type: 'string', default: '9' },
    },
  });
  const pairs = wholeNumber('--pairs', values.pairs);
  const parts = values.only.split(',').map(partNamed);
  const directory = mkdtempSync(join(values.dir, 'qcow2-bench-perf-'));
  const measures: Measure[] = [];
  try {
    for (const part of PARTS) {
      if (parts.includes(part)) measures.push(...(await runPart(part, { directory, pairs })));
    }
    const machine = `${cpus()[0]?.model ?? 'unknown processor'}, ${String(cpus().length)} cores, ${probeCapabilities(directory).fileSystem ?? 'unknown file system'}, Node ${process.version}.`;
    const document = perfDocument(measures, machine);
    process.stdout.write(document);
    if (values.json === undefined) return;
    const judged = measures.map((measure) => ({ ...measure, verdict: verdictOf(measure) ?? null }));
    writeFileSync(values.json, `${JSON.stringify({ machine, measures: judged }, undefined, 2)}\n`);
    writeFileSync(`${values.json.replace(/\.json$/, '')}.md`, document);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function runPart(
  part: Part,
  { directory, pairs }: { readonly directory: string; readonly pairs: number },
): Promise<readonly Measure[]> {
  switch (part) {
    case 'resident':
      return resident(tell);
    case 'throughput':
      return throughput(tell);
    case 'flatness':
      return flatness(tell);
    case 'prediction':
      return prediction({ directory, rounds: pairs, tell });
    case 'qemu':
    case 'depth32': {
      const { qemuImg } = await findQemuTools();
      return againstQemu({ directory, qemuImg, pairs, queueDepth: part === 'qemu' ? 1 : 32, tell });
    }
  }
}

function tell(text: string): void {
  process.stderr.write(`${text}\n`);
}

function wholeNumber(option: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new Qcow2BenchError('usage', `${option} takes a whole number above 0, not '${text}'`);
}

function partNamed(name: string): Part {
  const part = PARTS.find((known) => known === name);
  if (part !== undefined) return part;
  throw new Qcow2BenchError('usage', `--only takes ${PARTS.join(', ')}, not '${name}'`);
}
