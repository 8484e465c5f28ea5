/**
 * Requests at any byte of a disk whose requests are in whole sectors. A client need not know of
 * block sizes, so what it sends off the sectors is split into a first sector, whole sectors and a
 * last one; a sector of which only a part is written is read first.
 *
 * Invariants:
 * - A request in whole sectors, the usual one, goes on as it is.
 * - The parts of a write are issued one after another; FUA is on the last, whose flush covers the
 *   others.
 * - A discard is shrunk to the sectors inside it: it is a hint.
 */

import { alignDown, alignUp, isAligned } from '../core/alignment.ts';
import { allocatePages } from '../core/page-memory.ts';
import type { Pending } from '../core/pending.ts';
import { SECTOR_SIZE } from '../workload/request.ts';
import { ChangeGate } from './change-gate.ts';
import type { GuestRequests } from './guest-requests.ts';

/** Part of a request: whole sectors, or some bytes of a single one. */
interface Part {
  readonly start: number;
  readonly end: number;
  readonly isWhole: boolean;
}

/**
 * Offsets and lengths in bytes, within the disk and not empty. Methods throw or reject as
 * `GuestRequests` does.
 */
export class ByteAccess {
  readonly #requests: GuestRequests;
  readonly #gate = new ChangeGate();

  constructor(requests: GuestRequests) {
    this.#requests = requests;
  }

  read(offset: number, target: Uint8Array): Pending {
    if (isWhole(offset, target.byteLength)) return this.#requests.read(offset, target);
    return this.#readParts(offset, target);
  }

  write(offset: number, bytes: Uint8Array, flags: { readonly fua: boolean }): Pending {
    if (this.#gate.isOpen && isWhole(offset, bytes.byteLength)) {
      return this.#gate.pass(this.#requests.write(offset, bytes, flags));
    }
    return this.#change(offset, bytes.byteLength, (part, isLast) => {
      const fua = flags.fua && isLast;
      const piece = bytes.subarray(part.start - offset, part.end - offset);
      return part.isWhole
        ? this.#requests.write(part.start, piece, { fua })
        : this.#patch(part, (sector, at) => sector.set(piece, at), { fua });
    });
  }

  writeZeroes(
    offset: number,
    length: number,
    flags: { readonly fua: boolean; readonly unmap: boolean },
  ): Pending {
    if (this.#gate.isOpen && isWhole(offset, length)) {
      return this.#gate.pass(this.#requests.writeZeroes(offset, length, flags));
    }
    return this.#change(offset, length, (part, isLast) => {
      const { start, end } = part;
      const fua = flags.fua && isLast;
      return part.isWhole
        ? this.#requests.writeZeroes(start, end - start, { fua, unmap: flags.unmap })
        : this.#patch(part, (sector, at) => sector.fill(0, at, at + end - start), { fua });
    });
  }

  discard(offset: number, length: number): Pending {
    const start = alignUp(offset, SECTOR_SIZE);
    const end = alignDown(offset + length, SECTOR_SIZE);
    if (end <= start) return undefined;
    if (this.#gate.isOpen) return this.#gate.pass(this.#requests.discard(start, end - start));
    return this.#change(start, end - start, () => this.#requests.discard(start, end - start));
  }

  flush(): Pending {
    return this.#requests.flush();
  }

  async #readParts(offset: number, target: Uint8Array): Promise<void> {
    for (const part of partsOf(offset, target.byteLength)) {
      const piece = target.subarray(part.start - offset, part.end - offset);
      if (part.isWhole) {
        await this.#requests.read(part.start, piece);
      } else {
        const { sector, at } = await this.#sectorOf(part);
        piece.set(sector.subarray(at, at + piece.byteLength));
      }
    }
  }

  /** Issues a change that cannot pass at once: the gate is shut, or it needs it shut. */
  async #change(
    offset: number,
    length: number,
    issue: (part: Part, isLast: boolean) => Pending,
  ): Promise<void> {
    const parts = partsOf(offset, length);
    const issueAll = async (): Promise<void> => {
      for (const part of parts) await issue(part, part === parts.at(-1));
    };
    if (parts.some((part) => !part.isWhole)) {
      await this.#gate.exclusively(issueAll);
      return;
    }
    while (!this.#gate.isOpen) await this.#gate.opened();
    await this.#gate.pass(issueAll());
  }

  async #patch(
    part: Part,
    change: (sector: Uint8Array, at: number) => void,
    flags: { readonly fua: boolean },
  ): Promise<void> {
    const { sector, at } = await this.#sectorOf(part);
    change(sector, at);
    await this.#requests.write(part.start - at, sector, flags);
  }

  /** The sector that holds the part, and where in it the part begins. */
  async #sectorOf({ start }: Part): Promise<{ readonly sector: Uint8Array; readonly at: number }> {
    const at = start % SECTOR_SIZE;
    const sector = allocatePages(SECTOR_SIZE);
    await this.#requests.read(start - at, sector);
    return { sector, at };
  }
}

function isWhole(offset: number, length: number): boolean {
  return isAligned(offset, SECTOR_SIZE) && isAligned(length, SECTOR_SIZE);
}

/** The range cut at its first and last sector boundary; at most three parts. */
function partsOf(offset: number, length: number): readonly Part[] {
  const end = offset + length;
  const bodyStart = Math.min(alignUp(offset, SECTOR_SIZE), end);
  const bodyEnd = Math.max(alignDown(end, SECTOR_SIZE), bodyStart);
  return [
    { start: offset, end: bodyStart, isWhole: false },
    { start: bodyStart, end: bodyEnd, isWhole: true },
    { start: bodyEnd, end, isWhole: false },
  ].filter((part) => part.end > part.start);
}
