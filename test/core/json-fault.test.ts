import fc from 'fast-check';
import { expect, test } from 'vitest';

import { findJsonFault } from '../../src/core/json-fault.ts';

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

test('no fault is found in JSON', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.nat({ max: 4 }), (value, indent) => {
      expect(findJsonFault(JSON.stringify(value, null, indent))).toBeUndefined();
    }),
  );
});

test('a fault is found exactly where the engine refuses the text', () => {
  const damaged = fc
    .tuple(
      fc.jsonValue(),
      fc.nat(),
      fc.nat({ max: 2 }),
      fc.constantFrom('{', '}', '[', ']', ',', ':', '"', '\\', ' ', 'x', '0', '-', '.', 'e', '\n'),
    )
    .map(([value, place, cut, character]) => {
      const text = JSON.stringify(value, null, 1);
      const at = place % (text.length + 1);
      return text.slice(0, at) + character + text.slice(at + cut);
    });
  fc.assert(
    fc.property(damaged, (text) => {
      expect(findJsonFault(text) === undefined, text).toBe(isJson(text));
    }),
    { numRuns: 2000 },
  );
});

test('a text nested a million deep is no trouble', () => {
  expect(findJsonFault('['.repeat(1_000_000))).toMatchObject({ line: 1, column: 1_000_001 });
});
