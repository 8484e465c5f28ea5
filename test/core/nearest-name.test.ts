import { describe, expect, test } from 'vitest';

import { didYouMean, nearestName } from '../../src/core/nearest-name.ts';

const NAMES = ['stride', 'random-allocation', 'overwrite', 'raw', 'qcow2', 'qed'];

describe('the nearest name', () => {
  test.each([
    ['strid', 'stride'],
    ['tsride', 'stride'],
    ['Overwite', 'overwrite'],
    ['random-alocation', 'random-allocation'],
    ['qcow', 'qcow2'],
    ['qde', 'qed'],
    ['rwa', 'raw'],
  ])('of %s is %s', (given, meant) => {
    expect(nearestName(given, NAMES)).toBe(meant);
    expect(didYouMean(given, NAMES)).toBe(` (did you mean '${meant}'?)`);
  });

  test.each(['', 'vdi', 'something-else', './mine.json', 's'.repeat(100_000)])(
    'there is none of %.20s',
    (given) => expect(didYouMean(given, NAMES)).toBe(''),
  );
});
