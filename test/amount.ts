/** How much of a kind a test tries: seeds, images, requests, cases. */

/** All: `npm run test:full`, and in CI. */
export const TRIES_ALL = process.env['TESTS_FULL'] === '1';

/** `everyday` in `npm test`, else `full`. */
export function amount({ everyday, full }: { readonly everyday: number; readonly full: number }): number {
  return TRIES_ALL ? full : everyday;
}

/** All cases where all is tried; else `everyday` of them, the first and the last among them. */
export function someOf<T>(cases: readonly T[], everyday: number): readonly T[] {
  if (TRIES_ALL || cases.length <= everyday) return cases;
  const step = everyday > 1 ? (cases.length - 1) / (everyday - 1) : 0;
  return Array.from({ length: everyday }, (_, index) => cases[Math.round(index * step)] as T);
}
