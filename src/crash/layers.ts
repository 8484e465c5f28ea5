/** What an operation does to the bytes of a page, and to the size of its file. */

import { alignDown } from '../core/alignment.ts';
import { makePage, PAGE_BYTES, pageNumber, pagePlace, type PageFiles } from './pages.ts';
import type { Operation } from './recording.ts';

/** Ranges up to here are gone through page by page. */
const FEW_PAGES = 1024;

/** Does to whole files what the operation did. */
export function applyOperation(files: PageFiles, operation: Operation): void {
  for (const number of pagesOf(operation, [files.pages])) {
    const bytes = files.page(number).bytes.slice();
    layOver(bytes, pagePlace(number).offset, operation);
    files.put(number, makePage(bytes));
  }
  files.sizes[operation.file] = sizeAfter(operation, files.size(operation.file));
}

/**
 * The pages whose bytes the operation changes.
 *
 * @param existing by number, the pages that may hold something: no others are cleared
 */
export function pagesOf(
  operation: Operation,
  existing: readonly ReadonlyMap<number, unknown>[],
): readonly number[] {
  const { op, file, offset, length } = operation;
  switch (op) {
    case 'reserve':
      return [];
    case 'truncate': {
      const first = pageNumber(file, offset);
      return unique(existing, (number) => number >= first && pagePlace(number).file === file);
    }
    case 'write':
    case 'zero-range':
    case 'punch-hole': {
      const first = pageNumber(file, offset);
      const end = length === 0 ? first : pageNumber(file, offset + length - 1) + 1;
      const isWritten = op === 'write';
      // A zeroed range may be as long as the disk.
      if (!isWritten && end - first > FEW_PAGES) {
        return unique(existing, (number) => number >= first && number < end);
      }
      const numbers = Array.from({ length: end - first }, (_, index) => first + index);
      return isWritten ? numbers : numbers.filter((number) => existing.some((pages) => pages.has(number)));
    }
  }
}

function unique(
  maps: readonly ReadonlyMap<number, unknown>[],
  isWanted: (number: number) => boolean,
): readonly number[] {
  return [...new Set(maps.flatMap((pages) => [...pages.keys()].filter(isWanted)))];
}

/**
 * Puts what the operation leaves in a page over its bytes.
 *
 * @param pageOffset where the page begins in the file
 * @param from with `to`: only this part of the operation, bytes of the file
 */
export function layOver(
  page: Uint8Array,
  pageOffset: number,
  operation: Operation,
  from = 0,
  to = Infinity,
): void {
  const { op, offset, length, bytes } = operation;
  const end = op === 'truncate' ? Infinity : offset + length;
  const start = Math.max(pageOffset, offset, from);
  const stop = Math.min(pageOffset + PAGE_BYTES, end, to);
  if (start >= stop) return;
  if (bytes === undefined) page.fill(0, start - pageOffset, stop - pageOffset);
  else page.set(bytes.subarray(start - offset, stop - offset), start - pageOffset);
}

/** The size of the file after the operation, from the size before. */
export function sizeAfter({ op, offset, length }: Operation, size: number): number {
  switch (op) {
    case 'write':
    case 'zero-range':
    case 'reserve':
      return Math.max(size, offset + length);
    case 'punch-hole':
      return size;
    case 'truncate':
      return offset;
  }
}

/** Where the sector that holds `offset` begins, in sectors of the device. */
export function sectorStart(offset: number, sectorBytes: number): number {
  return alignDown(offset, sectorBytes);
}
