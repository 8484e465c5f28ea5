/** How many seeds a test of random cases takes. */

/** All of them: `npm run seeds:full`, and in CI. */
const isFull = process.env['SEEDS_FULL'] === '1';

/** `everyday` in `npm test`, else `full`. */
export function seedCount({ everyday, full }: { readonly everyday: number; readonly full: number }): number {
  return isFull ? full : everyday;
}
