/**
 * When a table is cut off by the end of its file: as soon as one of its bytes is past the end.
 *
 * What is past the end reads as zeroes, and zeroes in a table mean "nothing is there". So a table that is cut off is never
 * used as it reads: opening refuses the image, or the one snapshot it belongs to, and a check reports it.
 */

export interface TableBytes {
  readonly offset: number;
  /** 0 for a table without entries, which is nowhere cut off. */
  readonly length: number;
}

export function isCutOff({ offset, length }: TableBytes, fileSize: number): boolean {
  return length > 0 && offset + length > fileSize;
}
