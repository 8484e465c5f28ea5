import { expect, test } from 'vitest';

import { alignDown, alignUp, isAligned, remainder } from '../../src/core/alignment.ts';
import { Random } from '../../src/core/random.ts';

test('rounding is exact for every whole number below 2^53, whatever the multiple', () => {
  const seed = 20_260_407;
  const random = new Random(seed);
  for (let round = 0; round < 20_000; round++) {
    const unit = random.chance(0.5) ? 2 ** random.below(31) : 1 + random.below(1_000_000);
    const near = random.chance(0.5)
      ? random.below(2 ** 20) * unit
      : random.below(Number.MAX_SAFE_INTEGER - unit);
    const value = Math.min(Number.MAX_SAFE_INTEGER - unit, Math.max(0, near + random.below(3) - 1));
    const rest = Number(BigInt(value) % BigInt(unit));
    const what = `seed ${String(seed)}: ${String(value)} by ${String(unit)}`;
    expect(remainder(value, unit), what).toBe(rest);
    expect(alignDown(value, unit), what).toBe(value - rest);
    expect(alignUp(value, unit), what).toBe(rest === 0 ? value : value - rest + unit);
    expect(isAligned(value, unit), what).toBe(rest === 0);
  }
});
