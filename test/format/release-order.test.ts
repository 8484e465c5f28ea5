import { expect, test } from 'vitest';

import { Random } from '../../src/core/random.ts';
import { ReleaseOrder } from '../../src/format/qcow2/metadata/release-order.ts';

test('slots come in the order in which they were last let go, as their stamps would sort them', () => {
  const seed = 4_711;
  const random = new Random(seed);
  for (let round = 0; round < 50; round++) {
    const slots = 1 + random.below(12);
    const order = new ReleaseOrder(slots);
    /** When each slot was let go; 0 for never. */
    const stamps = new Array<number>(slots).fill(0);
    for (let step = 1; step <= 200; step++) {
      const slot = random.below(slots);
      if (random.chance(0.2)) {
        order.forget(slot);
        stamps[slot] = 0;
      } else {
        order.release(slot);
        stamps[slot] = step;
      }
      const wanted = stamps.map((stamp, index) => ({ stamp, index })).filter(({ stamp }) => stamp > 0);
      const found: number[] = [];
      for (let at = order.oldest(); at >= 0; at = order.next(at)) found.push(at);
      const what = `seed ${String(seed)}, round ${String(round)}, step ${String(step)}`;
      expect(found, what).toEqual(wanted.toSorted((a, b) => a.stamp - b.stamp).map(({ index }) => index));
      expect(order.hasAbsent, what).toBe(wanted.length < slots);
    }
  }
});
