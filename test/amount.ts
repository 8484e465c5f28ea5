/** How much of a kind a test tries: seeds, images, requests. */

/** All: `npm run test:full`, and in CI. */
const isFull = process.env['TESTS_FULL'] === '1';

/** `everyday` in `npm test`, else `full`. */
export function amount({ everyday, full }: { readonly everyday: number; readonly full: number }): number {
  return isFull ? full : everyday;
}
