/**
 * Sizes as people write them: `4096`, `64KiB`, `1 GiB`, `1.5G`. Units are powers of 1024, as in
 * QEMU's tools.
 */

import { Qcow2BenchError } from './error.ts';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;
/** `10GB` is 10 · 1000³ bytes to some and 10 · 1024³ to others; `10Gi` is a unit cut short. */
const AMBIGUOUS = /^(\d+(?:\.\d+)?)\s*([KMGTP])(B|i)$/i;
const SIZE = /^(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB|PiB|K|M|G|T|P)?$/i;

/**
 * Bytes of a size such as `64KiB`; a bare letter (`64K`) means the binary unit, as QEMU's tools
 * take it.
 *
 * @throws Qcow2BenchError `bad-size` if the text is no size, is not a whole number of bytes, or
 *   exceeds 2^53 − 1.
 */
export function parseSize(text: string): number {
  const match = SIZE.exec(text.trim());
  const letter = match?.[2]?.[0]?.toUpperCase() ?? 'B';
  const power = 'BKMGTP'.indexOf(letter);
  const bytes = match === null ? NaN : Number(match[1]) * 1024 ** power;
  if (!Number.isSafeInteger(bytes)) throw new Qcow2BenchError('bad-size', `'${text}' ${fault(text, bytes)}`);
  return bytes;
}

/** What is wrong with a text that is no size, and what to write. */
function fault(text: string, bytes: number): string {
  const [, figure = '', letter = '', last] = AMBIGUOUS.exec(text.trim()) ?? [];
  const unit = letter.toUpperCase();
  const binary = `${figure}${unit}iB or ${figure}${unit} for the power of 1024`;
  if (last?.toUpperCase() === 'B') {
    const decimal = Number(figure) * 1000 ** ('KMGTP'.indexOf(unit) + 1);
    return `is ambiguous: write ${binary}, or ${String(decimal)} for the power of 1000`;
  }
  if (last !== undefined) return `is not a size: write ${binary}`;
  if (bytes > Number.MAX_SAFE_INTEGER) return 'is too large: sizes end at 2^53 \u2212 1 bytes (8 PiB)';
  if (Number.isFinite(bytes)) return 'is not a whole number of bytes';
  return 'is not a size: write bytes, or a number with KiB, MiB, GiB or TiB (or K, M, G, T: powers of 1024 too), such as 64KiB or 1.5G';
}

/** The shortest exact form: 65536 → `64KiB`, 1000 → `1000B`. */
export function formatSize(bytes: number): string {
  let power = 0;
  let value = bytes;
  while (value >= 1024 && value % 1024 === 0 && power < UNITS.length - 1) {
    value /= 1024;
    power++;
  }
  return `${String(value)}${UNITS[power] ?? 'B'}`;
}

/**
 * A rounded form for people, with three digits as QEMU's tools write it: 1536 → `1.5 KiB`, 1023 KiB
 * → `0.999 MiB`.
 */
export function humanSize(bytes: number): string {
  let power = 0;
  let value = bytes;
  while (value >= 1000 && power < UNITS.length - 1) {
    value /= 1024;
    power++;
  }
  return `${String(Number(value.toPrecision(3)))} ${UNITS[power] ?? 'B'}`;
}
