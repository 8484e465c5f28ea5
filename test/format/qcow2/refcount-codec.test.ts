import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { refcountCodec } from '../../../src/format/qcow2/on-disk/refcount-codec.ts';

const BLOCK_BYTES = 512;

/** The specification's packing, said with one big integer an entry. */
function expectedBlock(order: number, refcounts: ReadonlyMap<number, number>): Uint8Array {
  const bits = 2 ** order;
  const block = new Uint8Array(BLOCK_BYTES);
  for (const [index, refcount] of refcounts) {
    for (let bit = 0; bit < bits; bit++) {
      if (((BigInt(refcount) >> BigInt(bit)) & 1n) === 0n) continue;
      // Below a byte the least significant entry comes first; above it, bytes are big-endian.
      const byte =
        bits < 8 ? Math.floor((index * bits) / 8) : ((index + 1) * bits) / 8 - 1 - Math.floor(bit / 8);
      const shift = bits < 8 ? ((index * bits) % 8) + bit : bit % 8;
      block[byte] = (block[byte] ?? 0) | (1 << shift);
    }
  }
  return block;
}

describe('refcounts in a block', () => {
  it.each([0, 1, 2, 3, 4, 5, 6])(
    'of order %i are packed as the specification says, each on its own',
    (order) => {
      const bits = 2 ** order;
      const entries = (BLOCK_BYTES * 8) / bits;
      const max = bits === 64 ? Number.MAX_SAFE_INTEGER : 2 ** bits - 1;
      const refcount = fc.oneof(
        fc.constantFrom(0, 1, max),
        fc.maxSafeNat().map((value) => value % (max + 1 || Infinity)),
      );
      fc.assert(
        fc.property(fc.array(fc.tuple(fc.nat(entries - 1), refcount), { maxLength: 40 }), (changes) => {
          const codec = refcountCodec(order);
          const view = new DataView(new ArrayBuffer(BLOCK_BYTES));
          const refcounts = new Map<number, number>();
          for (const [index, value] of changes) {
            codec.set(view, index, value);
            refcounts.set(index, value);
          }
          for (const [index, value] of refcounts) expect(codec.get(view, index)).toBe(value);
          expect(new Uint8Array(view.buffer)).toEqual(expectedBlock(order, refcounts));
        }),
      );
    },
  );
});
