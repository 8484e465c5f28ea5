/**
 * Between the runner and an image: compares what reads answer with what was written before (`replay
 * --verify`).
 *
 * Each sector that is written is stamped with its own number and the number of the write, and the
 * shadow keeps the number of the write that each sector got last. So old data, data of another
 * place and foreign data are distinguished.
 *
 * Invariants:
 * - What a sector holds is only claimed where it is known: not while a change of it is in flight,
 *   not after two were in flight at once, not where an image had data before. A sector that is not
 *   known counts as not compared.
 * - A discarded sector may hold what it held, or zeroes.
 * - Memory: 4 bytes a sector, in pages of 2 MiB of disk that are made when something is written
 *   there; at most `SHADOW_BYTES_MAX`, which covers 64 GiB of written disk. What is beyond counts
 *   as not compared.
 */

import { hex, Qcow2BenchError } from '../core/error.ts';
import type { Pending } from '../core/pending.ts';
import { isStamped, SECTOR_WORDS, stampOf, stampSectors, wordsOf } from '../core/sector-stamp.ts';
import type { BlockBackend, WriteFlags, WriteZeroesFlags } from '../format/block-backend.ts';
import type { Verification } from '../result/schema.ts';
import { SECTOR_SIZE } from '../workload/request.ts';

/** What guest requests are made of: a `BlockBackend`, or something in front of one. */
export type GuestDisk = Pick<BlockBackend, 'image' | 'read' | 'write' | 'writeZeroes' | 'discard' | 'flush'>;

const SHADOW_BYTES_MAX = 512 * 1024 * 1024;
const PAGE_SECTORS = 4096;
const PAGE_BYTES = 4 * PAGE_SECTORS;

/** What the shadow holds of a sector: the number of its last write, from 1, or one of these. */
const ZERO = 0;
const UNKNOWN = 0xffff_ffff;
/** Set beside a number: discarded since, so zeroes will do as well. */
const OR_ZERO = 0x8000_0000;
const WRITES_MAX = 0x7fff_0000;

/** What a buffer holds before a read into it: no stamp, and no zeroes. */
const NOT_READ = 0xa5;

interface SectorRange {
  readonly first: number;
  readonly end: number;
}

interface InFlight extends SectorRange {
  readonly isRead: boolean;
  /** Where it and another request were in flight at once, one of them a change. */
  readonly unclear: SectorRange[];
}

export class VerifiedDisk implements GuestDisk {
  readonly image: BlockBackend['image'];
  readonly #disk: GuestDisk;
  readonly #pages = new Map<number, Uint32Array>();
  readonly #pagesMax: number;
  readonly #inFlight = new Set<InFlight>();
  /** What sectors hold that have no page. */
  #initial: number;
  #writes = 0;
  #reads = 0;
  #sectors = 0;
  #notCompared = 0;

  /** @param options.isNew the image holds nothing yet, so it reads as zeroes. */
  constructor(
    disk: GuestDisk,
    options: { readonly isNew: boolean; readonly shadowBytesMax?: number | undefined },
  ) {
    this.#disk = disk;
    this.image = disk.image;
    this.#initial = options.isNew ? ZERO : UNKNOWN;
    this.#pagesMax = Math.floor((options.shadowBytesMax ?? SHADOW_BYTES_MAX) / PAGE_BYTES);
  }

  /** What was compared so far. */
  verification(): Verification {
    return { reads: this.#reads, sectors: this.#sectors, notCompared: this.#notCompared };
  }

  /** @throws Qcow2BenchError `verify-mismatch`; what the disk throws. */
  read(offset: number, target: Uint8Array): Pending {
    const read = this.#begin(offset, target.byteLength, { isRead: true });
    target.fill(NOT_READ);
    return this.#end(read, this.#disk.read(offset, target), () => this.#compare(read, target));
  }

  /** Stamps `bytes`: they are the caller's, who must not need what they held. */
  write(offset: number, bytes: Uint8Array, flags: WriteFlags): Pending {
    if (this.#writes === WRITES_MAX) {
      throw new Qcow2BenchError('verify-too-long', 'more writes than --verify can distinguish: use --limit');
    }
    const number = ++this.#writes;
    stampSectors(bytes, { sector: offset / SECTOR_SIZE, write: number });
    const change = this.#begin(offset, bytes.byteLength, { isRead: false });
    return this.#end(change, this.#disk.write(offset, bytes, flags), () => this.#put(change, () => number));
  }

  writeZeroes(offset: number, length: number, flags: WriteZeroesFlags): Pending {
    const change = this.#begin(offset, length, { isRead: false });
    return this.#end(change, this.#disk.writeZeroes(offset, length, flags), () =>
      this.#put(change, () => ZERO),
    );
  }

  discard(offset: number, length: number): Pending {
    const change = this.#begin(offset, length, { isRead: false });
    return this.#end(change, this.#disk.discard(offset, length), () => this.#put(change, orZero));
  }

  flush(): Pending {
    return this.#disk.flush();
  }

  /** Notes a request, and what it makes unclear in itself and in those in flight. */
  #begin(offset: number, length: number, { isRead }: { readonly isRead: boolean }): InFlight {
    const first = offset / SECTOR_SIZE;
    const request: InFlight = { first, end: first + length / SECTOR_SIZE, isRead, unclear: [] };
    for (const other of this.#inFlight) {
      const both = { first: Math.max(first, other.first), end: Math.min(request.end, other.end) };
      if (both.first >= both.end || (isRead && other.isRead)) continue;
      request.unclear.push(both);
      other.unclear.push(both);
    }
    this.#inFlight.add(request);
    return request;
  }

  #end(request: InFlight, pending: Pending, then: () => void): Pending {
    if (pending !== undefined) return this.#endAfter(request, pending, then);
    this.#inFlight.delete(request);
    then();
    return undefined;
  }

  async #endAfter(request: InFlight, pending: Promise<void>, then: () => void): Promise<void> {
    await pending;
    this.#inFlight.delete(request);
    then();
  }

  /** A change is done: what its sectors hold now, from what they held. */
  #put(change: InFlight, valueAfter: (before: number) => number): void {
    const { first, end, unclear } = change;
    for (let sector = first; sector < end;) {
      const number = Math.floor(sector / PAGE_SECTORS);
      const pageEnd = Math.min(end, (number + 1) * PAGE_SECTORS);
      const isSame = unclear.length === 0 && valueAfter(this.#initial) === this.#initial;
      // Zeroes where nothing was written need no page, so a discard of a whole disk costs none.
      const page = this.#pages.get(number) ?? (isSame ? undefined : this.#newPage(number));
      for (; sector < pageEnd && page !== undefined; sector++) {
        const at = sector % PAGE_SECTORS;
        page[at] = lies(sector, unclear) ? UNKNOWN : valueAfter(page[at] ?? UNKNOWN);
      }
      sector = pageEnd;
    }
  }

  /** `undefined` beyond the limit; from then on, nothing is known of sectors without a page. */
  #newPage(number: number): Uint32Array | undefined {
    if (this.#pages.size >= this.#pagesMax) {
      this.#initial = UNKNOWN;
      return undefined;
    }
    const page = new Uint32Array(PAGE_SECTORS).fill(this.#initial);
    this.#pages.set(number, page);
    return page;
  }

  #compare({ first, end, unclear }: InFlight, target: Uint8Array): void {
    this.#reads++;
    const words = wordsOf(target);
    for (let sector = first; sector < end; sector++) {
      const expected =
        this.#pages.get(Math.floor(sector / PAGE_SECTORS))?.[sector % PAGE_SECTORS] ?? this.#initial;
      if (expected === UNKNOWN || lies(sector, unclear)) {
        this.#notCompared++;
        continue;
      }
      const from = (sector - first) * SECTOR_WORDS;
      if (!holds(words, from, { sector, expected })) {
        throw mismatch(sector, expected, words.subarray(from, from + SECTOR_WORDS));
      }
      this.#sectors++;
    }
  }
}

function lies(sector: number, ranges: readonly SectorRange[]): boolean {
  for (const { first, end } of ranges) if (sector >= first && sector < end) return true;
  return false;
}

function orZero(before: number): number {
  return before === ZERO || before === UNKNOWN ? before : (before | OR_ZERO) >>> 0;
}

/** Whether the sector in `words` from `from` on is what the shadow says. */
function holds(
  words: Uint32Array,
  from: number,
  { sector, expected }: { readonly sector: number; readonly expected: number },
): boolean {
  const write = expected % OR_ZERO;
  if (write !== ZERO && isStamped(words, from, { sector, write })) return true;
  return (write === ZERO || expected !== write) && isZero(words, from);
}

function isZero(words: Uint32Array, from: number): boolean {
  for (let at = from; at < from + SECTOR_WORDS; at++) if (words[at] !== 0) return false;
  return true;
}

function mismatch(sector: number, expected: number, found: Uint32Array): Qcow2BenchError {
  const write = expected % OR_ZERO;
  const wanted =
    write === ZERO
      ? 'zeroes'
      : `${writeName(write)}${expected === write ? '' : ', or zeroes after a discard'}`;
  return new Qcow2BenchError(
    'verify-mismatch',
    `wrong data at guest offset ${hex(sector * SECTOR_SIZE)}: expected ${wanted}, found ${foundText(sector, found)}`,
  );
}

/** Writes are counted from 0, reads and all else left out. */
function writeName(write: number): string {
  return `what write ${String(write - 1)} wrote`;
}

function foundText(sector: number, found: Uint32Array): string {
  if (isZero(found, 0)) return 'zeroes';
  const stamp = stampOf(found, 0);
  if (stamp === undefined) {
    const bytes = new Uint8Array(found.buffer, found.byteOffset, 16);
    return `data of neither: ${Buffer.from(bytes).toString('hex')} …`;
  }
  const { sector: other, write } = stamp;
  const place = other === sector ? '' : ` at guest offset ${hex(other * SECTOR_SIZE)}`;
  return `${writeName(write)}${place}`;
}
