/**
 * The codec of refcounts in a refcount block (qcow2 specification, "Host cluster management").
 *
 * A refcount is 2^order bits wide, order 0 to 6. Widths below a byte are packed least significant
 * bit first; wider ones are big-endian. 64-bit refcounts above 2^53 − 1 are refused by the caller's
 * limit.
 */

import { TWO_32 } from './layout.ts';

export interface RefcountCodec {
  get(block: DataView, index: number): number;
  set(block: DataView, index: number, refcount: number): void;
}

export function refcountCodec(order: number): RefcountCodec {
  switch (order) {
    case 4:
      return {
        get: (block, index) => block.getUint16(index * 2),
        set: (block, index, refcount) => {
          block.setUint16(index * 2, refcount);
        },
      };
    case 3:
      return {
        get: (block, index) => block.getUint8(index),
        set: (block, index, refcount) => {
          block.setUint8(index, refcount);
        },
      };
    case 5:
      return {
        get: (block, index) => block.getUint32(index * 4),
        set: (block, index, refcount) => {
          block.setUint32(index * 4, refcount);
        },
      };
    case 6:
      return {
        get: (block, index) => block.getUint32(index * 8) * TWO_32 + block.getUint32(index * 8 + 4),
        set: (block, index, refcount) => {
          block.setUint32(index * 8, Math.floor(refcount / TWO_32));
          block.setUint32(index * 8 + 4, refcount % TWO_32);
        },
      };
    default:
      return subByteCodec(order);
  }
}

function subByteCodec(order: number): RefcountCodec {
  const bits = 2 ** order;
  const perByte = 8 / bits;
  const mask = 2 ** bits - 1;
  return {
    get: (block, index) =>
      (block.getUint8(Math.floor(index / perByte)) >>> ((index % perByte) * bits)) & mask,
    set: (block, index, refcount) => {
      const byte = Math.floor(index / perByte);
      const shift = (index % perByte) * bits;
      block.setUint8(byte, (block.getUint8(byte) & ~(mask << shift)) | (refcount << shift));
    },
  };
}
