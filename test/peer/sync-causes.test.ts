/**
 * The cause of a sync follows from its place; each case is a sequence that QEMU 7.2 was seen to
 * issue.
 */

import { expect, test } from 'vitest';

import type { Purpose, SyncCause } from '../../src/device/purpose.ts';
import { syncCauses, type SequenceSetting, type SequenceStep } from '../../src/peer/sync-causes.ts';
import type { Request } from '../../src/workload/request.ts';

const PURPOSES: Readonly<Record<string, Purpose>> = {
  H: 'header',
  L1: 'l1-table',
  L2: 'l2-table',
  RT: 'refcount-table',
  RB: 'refcount-block',
  D: 'data',
  C: 'cow',
};

/** `0: D RB F L2 F`: request 0 (or `close`) and what it writes; F is a sync. */
function stepsOf(...lines: readonly string[]): readonly SequenceStep[] {
  return lines.flatMap((line) => {
    const [place = '', rest = ''] = line.split(': ');
    const at =
      place === 'close'
        ? ({ phase: 'close', request: undefined } as const)
        : ({ phase: 'run', request: Number(place) } as const);
    return rest.split(' ').map((word): SequenceStep => {
      const purpose = PURPOSES[word];
      if (purpose === undefined) return { ...at, record: undefined };
      const record = {
        phase: at.phase,
        op: 'write',
        file: 'image',
        offset: 0,
        length: 512,
        purpose,
      } as const;
      return { ...at, record };
    });
  });
}

const WRITE: Request = { op: 'write', offset: 0, length: 512, fua: false, unmap: false, timeNs: 0 };
const FUA: Request = { ...WRITE, fua: true };
const FLUSH: Request = { ...WRITE, op: 'flush', length: 0 };
const DISCARD: Request = { ...WRITE, op: 'discard' };

const EAGER: SequenceSetting = {
  format: 'qcow2',
  refcounts: 'eager',
  cache: 'writethrough',
  requests: [WRITE],
};
const LAZY: SequenceSetting = { ...EAGER, refcounts: 'lazy' };
const QED: SequenceSetting = { ...EAGER, format: 'qed', refcounts: null };
const WRITEBACK: SequenceSetting = { ...EAGER, cache: 'writeback' };

type Case = readonly [
  what: string,
  setting: SequenceSetting,
  lines: readonly string[],
  causes: readonly SyncCause[],
];

const CASES: readonly Case[] = [
  ['eager write', EAGER, ['0: D RB F L2 F'], ['l2-after-refcount', 'writethrough']],
  ['FUA write', { ...WRITEBACK, requests: [FUA] }, ['0: D RB F L2 F'], ['l2-after-refcount', 'fua']],
  [
    'flush of an earlier write',
    { ...WRITEBACK, requests: [WRITE, FLUSH] },
    ['0: D', '1: RB F L2 F'],
    ['l2-after-refcount', 'guest-flush'],
  ],
  ['first lazy write', LAZY, ['0: D H F L2 F'], ['dirty-bit', 'writethrough']],
  ['lazy write with a copy', LAZY, ['0: C F L2 F'], ['l2-after-cow', 'writethrough']],
  [
    'eager write to a zero cluster, refcounts as they were',
    EAGER,
    ['0: C D F L2 F'],
    ['l2-after-refcount', 'writethrough'],
  ],
  [
    'new L2 table',
    EAGER,
    ['0: RB F L2 F L1 F D RB F L2 F'],
    ['l2-table-growth', 'l2-table-growth', 'l2-table-growth', 'l2-after-refcount', 'writethrough'],
  ],
  [
    'new refcount block after dirty L2 entries',
    WRITEBACK,
    ['0: RB F L2 F RB F RT F D'],
    ['l2-after-refcount', 'refcount-growth', 'refcount-growth', 'refcount-growth'],
  ],
  [
    'data of further extents after a new refcount block, before refcounts that waited for L2 tables',
    WRITEBACK,
    ['0: D RB RB F RT F D D F'],
    ['refcount-growth', 'refcount-growth', 'refcount-after-l2'],
  ],
  [
    'refcounts that waited for L2 tables, and tables of further extents behind them',
    LAZY,
    ['0: D L2 F RB RB D L2 F'],
    ['refcount-after-l2', 'writethrough'],
  ],
  [
    'larger refcount table',
    WRITEBACK,
    ['0: RB F RB F RT F H F D'],
    ['refcount-growth', 'refcount-growth', 'refcount-growth', 'refcount-growth'],
  ],
  [
    'flush after a discard',
    { ...WRITEBACK, requests: [DISCARD, FLUSH] },
    ['1: L2 F RB F'],
    ['refcount-after-l2', 'guest-flush'],
  ],
  [
    'discard after a write',
    { ...WRITEBACK, requests: [WRITE, DISCARD] },
    ['0: D', '1: RB F'],
    ['l2-after-refcount'],
  ],
  [
    'write after a discard',
    { ...WRITEBACK, requests: [DISCARD, WRITE] },
    ['1: L2 F D'],
    ['refcount-after-l2'],
  ],
  [
    'copying write after a discard',
    { ...WRITEBACK, requests: [DISCARD, WRITE] },
    ['1: C D F L2 F'],
    ['l2-after-cow', 'refcount-after-l2'],
  ],
  [
    'copying write after a discard, durable at once',
    { ...EAGER, requests: [DISCARD, WRITE] },
    ['1: C D F L2 F RB F L2 F'],
    ['l2-after-cow', 'refcount-after-l2', 'l2-after-refcount', 'writethrough'],
  ],
  ['eager close', WRITEBACK, ['close: RB F L2 F'], ['l2-after-refcount', 'close']],
  ['eager close after a discard', WRITEBACK, ['close: L2 F RB F'], ['refcount-after-l2', 'close']],
  [
    'lazy close',
    { ...LAZY, cache: 'writeback' },
    ['close: L2 F RB F H F'],
    ['dirty-bit', 'dirty-bit', 'close'],
  ],
  ['QED, first write', QED, ['0: H C C D L2 F L1 F'], ['l2-table-growth', 'writethrough']],
  ['QED over a backing file', QED, ['0: C C D F L2 F'], ['l2-after-cow', 'writethrough']],
  ['QED close', QED, ['close: F H F'], ['dirty-bit', 'close']],
];

test.each(CASES)('%s', (_, setting, lines, causes) => {
  const named = syncCauses(stepsOf(...lines), setting).causes.filter((cause) => cause !== undefined);
  expect(named).toEqual(causes);
});

test('a request that had to be durable and issued no sync counts as elided', () => {
  const setting = { ...WRITEBACK, requests: [WRITE, FLUSH, FLUSH, FUA] };
  expect(syncCauses(stepsOf('0: D', '1: RB F L2 F', '3: D F'), setting).elidedFlushes).toBe(1);
});

test('where nothing is ever synced, nothing is elided', () => {
  const setting = { ...WRITEBACK, cache: 'unsafe', requests: [WRITE, FLUSH] } as const;
  expect(syncCauses(stepsOf('0: D', '1: RB L2'), setting).elidedFlushes).toBe(0);
});
