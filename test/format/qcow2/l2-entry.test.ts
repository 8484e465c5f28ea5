import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  addZeroFlagAt,
  clearAt,
  clusterTypeAt,
  compressedRangeAt,
  hostOffsetAt,
  isCopiedAt,
  isSetAt,
  needsAllocationAt,
  setAllocatedAt,
  setCompressedAt,
  setCopiedFlagAt,
  setZeroAt,
  type ClusterType,
} from '../../../src/format/qcow2/on-disk/l2-entry.ts';

const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;
const ZERO = 1n;
const OFFSET = 0x00ff_ffff_ffff_fe00n;

const anyEntry = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
/** A host offset that a table can hold and a number too. */
const hostOffset = fc.integer({ min: 1, max: 2 ** 44 - 1 }).map((sector) => sector * 512);

/** A slice of three entries: the middle one is looked at, the others must stay. */
function sliceOf(entry: bigint): DataView<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(24));
  view.setBigUint64(0, 0xdead_beef_dead_beefn);
  view.setBigUint64(8, entry);
  view.setBigUint64(16, 0xdead_beef_dead_beefn);
  return view;
}

function expectEntry(slice: DataView, entry: bigint): void {
  expect([slice.getBigUint64(0), slice.getBigUint64(8), slice.getBigUint64(16)]).toEqual([
    0xdead_beef_dead_beefn,
    entry,
    0xdead_beef_dead_beefn,
  ]);
}

function typeOf(entry: bigint): ClusterType {
  if ((entry & COMPRESSED) !== 0n) return 'compressed';
  const hasHost = (entry & OFFSET) !== 0n;
  if ((entry & ZERO) !== 0n) return hasHost ? 'zero-allocated' : 'zero';
  return hasHost ? 'normal' : 'unallocated';
}

describe('an L2 entry', () => {
  it('is read as the specification lays it out, whatever its 64 bits are', () => {
    fc.assert(
      fc.property(anyEntry, (entry) => {
        const slice = sliceOf(entry);
        expect(clusterTypeAt(slice, 1)).toBe(typeOf(entry));
        expect(isCopiedAt(slice, 1)).toBe((entry & COPIED) !== 0n);
        expect(isSetAt(slice, 1)).toBe(entry !== 0n);
        expect(hostOffsetAt(slice, 1)).toBe(Number(entry & OFFSET));
        const inPlace = (entry & COPIED) !== 0n && (entry & COMPRESSED) === 0n && (entry & OFFSET) !== 0n;
        expect(needsAllocationAt(slice, 1)).toBe(!inPlace);
      }),
    );
  });

  it('is written whole, or only in the flag that is meant, and no other entry is touched', () => {
    fc.assert(
      fc.property(anyEntry, hostOffset, fc.boolean(), (entry, offset, copied) => {
        const change = (work: (slice: DataView) => void, expected: bigint): void => {
          const slice = sliceOf(entry);
          work(slice);
          expectEntry(slice, expected);
        };
        change((slice) => setAllocatedAt(slice, 1, offset), BigInt(offset) | COPIED);
        change((slice) => setZeroAt(slice, 1), ZERO);
        change((slice) => addZeroFlagAt(slice, 1), entry | ZERO);
        change((slice) => clearAt(slice, 1), 0n);
        change((slice) => setCopiedFlagAt(slice, 1, copied), copied ? entry | COPIED : entry & ~COPIED);
      }),
    );
  });

  it('that is compressed gives offset and length for every cluster size', () => {
    const descriptor = fc.record({
      clusterBits: fc.integer({ min: 9, max: 21 }),
      offset: fc.integer({ min: 0, max: 2 ** 40 }),
      sectors: fc.nat(2 ** 13),
    });
    fc.assert(
      fc.property(descriptor, ({ clusterBits, offset, sectors: wanted }) => {
        const x = 62 - (clusterBits - 8);
        const sectors = wanted % 2 ** (62 - x);
        const slice = sliceOf(COMPRESSED | (BigInt(sectors) << BigInt(x)) | BigInt(offset));
        expect(compressedRangeAt(slice, 1, clusterBits)).toEqual({
          hostOffset: offset,
          length: (sectors + 1) * 512 - (offset % 512),
        });
      }),
    );
  });

  it('made compressed gives back where its bytes lie, up to the end of their last sector', () => {
    const place = fc.record({
      clusterBits: fc.integer({ min: 9, max: 21 }),
      hostOffset: fc.integer({ min: 1, max: 2 ** 48 }),
      part: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    fc.assert(
      fc.property(place, ({ clusterBits, hostOffset, part }) => {
        const length = 1 + Math.floor(part * (2 ** clusterBits - 2));
        const slice = sliceOf(COPIED);
        setCompressedAt(slice, 1, { hostOffset, length }, clusterBits);
        expect(clusterTypeAt(slice, 1)).toBe('compressed');
        expect(isCopiedAt(slice, 1)).toBe(false);
        const end = Math.ceil((hostOffset + length) / 512) * 512;
        expect(compressedRangeAt(slice, 1, clusterBits)).toEqual({ hostOffset, length: end - hostOffset });
      }),
    );
  });
});
