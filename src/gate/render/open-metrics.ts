/**
 * The figures of all gated cells in the text format of OpenMetrics 1.0, which GitLab shows in a
 * merge request as those that changed (`artifacts:reports:metrics`).
 */

import type { GateCell, GateRecord } from '../record.ts';

const METRICS = [
  ['syncsPerWrite', 'syncs_per_write', 'Syncs per guest write'],
  ['metadataWritesPerWrite', 'metadata_writes_per_write', 'Metadata writes per guest write'],
  ['bytesPerWrite', 'bytes_per_write', 'Bytes written per guest write'],
  ['writeAmplification', 'write_amplification', 'Bytes written per byte of guest writes'],
] as const;

/** Ends with `# EOF` and a line feed. */
export function gateMetrics({ cells, problems }: GateRecord): string {
  const counted = cells.filter(({ outcome }) => outcome !== 'missing');
  const lines = METRICS.flatMap(([figure, name, help]) => {
    const samples = counted.flatMap((cell) => {
      const value = cell.figures[figure];
      return value === undefined ? [] : [`qcow2_bench_${name}{${labels(cell)}} ${String(value)}`];
    });
    return samples.length === 0 ? [] : [...head(name, help), ...samples];
  });
  return [
    ...lines,
    ...head('gate_problems', 'Causes that fail the gate'),
    `qcow2_bench_gate_problems ${String(problems.length)}`,
    '# EOF',
    '',
  ].join('\n');
}

function head(name: string, help: string): readonly string[] {
  return [`# TYPE qcow2_bench_${name} gauge`, `# HELP qcow2_bench_${name} ${help}.`];
}

function labels({ cell, name }: GateCell): string {
  const setup = name.split(' · ').slice(3).join(' ');
  const values = [
    ['workload', cell.workload],
    ['format', cell.format],
    ['refcounts', cell.refcounts ?? ''],
    ['cache', cell.cache],
    ['engine', cell.engine],
    ['setup', setup],
  ] as const;
  return values
    .filter(([, value]) => value !== '')
    .map(([label, value]) => `${label}="${escaped(value)}"`)
    .join(',');
}

function escaped(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
