/** The table as Markdown, for people. */

import { verdictOf, type Measure } from './measure.ts';

const ABOUT = `Each figure is the median with its 95 % bootstrap interval; a target is met if the whole
interval meets it, missed if none of it does, and inconclusive where the target is inside the interval: measure again
with more pairs on a quiet machine.

QEMU passes each I/O to a thread pool, and qcow2-bench does it in place at depth 1: so a ratio to \`qemu-img bench\`
(QEMU's time over ours) shows that the harness is not the bottleneck of what it measures, and not that its engine is the
better one. With O_DIRECT, QEMU's \`-i native\` is listed as well.
`;

export function perfDocument(measures: readonly Measure[], machine: string): string {
  const rows = measures.map((measure) => {
    const { name, unit, target, found, note } = measure;
    const verdict = verdictOf(measure) ?? 'no target';
    const wanted = target === undefined ? '' : `${target.at === 'least' ? '≥' : '≤'} ${figure(target.value)}`;
    const interval = `${figure(found.estimate)} [${figure(found.low)} … ${figure(found.high)}] ${unit}`;
    return `| ${name} | ${wanted} | ${interval} | ${verdict === 'missed' ? '**missed**' : verdict} | ${note ?? ''} |`;
  });
  return [
    '# Is the harness faster than what it measures?',
    '',
    machine,
    '',
    ABOUT,
    '| measure | must reach | found | | note |',
    '| --- | --- | --- | --- | --- |',
    ...rows,
    '',
  ].join('\n');
}

function figure(value: number): string {
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString('en-US');
  return value.toPrecision(3);
}
