/**
 * What the guest has on its disk after a run: all that its requests touched, read by the builtin
 * engine from its image and by QEMU from its own.
 *
 * Invariants:
 * - Every byte of those ranges is compared where it is in at least `SHORT_BYTES` of one value, as
 *   all that is written here does. Of each sector with other data, such as an image of the user
 *   has, its longest stretch is compared: qemu-io takes one command a stretch. What the guest never
 *   named is not read: a disk may be of a TiB.
 * - Memory is one transfer and a few numbers for each stretch of one byte value.
 */

import { Qcow2BenchError } from '../core/error.ts';
import { SECTOR_SIZE, type Request } from '../workload/request.ts';
import type { ProgramOutcome } from './run-program.ts';
import { uniformRuns } from './uniform-bytes.ts';

/** Bytes of the guest's disk, all alike. */
export interface GuestStretch {
  readonly offset: number;
  readonly length: number;
  readonly value: number;
}

export interface GuestDifference {
  /** Bytes. */
  readonly guestOffset: number;
  readonly ours: number;
  readonly theirs: number;
}

/** A session of qemu-io with the image open read-only, which is given `input`. */
export type ReadWithQemu = (input: string) => Promise<ProgramOutcome>;

const READ_BYTES = 1024 * 1024;
/** Shorter stretches are many where data are of no pattern. */
const SHORT_BYTES = 64;

/** The ranges that requests named, in order and without overlap. */
export function touchedRanges(
  requests: readonly Request[],
): readonly { readonly offset: number; readonly length: number }[] {
  const ranges: { offset: number; length: number }[] = [];
  const named = requests.filter(({ length }) => length > 0);
  for (const { offset, length } of named.sort((left, right) => left.offset - right.offset)) {
    const last = ranges.at(-1);
    if (last !== undefined && offset <= last.offset + last.length) {
      last.length = Math.max(last.length, offset + length - last.offset);
    } else ranges.push({ offset, length });
  }
  return ranges;
}

/** What `read` gives of those ranges. */
export async function readStretches(
  requests: readonly Request[],
  read: (offset: number, target: Uint8Array) => void | Promise<void>,
): Promise<readonly GuestStretch[]> {
  const stretches: GuestStretch[] = [];
  const buffer = new Uint8Array(READ_BYTES);
  for (const { offset, length } of touchedRanges(requests)) {
    for (let at = offset; at < offset + length; at += READ_BYTES) {
      const bytes = buffer.subarray(0, Math.min(READ_BYTES, offset + length - at));
      await read(at, bytes);
      for (const run of uniformRuns(bytes)) {
        addStretch(stretches, { offset: at + run.from, length: run.length, value: run.value });
      }
    }
  }
  return stretches;
}

/** Of short ones that follow one another in a sector only the longest stays. */
function addStretch(stretches: GuestStretch[], next: GuestStretch): void {
  const last = stretches.at(-1);
  const isBeside =
    last !== undefined &&
    last.length < SHORT_BYTES &&
    next.length < SHORT_BYTES &&
    Math.floor(last.offset / SECTOR_SIZE) === Math.floor(next.offset / SECTOR_SIZE);
  if (!isBeside) stretches.push(next);
  else if (next.length > last.length) stretches.splice(-1, 1, next);
}

/**
 * The first byte that QEMU reads otherwise; `undefined` if there is none.
 *
 * @throws Qcow2BenchError `peer-failed` if qemu-io cannot read the image.
 */
export async function firstGuestDifference(
  stretches: readonly GuestStretch[],
  readWithQemu: ReadWithQemu,
): Promise<GuestDifference | undefined> {
  const stretch = await firstMismatch(stretches, readWithQemu);
  if (stretch === undefined) return undefined;
  const sector = (await firstMismatch(sectorsOf(stretch), readWithQemu)) ?? stretch;
  const { stdout } = await readWithQemu(`read -v ${String(sector.offset)} ${String(sector.length)}\nquit\n`);
  const bytes = dumpedBytes(stdout);
  const at = bytes.findIndex((byte) => byte !== sector.value);
  return {
    guestOffset: sector.offset + Math.max(at, 0),
    ours: sector.value,
    theirs: bytes[at] ?? sector.value,
  };
}

/** The first stretch that QEMU does not read as it is said to be. */
async function firstMismatch(
  stretches: readonly GuestStretch[],
  readWithQemu: ReadWithQemu,
): Promise<GuestStretch | undefined> {
  if (stretches.length === 0) return undefined;
  const commands = stretches.map(
    ({ offset, length, value }) => `read -q -P ${String(value)} ${String(offset)} ${String(length)}\n`,
  );
  const { exitCode, stdout, stderr } = await readWithQemu(`${commands.join('')}quit\n`);
  if (exitCode === 0) return undefined;
  const mismatches = [...stdout.matchAll(/Pattern verification failed at offset (\d+)/g)];
  const offsets = new Set(mismatches.map(([, offset]) => Number(offset)));
  const first = stretches.find(({ offset }) => offsets.has(offset));
  if (first !== undefined && stderr === '') return first;
  throw new Qcow2BenchError(
    'peer-failed',
    `qemu-io cannot read the image: ${(stderr + stdout).slice(-2000)}`,
  );
}

function sectorsOf({ offset, length, value }: GuestStretch): readonly GuestStretch[] {
  const sectors: GuestStretch[] = [];
  for (let at = offset; at < offset + length; at += SECTOR_SIZE) {
    sectors.push({ offset: at, length: Math.min(SECTOR_SIZE, offset + length - at), value });
  }
  return sectors;
}

/** Bytes of a dump: lines of an offset, sixteen bytes in hex, and the same as characters. */
function dumpedBytes(text: string): readonly number[] {
  return [...text.matchAll(/^(?:qemu-io> )?[0-9a-f]{8,}: {1,2}((?:[0-9a-f]{2} ){1,16})/gm)].flatMap(
    ([, hex = '']) =>
      hex
        .trim()
        .split(' ')
        .map((byte) => Number.parseInt(byte, 16)),
  );
}
