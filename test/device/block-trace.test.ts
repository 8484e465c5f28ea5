import { expect, test } from 'vitest';

import { seeksOf } from '../../src/device/block-trace.ts';

/** As Linux 6.12 has it. */
function trace(head: string, ...requests: readonly string[]): string {
  const lines = requests.map(
    (request, index) =>
      `    kworker/0:0H-19965   [000] ..... 68445.65578${String(index)}: block_rq_issue: 7,0 ${request} be,0,3 [kworker/0:0H]`,
  );
  return [
    '# tracer: nop',
    '#',
    `# entries-in-buffer/entries-written: ${head}   #P:2`,
    '#',
    ...lines,
    '',
  ].join('\n');
}

test('a request that starts elsewhere than where the one before ended is a seek', () => {
  const text = trace(
    '7/7',
    'WS 4096 () 800 + 8',
    'WS 4096 () 808 + 8',
    // Neither a flush nor a discard moves the head.
    'FF 0 () 0 + 0',
    'DS 4096 () 16 + 8',
    'FWFSM 8192 () 816 + 16',
    'R 4096 () 100 + 8',
    'RA 4096 () 832 + 8',
  );
  expect(seeksOf(text)).toBe(2);
});

test('nothing is counted where events were lost', () => {
  expect(seeksOf(trace('1/2', 'WS 4096 () 800 + 8'))).toBeUndefined();
  expect(seeksOf('')).toBeUndefined();
});
