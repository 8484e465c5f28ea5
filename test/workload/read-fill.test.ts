/** What a trace reads before it writes there. */

import fc from 'fast-check';
import { expect, test } from 'vitest';

import { ReadFill } from '../../src/workload/read-fill.ts';
import { REQUEST_OPS, type Request } from '../../src/workload/request.ts';

const SECTORS = 600;

const request = fc
  .record({
    op: fc.constantFrom(...REQUEST_OPS),
    sector: fc.nat(SECTORS - 1),
    sectors: fc.integer({ min: 1, max: 80 }),
  })
  .map(({ op, sector, sectors }): Request => {
    const length = op === 'flush' ? 0 : Math.min(sectors, SECTORS - sector) * 512;
    const offset = op === 'flush' ? 0 : sector * 512;
    return { op, offset, length, fua: false, unmap: false, timeNs: 0 };
  });

test('exactly the sectors whose first request is a read, in order, in writes of a MiB at most', () => {
  fc.assert(
    fc.property(
      fc.array(request, { maxLength: 60 }),
      fc.constantFrom(0, 2 ** 25 - 40, 2 ** 33),
      (list, from) => {
        const fill = new ReadFill();
        const state: ('new' | 'read' | 'other')[] = Array.from({ length: SECTORS }, () => 'new');
        const written = new Set<number>();
        let unwritten = 0;
        for (const each of list) {
          fill.add({ ...each, offset: each.offset + from * 512 });
          if (each.op === 'flush') continue;
          for (let at = each.offset / 512; at < (each.offset + each.length) / 512; at++) {
            if (each.op === 'read' && !written.has(at)) unwritten += 512;
            if (each.op !== 'read') written.add(at);
            if (state[at] === 'new') state[at] = each.op === 'read' ? 'read' : 'other';
          }
        }
        const wanted = state.flatMap((what, at) => (what === 'read' ? [at] : []));
        const writes = [...fill.requests(Number.MAX_SAFE_INTEGER)];
        const filled = writes.flatMap(({ op, offset, length }) => {
          expect(op).toBe('write');
          expect(length).toBeLessThanOrEqual(1024 * 1024);
          return Array.from({ length: length / 512 }, (_, n) => offset / 512 - from + n);
        });
        expect(filled).toEqual(wanted);
        expect(fill.bytes).toBe(wanted.length * 512);
        expect(fill.unwrittenReadBytes).toBe(unwritten);
      },
    ),
    { numRuns: 300 },
  );
});

test('nothing beyond the end of the image is filled', () => {
  const fill = new ReadFill();
  fill.add({ op: 'read', offset: 0, length: 4096, fua: false, unmap: false, timeNs: 0 });
  expect([...fill.requests(1024)].map(({ length }) => length)).toEqual([1024]);
});
