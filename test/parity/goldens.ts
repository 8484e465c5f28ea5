/**
 * Recorded runs of QEMU, for where it is not installed: of each list the files before the run, the
 * operations, and hashes of what was left. Kept in a compressed file for each version that the
 * engines follow; `npm run parity:record` makes those of the versions that are on the machine.
 */

import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';

import type { Storage } from '../../src/device/storage.ts';
import type { QemuProfileName } from '../../src/format/qemu-profile.ts';
import type { HostOperation, TracedOp } from '../../src/peer/host-operation.ts';
import type { ReadBack } from './both-engines.ts';
import type { LiveOutcome } from './live-list.ts';
import { hashFile, packFile, unpackFile, type PackedFile } from './packed-file.ts';
import { allFiles, writtenFiles, type ParityList } from './parity-list.ts';

export interface Golden {
  readonly name: string;
  /** Of the list: a golden of another list says nothing. */
  readonly list: string;
  /** By name, as they were before the run. */
  readonly start: Readonly<Record<string, PackedFile>>;
  /** QEMU's changes and syncs, as `operationText` has them. */
  readonly operations: readonly string[];
  /** Requests that are left out, as QEMU's own order varies there. */
  readonly leftOut: readonly number[];
  /** Of the files that were written, by name, after the run. */
  readonly end: Readonly<Record<string, string>>;
  /** Of what the guest reads afterwards. */
  readonly readBack: string;
}

export interface Goldens {
  /** QEMU's version. */
  readonly qemu: string;
  readonly lists: readonly Golden[];
}

/** @throws Error if nothing was recorded yet. */
export function readGoldens(like: QemuProfileName): Goldens {
  const file = fileOf(like);
  if (!existsSync(file)) throw new Error(`there are no goldens of ${like}: npm run parity:record`);
  return JSON.parse(zstdDecompressSync(readFileSync(file)).toString()) as Goldens;
}

export function writeGoldens(like: QemuProfileName, goldens: Goldens): void {
  const params = { [constants.ZSTD_c_compressionLevel]: 19 };
  writeFileSync(fileOf(like), zstdCompressSync(JSON.stringify(goldens), { params }));
}

function fileOf(like: QemuProfileName): URL {
  return new URL(`goldens/${like}.json.zst`, import.meta.url);
}

/** The golden of a list. @throws Error if it is missing, or of another list. */
export function goldenFor(list: ParityList, { lists }: Goldens): Golden {
  const golden = lists.find(({ name }) => name === list.name);
  if (golden?.list !== listHash(list)) {
    throw new Error(`the recording has another list ${list.name}: npm run parity:record`);
  }
  return golden;
}

/** What a live run gave, as it is kept. */
export async function goldenOf(list: ParityList, outcome: LiveOutcome): Promise<Golden> {
  const start: Record<string, PackedFile> = {};
  for (const name of allFiles(list)) start[name] = await withFile(outcome.start, name, packFile);
  return {
    name: list.name,
    list: listHash(list),
    start,
    operations: outcome.order.theirs.map(operationText),
    leftOut: outcome.order.leftOut,
    end: await endHashes(list, outcome.end),
    readBack: readBackHash(outcome.ours.readBack),
  };
}

/** Makes the files of a golden as they were before the run. */
export async function makeGoldenStart({ start }: Golden, storage: Storage): Promise<void> {
  for (const [name, packed] of Object.entries(start)) {
    const device = storage.create(name);
    try {
      await unpackFile(packed, device);
    } finally {
      await device.close();
    }
  }
}

/**
 * Whether files that were created again are those of the golden. QEMU fills them, and where it
 * writes several extents at once its own order decides where they lie.
 */
export async function hasGoldenStart({ start }: Golden, storage: Storage): Promise<boolean> {
  for (const [name, golden] of Object.entries(start)) {
    const { size, pieces } = await withFile(storage, name, packFile);
    if (size !== golden.size || JSON.stringify(pieces) !== JSON.stringify(golden.pieces)) return false;
  }
  return true;
}

/** Hashes of the files that a run may have changed. */
export async function endHashes(list: ParityList, storage: Storage): Promise<Record<string, string>> {
  const hashes: Record<string, string> = {};
  for (const name of writtenFiles(list)) hashes[name] = await withFile(storage, name, hashFile);
  return hashes;
}

export function listHash(list: ParityList): string {
  return shortHash(JSON.stringify(list));
}

export function readBackHash(readBack: readonly ReadBack[]): string {
  return shortHash(JSON.stringify(readBack));
}

const LETTERS: Readonly<Record<Exclude<TracedOp, 'read'>, string>> = {
  write: 'W',
  'zero-range': 'Z',
  'punch-hole': 'P',
  truncate: 'T',
  sync: 'F',
  allocate: 'A',
};

/** `17 W 50000 1000 image`: request, operation, offset and length in hexadecimal, file. */
function operationText({ phase, request, op, offset, length, file }: HostOperation): string {
  const when = request ?? phase;
  const letter = op === 'read' ? 'R' : LETTERS[op];
  return `${String(when)} ${letter} ${offset.toString(16)} ${length.toString(16)} ${file}`;
}

/** What `operationText` wrote down. */
export function operationsOf({ operations }: Golden): readonly HostOperation[] {
  return operations.map((text) => {
    const [when = '', letter, offset = '', length = '', file = ''] = text.split(' ');
    const [op] = Object.entries(LETTERS).find(([, known]) => known === letter) ?? [];
    if (op === undefined) throw new Error(`a golden has an operation that is none: ${text}`);
    const edge = when === 'open' || when === 'close' ? when : undefined;
    return {
      phase: edge ?? 'run',
      request: edge === undefined ? Number(when) : undefined,
      op: op as TracedOp,
      file,
      offset: Number.parseInt(offset, 16),
      length: Number.parseInt(length, 16),
      error: undefined,
    };
  });
}

function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}

async function withFile<T>(
  storage: Storage,
  name: string,
  work: (device: ReturnType<Storage['open']>) => Promise<T>,
): Promise<T> {
  const device = storage.open(name, { readOnly: true });
  try {
    return await work(device);
  } finally {
    await device.close();
  }
}
