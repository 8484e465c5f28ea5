/**
 * A file of a crash state as a device: it reads the state and keeps what is written to itself.
 *
 * Invariant: every page of the state that an answer depends on, and every size, is noted by
 * `onRead` before it is used. So two states that agree in what was noted get the same answers.
 */

import { remainder } from '../core/alignment.ts';
import type { BlockDevice, WritePart } from '../device/block-device.ts';
import { PAGE_BYTES, pageNumber, sizeNumber, ZERO_PAGE, type PageSource } from './pages.ts';

/** The files of a state while they are looked at; several devices may be open on one file. */
export class ScratchFiles {
  readonly state: PageSource;
  /** Pages that were written since, by number. */
  readonly written = new Map<number, Uint8Array>();
  /** Of those, the ones that nothing else has yet. */
  readonly #own = new Set<number>();
  /** All that were read or written. */
  readonly #current = new Map<number, Uint8Array>();
  readonly #sizes: (number | undefined)[] = [];
  readonly #sizesSeen = new Set<number>();
  readonly #onRead: (number: number) => void;
  /** Bytes that were read, of either. */
  bytesRead = 0;

  /** @param onRead gets each page's number once, and `sizeNumber(file)` where the size is looked at. */
  constructor(state: PageSource, onRead: (number: number) => void) {
    this.state = state;
    this.#onRead = onRead;
  }

  size(file: number): number {
    const changed = this.#sizes[file];
    if (changed !== undefined) return changed;
    if (!this.#sizesSeen.has(file)) {
      this.#sizesSeen.add(file);
      this.#onRead(sizeNumber(file));
    }
    return this.state.size(file);
  }

  resize(file: number, size: number): void {
    const before = this.size(file);
    this.#sizes[file] = size;
    if (size >= before) return;
    for (let at = size; at < before; at += PAGE_BYTES - remainder(at, PAGE_BYTES)) {
      this.writable(pageNumber(file, at)).fill(0, remainder(at, PAGE_BYTES));
    }
  }

  growTo(file: number, size: number): void {
    if (size > this.size(file)) this.#sizes[file] = size;
  }

  /** The bytes of a page as they are now. */
  bytes(number: number): Uint8Array {
    const known = this.#current.get(number);
    if (known !== undefined) return known;
    this.#onRead(number);
    const { bytes } = this.state.page(number);
    this.#current.set(number, bytes);
    return bytes;
  }

  /** Makes these the bytes of a whole page. Those of a page of zeroes are shared. */
  put(number: number, bytes: Uint8Array): void {
    if (Buffer.compare(bytes, ZERO_PAGE.bytes) === 0) {
      this.#own.delete(number);
      this.#keep(number, ZERO_PAGE.bytes);
    } else if (this.#own.has(number)) this.writable(number).set(bytes);
    else this.#keepOwn(number, bytes.slice());
  }

  /** The page to be changed. */
  writable(number: number): Uint8Array {
    const written = this.written.get(number);
    if (written !== undefined && this.#own.has(number)) return written;
    return this.#keepOwn(number, this.bytes(number).slice());
  }

  #keepOwn(number: number, bytes: Uint8Array): Uint8Array {
    this.#own.add(number);
    return this.#keep(number, bytes);
  }

  #keep(number: number, bytes: Uint8Array): Uint8Array {
    this.written.set(number, bytes);
    this.#current.set(number, bytes);
    return bytes;
  }

  /** What was written so far; no page of it changes any more. */
  writtenSoFar(): ReadonlyMap<number, Uint8Array> {
    this.#own.clear();
    return new Map(this.written);
  }
}

export class StateDevice implements BlockDevice {
  readonly label: string;
  readonly path: string;
  readonly requestAlignment = 1;
  readonly hostAlignment = 1;
  readonly canZeroRange = true;
  readonly canPunchHole = true;
  readonly canReserve = true;
  readonly #files: ScratchFiles;
  readonly #file: number;

  constructor(
    files: ScratchFiles,
    file: number,
    { label, name }: { readonly label: string; readonly name: string },
  ) {
    this.#files = files;
    this.#file = file;
    this.label = label;
    this.path = name;
  }

  size(): number {
    return this.#files.size(this.#file);
  }

  allocatedSize(): undefined {
    return undefined;
  }

  /** Holes are not seen: a check depends on the bytes alone. */
  extentAt(offset: number): { readonly isData: boolean; readonly length: number } {
    return { isData: true, length: this.size() - offset };
  }

  read(offset: number, target: Uint8Array): undefined {
    const { byteLength } = target;
    this.#files.bytesRead += byteLength;
    let number = pageNumber(this.#file, offset);
    let at = remainder(offset, PAGE_BYTES);
    for (let done = 0; done < byteLength; number++) {
      const length = Math.min(PAGE_BYTES - at, byteLength - done);
      const bytes = this.#files.bytes(number);
      target.set(length === PAGE_BYTES ? bytes : bytes.subarray(at, at + length), done);
      done += length;
      at = 0;
    }
  }

  write(offset: number, bytes: Uint8Array): undefined {
    const { byteLength } = bytes;
    for (let done = 0; done < byteLength;) {
      const at = remainder(offset + done, PAGE_BYTES);
      const length = Math.min(PAGE_BYTES - at, byteLength - done);
      const part = bytes.subarray(done, done + length);
      const number = pageNumber(this.#file, offset + done);
      if (length === PAGE_BYTES) this.#files.put(number, part);
      else this.#files.writable(number).set(part, at);
      done += length;
    }
    this.#files.growTo(this.#file, offset + byteLength);
  }

  writeMerged(offset: number, parts: readonly WritePart[]): undefined {
    let at = offset;
    for (const { bytes } of parts) {
      this.write(at, bytes);
      at += bytes.byteLength;
    }
  }

  zeroRange(offset: number, length: number): undefined {
    this.#clear(offset, length);
    this.#files.growTo(this.#file, offset + length);
  }

  punchHole(offset: number, length: number): undefined {
    this.#clear(offset, Math.min(length, Math.max(0, this.size() - offset)));
  }

  reserve(offset: number, length: number): undefined {
    this.#files.growTo(this.#file, offset + length);
  }

  truncate(size: number): undefined {
    this.#files.resize(this.#file, size);
  }

  sync(): undefined {
    return undefined;
  }

  noteChange(): undefined {
    return undefined;
  }

  close(): undefined {
    return undefined;
  }

  #clear(offset: number, length: number): void {
    for (let done = 0; done < length;) {
      const at = remainder(offset + done, PAGE_BYTES);
      const part = Math.min(PAGE_BYTES - at, length - done);
      const number = pageNumber(this.#file, offset + done);
      if (part === PAGE_BYTES) this.#files.put(number, ZERO_PAGE.bytes);
      else this.#files.writable(number).fill(0, at, at + part);
      done += part;
    }
  }
}
