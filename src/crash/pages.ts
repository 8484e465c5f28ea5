/**
 * The contents of files in pages that never change once they are made, so that the states of a
 * crash share all that they have in common.
 *
 * Each sector of a page has a token, a number in place of its 512 bytes: 0 for zeroes, else 53 bits
 * of a hash. Two sectors are taken as equal if their tokens are; among a million different
 * sectors the chance of a mistake is below one in ten thousand. The key of a page does the same for
 * its eight sectors.
 *
 * Invariants: the bytes of a page are not changed after `makePage`; an absent page is `ZERO_PAGE`.
 */

import { SECTOR_SIZE } from '../core/alignment.ts';
import { wordsOf } from '../core/sector-stamp.ts';

export const PAGE_BYTES = 4096;
export const PAGE_SECTORS = PAGE_BYTES / SECTOR_SIZE;
const SECTOR_WORDS = SECTOR_SIZE / 4;
const TWO_21 = 0x20_0000;
/** Pages of one file: keys of the next file begin behind them. 64 TiB. */
const FILE_PAGES = 0x4_0000_0000;
/** The longest file that can be one of an image here. */
export const FILE_BYTES_MAX = FILE_PAGES * PAGE_BYTES;

export interface Page {
  readonly bytes: Uint8Array;
  /** Of each sector. */
  readonly tokens: Float64Array;
  readonly key: number;
}

/** What a sector of zeroes has for a token, and a page of them for a key. */
export const ZERO_TOKEN = 0;
export const ZERO_PAGE: Page = {
  bytes: new Uint8Array(PAGE_BYTES),
  tokens: new Float64Array(PAGE_SECTORS),
  key: 0,
};

/** A page of `bytes`, which become its own; `ZERO_PAGE` if all are zero. */
export function makePage(bytes: Uint8Array): Page {
  return pageOf(bytes, tokensOf(bytes));
}

/** The page whose sectors are those of `b` where `isOfB` has it, else those of `a`. */
export function mixedPage(a: Page, b: Page, isOfB: readonly boolean[]): Page {
  const bytes = a.bytes.slice();
  const tokens = a.tokens.slice();
  for (const [sector, ofB] of isOfB.entries()) {
    if (!ofB) continue;
    const from = sector * SECTOR_SIZE;
    bytes.set(b.bytes.subarray(from, from + SECTOR_SIZE), from);
    tokens[sector] = b.tokens[sector] as number;
  }
  return pageOf(bytes, tokens);
}

function pageOf(bytes: Uint8Array, tokens: Float64Array): Page {
  let low = 0x1b87_3593;
  let high = 0x51ed_270b;
  let isZero = true;
  for (const token of tokens) {
    isZero &&= token === ZERO_TOKEN;
    const part = (token / TWO_21) | 0;
    low = mixed(low ^ part, 0x85eb_ca6b);
    high = mixed(high ^ (token % TWO_21) ^ part, 0xc2b2_ae35);
  }
  return isZero ? ZERO_PAGE : { bytes, tokens, key: joined(low, high) };
}

/** The tokens of whole sectors, whose memory starts at a multiple of four. */
export function tokensOf(bytes: Uint8Array): Float64Array {
  const words = wordsOf(bytes);
  const tokens = new Float64Array(words.length / SECTOR_WORDS);
  for (let sector = 0; sector < tokens.length; sector++) {
    tokens[sector] = tokenOfWords(words, sector * SECTOR_WORDS);
  }
  return tokens;
}

function tokenOfWords(words: Uint32Array, from: number): number {
  let any = 0;
  let low = 0x9e37_79b9;
  let high = 0x7f4a_7c15;
  for (let at = from; at < from + SECTOR_WORDS; at++) {
    const word = words[at] as number;
    any |= word;
    low = Math.imul(low ^ word, 0x0100_0193) + at - from;
    high = Math.imul((high << 5) ^ (high >>> 27) ^ word, 0x5bd1_e995);
  }
  if (any === 0) return ZERO_TOKEN;
  return joined(mixed(low, 0x85eb_ca6b), mixed(high, 0xc2b2_ae35));
}

function mixed(value: number, factor: number): number {
  const once = Math.imul(value ^ (value >>> 16), factor);
  return once ^ (once >>> 13);
}

/** 53 bits of two words; never 0. */
function joined(low: number, high: number): number {
  return (low >>> 0) * TWO_21 + (high >>> 11) + 1;
}

/** The key by which pages of all files of an image are in one map. */
export function pageNumber(file: number, offset: number): number {
  return file * FILE_PAGES + Math.floor(offset / PAGE_BYTES);
}

/** The file of a page, and where it begins there. */
export function pagePlace(number: number): { readonly file: number; readonly offset: number } {
  const file = Math.floor(number / FILE_PAGES);
  return { file, offset: (number - file * FILE_PAGES) * PAGE_BYTES };
}

/** In place of a page's number: the size of a file. */
export function sizeNumber(file: number): number {
  return -1 - file;
}

/** The state of all files of an image: pages by number, and the size of each file. */
export interface PageSource {
  page(number: number): Page;
  size(file: number): number;
}

/** Files that can be changed as a whole: what is durable at one point of a recording. */
export class PageFiles implements PageSource {
  readonly pages = new Map<number, Page>();
  readonly sizes: number[] = [];

  page(number: number): Page {
    return this.pages.get(number) ?? ZERO_PAGE;
  }

  size(file: number): number {
    return this.sizes[file] ?? 0;
  }

  put(number: number, page: Page): void {
    if (page === ZERO_PAGE) this.pages.delete(number);
    else this.pages.set(number, page);
  }

  clone(): PageFiles {
    const copy = new PageFiles();
    for (const [number, page] of this.pages) copy.pages.set(number, page);
    copy.sizes.push(...this.sizes);
    return copy;
  }
}
