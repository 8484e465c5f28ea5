/**
 * Rounding to multiples. All values are bytes or indices below 2^53; multiples need not be powers of
 * two unless a name says so. Bitwise operators are avoided: they truncate to 32 bits.
 */

export function alignDown(value: number, multiple: number): number {
  return value - (value % multiple);
}

export function alignUp(value: number, multiple: number): number {
  const rest = value % multiple;
  return rest === 0 ? value : value + (multiple - rest);
}

export function isAligned(value: number, multiple: number): boolean {
  return value % multiple === 0;
}

/** How many units of `size` hold `length`, rounded up. */
export function ceilDiv(length: number, size: number): number {
  return Math.floor((length + size - 1) / size);
}

export function isPowerOfTwo(value: number): boolean {
  return value > 0 && Number.isSafeInteger(value) && Math.log2(value) % 1 === 0;
}
