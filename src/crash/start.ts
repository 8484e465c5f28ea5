/** What the guest sees before a recording begins, and where a state is tried with further writes. */

import { SECTOR_SIZE } from '../core/alignment.ts';
import type { DiskImage } from '../format/disk-image.ts';
import { tableExtents } from '../image/image-extents.ts';
import { extentsOf, HostIndex } from './extents.ts';
import { Inspector } from './inspect.ts';
import { tokensOf, ZERO_TOKEN, type PageFiles } from './pages.ts';
import type { Recording, Subject } from './recording.ts';
import { ScratchFiles } from './state-device.ts';

const READ_BYTES = 0x10_0000;

export interface Start {
  /** By guest sector, the tokens of what is not zero. */
  readonly initial: ReadonlyMap<number, number>;
  /** The same of what shows where the image has nothing. */
  readonly behind: ReadonlyMap<number, number>;
}

/** A disk, and where it is in its files. */
export interface DiskContents extends Start {
  readonly index: HostIndex;
  /** Bytes of the disk. */
  readonly size: number;
}

/** Reads the disk as it was. */
export function startOf({ subject, base }: Recording): Promise<Start> {
  return contentsOfDisk(subject, base);
}

/**
 * Reads the disk that is in these files.
 *
 * @param known what shows where the image has nothing, if it was read before
 * @throws Qcow2BenchError of the image, if it cannot be opened
 */
export async function contentsOfDisk(
  subject: Subject,
  base: PageFiles,
  known?: Start['behind'],
): Promise<DiskContents> {
  const files = new ScratchFiles(base, () => undefined);
  const image = await new Inspector(subject, []).open(files, true);
  const behind = known ?? (await contentsBehind(image));
  const initial = new Map<number, number>();
  const put = (sector: number, token: number): void => {
    if (token !== ZERO_TOKEN) initial.set(sector, token);
  };
  const extents = await extentsOf(image, subject.files.length - 1);
  for (const { start, sectors, place } of extents) {
    if (place.kind === 'decoded') {
      for (const [index, token] of place.tokens.entries()) put(start + index, token);
    }
    if (place.kind !== 'behind') continue;
    for (const [sector, token] of behind) if (sector >= start && sector < start + sectors) put(sector, token);
  }
  const index = new HostIndex(extents);
  for (const [number, { tokens }] of base.pages) {
    for (const { from, sectors, guest } of index.spansOf(number)) {
      for (let n = 0; n < sectors; n++) put(guest + n, tokens[from + n] as number);
    }
  }
  const size = image.virtualSize;
  await image.abandon();
  return { initial, behind, index, size };
}

function contentsBehind({ backing }: DiskImage): Promise<Start['behind']> | Start['behind'] {
  return backing === undefined ? new Map<number, number>() : contentsOf(backing, backing.virtualSize);
}

async function contentsOf(image: DiskImage, end: number): Promise<ReadonlyMap<number, number>> {
  const contents = new Map<number, number>();
  for await (const { start, length, data } of tableExtents(image)) {
    for (let at = start; data && at < Math.min(start + length, end); at += READ_BYTES) {
      const bytes = new Uint8Array(Math.min(READ_BYTES, start + length - at, end - at));
      await image.read(at, bytes);
      for (const [index, token] of tokensOf(bytes).entries()) {
        if (token !== ZERO_TOKEN) contents.set(at / SECTOR_SIZE + index, token);
      }
    }
  }
  return contents;
}

/**
 * Guest sectors to write to after a crash: where the run wrote first and last, and where it did not
 * write.
 */
export function furtherPlaces({ subject, requests }: Recording): readonly number[] {
  const { clusterSize } = subject;
  // The disk may be as small as it ever was.
  const end = requests.reduce(
    (least, { op, offset }) => (op === 'shrink' ? Math.min(least, offset) : least),
    subject.virtualSize,
  );
  const unit = Math.max(clusterSize, SECTOR_SIZE);
  const touched = requests.filter(({ op, length }) => length > 0 && op !== 'grow' && op !== 'shrink');
  let free = 0;
  for (const { offset, length } of touched.toSorted((a, b) => a.offset - b.offset)) {
    if (Math.floor(offset / unit) > free) break;
    free = Math.max(free, Math.ceil((offset + length) / unit));
  }
  const offsets = [touched[0]?.offset, touched.at(-1)?.offset, free * unit];
  const sectors = offsets.filter((offset) => offset !== undefined && offset + SECTOR_SIZE <= end);
  return [...new Set(sectors)].map((offset) => (offset as number) / SECTOR_SIZE);
}
