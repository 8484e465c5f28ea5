/** Sizes as people write them: `4096`, `64KiB`, `1 GiB`, `2MiB`. Binary units only. */

import { Qcow2BenchError } from './error.ts';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;
const SIZE = /^(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB|PiB|K|M|G|T|P)?$/i;

/**
 * Bytes of a size such as `64KiB`; a bare letter (`64K`) means the binary unit, as QEMU's tools take it.
 *
 * @throws Qcow2BenchError `bad-size` if the text is no size, is not a whole number of bytes, or exceeds 2^53 − 1.
 */
export function parseSize(text: string): number {
  const match = SIZE.exec(text.trim());
  const letter = match?.[2]?.[0]?.toUpperCase() ?? 'B';
  const power = 'BKMGTP'.indexOf(letter);
  const bytes = match === null ? NaN : Number(match[1]) * 1024 ** power;
  if (!Number.isSafeInteger(bytes)) {
    throw new Qcow2BenchError(
      'bad-size',
      `'${text}' is not a size: write bytes or a number with KiB, MiB, GiB or TiB, e.g. 64KiB`,
    );
  }
  return bytes;
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

/** A rounded form for people, with three digits as QEMU's tools write it: 1536 → `1.5 KiB`, 1023 KiB → `0.999 MiB`. */
export function humanSize(bytes: number): string {
  let power = 0;
  let value = bytes;
  while (value >= 1000 && power < UNITS.length - 1) {
    value /= 1024;
    power++;
  }
  return `${String(Number(value.toPrecision(3)))} ${UNITS[power] ?? 'B'}`;
}
