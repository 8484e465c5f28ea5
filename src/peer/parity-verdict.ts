/**
 * The verdict on a cell that both engines served: what differs first, in words that lead to the
 * place, or which named exceptions of docs/qemu-rules.md explain what is not the same to the
 * letter.
 */

import { hex } from '../core/error.ts';
import type { Parity } from '../result/schema.ts';
import type { FileLayout } from '../format/file-layout.ts';
import type { GuestDifference } from './read-back.ts';
import type { OrderVerdict } from './varying-order.ts';
import { differingChunks, firstDifference } from './whole-file.ts';

export interface VerdictFacts {
  readonly qemu: string;
  readonly order: OrderVerdict;
  /** Where the files of the image first differ; empty if they do not. */
  readonly files: readonly FileDifference[];
  /** What qemu-io said of reads during the run. */
  readonly misreads: readonly string[];
  /** After the run. */
  readonly guest: GuestDifference | undefined;
  /** All in which bytes and reads differ are zeroes that a QED image lost in QEMU. */
  readonly isLostZeroes: boolean;
}

export interface FileDifference {
  readonly file: 'image' | 'data';
  /** Bytes. */
  readonly offset: number;
  /** The content. */
  readonly meaning: string;
}

export function parityVerdict(facts: VerdictFacts): Parity {
  const { qemu, order, files, misreads, guest, isLostZeroes } = facts;
  const { comparison, leftOut } = order;
  const details = [
    ...(comparison.identical ? [] : [comparison.text, ...varyingText(order)]),
    ...files.map(({ file, offset, meaning }) => {
      const what = file === 'image' ? 'the images end' : 'the data files end';
      return `${what} with different bytes, first at ${hex(offset)}${meaning}`;
    }),
    ...misreads.slice(0, 1).map(misreadText),
    ...(guest === undefined ? [] : [guestText(guest)]),
  ];
  const exceptions = [...order.exceptions, ...(isLostZeroes ? (['qed-zero-over-backing'] as const) : [])];
  const isGuestSame = guest === undefined && misreads.length === 0;
  return {
    verdict: details.length === 0 ? 'identical' : 'different',
    qemu,
    operations: comparison.operations,
    finalBytes: files.length === 0 ? 'identical' : 'different',
    guestData: isGuestSame ? 'identical' : 'different',
    ...(comparison.identical && exceptions.length > 0 ? { exceptions } : {}),
    ...(comparison.identical && leftOut.length > 0 ? { leftOutRequests: leftOut.length } : {}),
    ...(details.length === 0 ? {} : { difference: details.join('\n') }),
  };
}

/** Where two files first differ, and what our reading of the image says is there. */
export async function fileDifference(
  file: FileDifference['file'],
  { theirs, ours, layout }: { theirs: string; ours: string; layout: FileLayout | undefined },
): Promise<readonly FileDifference[]> {
  const offset = await firstDifference(ours, theirs);
  if (offset === undefined) return [];
  const metadata = layout?.metadataAt(offset);
  const guestOffset = layout?.guestOffsetAt(offset);
  const data = guestOffset === undefined ? '' : ` (data of guest offset ${hex(guestOffset)})`;
  return [{ file, offset, meaning: metadata === undefined ? data : ` (${metadata})` }];
}

/**
 * Whether two QED images differ only where ours has zeroes and QEMU's what is in the backing file:
 * it fills around a write into a cluster of zeroes from there (`qed-zero-over-backing`).
 */
export async function differsInLostZeroes(
  { theirs, ours, layout }: { theirs: string; ours: string; layout: FileLayout },
  readBacking: (guestOffset: number, target: Uint8Array) => void | Promise<void>,
): Promise<boolean> {
  const { clusterSize } = layout;
  const backing = new Uint8Array(clusterSize);
  for await (const chunk of differingChunks(ours, theirs)) {
    if (chunk.ours.byteLength === 0) return false;
    for (let from = 0; from < chunk.ours.byteLength;) {
      const at = chunk.offset + from;
      const length = Math.min(chunk.ours.byteLength - from, clusterSize - (at % clusterSize));
      const mine = chunk.ours.subarray(from, from + length);
      const other = chunk.theirs.subarray(from, from + length);
      from += length;
      if (Buffer.compare(mine, other) === 0) continue;
      const guestOffset = layout.guestOffsetAt(at);
      if (guestOffset === undefined) return false;
      const below = backing.subarray(0, length);
      await readBacking(guestOffset, below);
      if (
        mine.some((byte, index) => byte !== other[index] && (byte !== 0 || other[index] !== below[index]))
      ) {
        return false;
      }
    }
  }
  return true;
}

/**
 * A difference weighs less where QEMU differs from itself: what follows a request that varies may
 * vary with it.
 */
function varyingText({ runs, varying }: OrderVerdict): readonly string[] {
  const [first] = varying;
  if (first === undefined) return [];
  const many = varying.length === 1 ? '1 request' : `${String(varying.length)} requests`;
  const where = `${many} (first: ${String(first)})`;
  return [`QEMU itself varies: its ${String(runs)} runs differ from each other in ${where}`];
}

/** Bytes of the guest's disk. */
export interface MisreadPlace {
  readonly guestOffset: number;
  readonly length: number;
}

/** Which bytes qemu-io says it read otherwise than expected, some or all of them. */
export function misreadPlace(said: string): MisreadPlace | undefined {
  const [, offset, length] = /at offset (\d+), (\d+) bytes/.exec(said) ?? [];
  return offset === undefined ? undefined : { guestOffset: Number(offset), length: Number(length) };
}

function misreadText(said: string): string {
  const place = misreadPlace(said);
  if (place === undefined) return `a read by QEMU returned different bytes: ${said}`;
  const { guestOffset, length } = place;
  return `a read by QEMU returned different bytes than ours within the ${String(length)} at guest offset ${hex(guestOffset)}`;
}

function guestText({ guestOffset, ours, theirs }: GuestDifference): string {
  return `the guest then reads ${byteText(ours)} from ours, ${byteText(theirs)} from QEMU at guest offset ${hex(guestOffset)}`;
}

function byteText(byte: number): string {
  return `0x${byte.toString(16).padStart(2, '0')}`;
}
