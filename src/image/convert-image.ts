/**
 * Copying a disk into an image of another format: what a guest reads stays the same, what the chain
 * of files says is absent or zero stays absent.
 *
 * Invariants:
 * - The source is opened read-only, and the files behind it only as the policy allows.
 * - The target is synced once, when it is whole (`UnsyncedFiles`).
 * - One write of the target at a time, in the order of the disk: so clusters have the places that
 *   `qemu-img convert` gives them. What follows is read meanwhile.
 * - But for `inPlace`, the result has another name until it is whole and durable: a conversion that
 *   fails or is stopped leaves nothing, and a file that is there is replaced in one step, if that was asked
 *   for, or not at all.
 * - Zeroes are never written: not where tables say so, not in blocks of 4 KiB that hold nothing
 *   else. The writes are those of `qemu-img convert`, so the result has the same bytes.
 */

import { basename, dirname, relative, resolve } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';

import { Qcow2BenchError } from '../core/error.ts';
import { allocatePages } from '../core/page-memory.ts';
import { formatSize } from '../core/size.ts';
import { fileIdentity } from '../device/file-storage.ts';
import { aboutFinalName } from '../device/temporary-file.ts';
import type { BackingPolicy, ImageFiles } from '../format/backing-chain.ts';
import type { DiskImage, Format } from '../format/disk-image.ts';
import { FORMAT_FACTS, formatList, formatsWith } from '../format/formats.ts';
import type { RefcountMode } from '../format/image-options.ts';
import { dataFileName, hasDataFile, type ImageShape } from '../format/image-shape.ts';
import { openImage } from '../format/registry.ts';
import { changeImage } from './change-image.ts';
import { createImageFile, discardFile, refuseInTheWay, type NewBacking } from './create-image.ts';
import { hostImage, lockOf, SHARED_HOST_FILES, WRITABLE_HOST_FILES, type ImagePlace } from './host-image.ts';
import { tableExtents, type ImageExtent } from './image-extents.ts';
import { snapshotsOf } from './image-snapshots.ts';
import { openChain, type OpenedChain } from './open-chain.ts';
import { UnsyncedFiles } from './unsynced-files.ts';

/** Bytes that are read at a time. */
const CHUNK_BYTES = 2 * 1024 * 1024;
/** Zeroes are looked for in blocks of this many bytes. */
const SPARSE_BYTES = 4096;

export interface ConvertOptions {
  readonly source: {
    /** A path of the host. */
    readonly path: string;
    /** Default: detected from the first bytes. */
    readonly format?: Format | undefined;
    readonly backing?: BackingPolicy | undefined;
    /** Read files although other processes may be writing to them. Default false. */
    readonly forceShare?: boolean | undefined;
    /** Copy this internal snapshot, by id or name, in place of the disk. */
    readonly snapshot?: string | undefined;
  };
  readonly target: ImagePlace & {
    readonly format: Format;
    /** Bytes; default 64 KiB; raw has none. */
    readonly clusterSize?: number | undefined;
    readonly refcounts?: RefcountMode | undefined;
    readonly shape?: ImageShape | undefined;
    /** Replace a file that is there. Default false. */
    readonly overwrite?: boolean | undefined;
    /**
     * Make an overlay of the source's backing file: only what the source itself holds is copied.
     * Default false: all of the chain is.
     */
    readonly keepBacking?: boolean | undefined;
    /**
     * Write to the existing image or block device of that name, as `qemu-img convert -n` does: its
     * format and size stay, and what it held is lost even if the conversion fails. Default false.
     */
    readonly inPlace?: boolean | undefined;
  };
  /** Write compressed clusters; qcow2 only. Default false. */
  readonly compress?: boolean | undefined;
  /** Called regularly with how much of the disk is done. */
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface ConvertedImage {
  readonly sourceFormat: Format;
  /** Bytes. */
  readonly virtualSize: number;
  /** Bytes that were copied: neither absent nor zero. */
  readonly copiedBytes: number;
}

/**
 * Converts an image.
 *
 * @throws Qcow2BenchError `compress-unsupported`; `file-exists`; `target-is-source`;
 *   `target-too-small`; `snapshots-unsupported`; `snapshot-missing`; what opening the source, its chain or creating the
 *   target throws; the signal's reason.
 */
export async function convertImage(options: ConvertOptions): Promise<ConvertedImage> {
  const { source, target, compress = false } = options;
  if (compress && !FORMAT_FACTS[target.format].hasCompression) {
    const having = formatList(formatsWith(({ hasCompression }) => hasCompression));
    const message = `${target.format} has no compressed clusters: convert to ${having}, or without compression`;
    throw new Qcow2BenchError('compress-unsupported', message);
  }
  if (target.inPlace === true) return convertInPlace(options);
  const { storage, name } = target;
  const overwrite = target.overwrite ?? false;
  // Errors that can be known in advance are reported before the work.
  await refuseInTheWay(target, { overwrite });
  if (hasDataFile(target.shape)) await refuseInTheWay({ storage, name: dataFileName(name) }, { overwrite });
  const { image, format: sourceFormat, ...chain } = await openChain(source);
  const partName = storage.temporaryName(name);
  const dataFile = hasDataFile(target.shape) ? newDataFile(target) : undefined;
  try {
    if (source.snapshot !== undefined) await snapshotsOf(image, source.path).show(source.snapshot);
    refuseSource(chain, target);
    if (dataFile !== undefined) refuseSource(chain, { storage, name: dataFile.finalName });
    const { virtualSize } = image;
    const backing = target.keepBacking === true ? sameBacking(image, chain.images, options) : undefined;
    const files = new UnsyncedFiles(storage);
    const newData = dataFile && { ...dataFile, storage: files };
    const part = { ...target, storage: files, name: partName, dataFile: newData, overwrite: false };
    try {
      await createImageFile({ ...part, virtualSize, backing });
      const made = { files, name: partName, dataFile: dataFile?.name, backing };
      const copiedBytes = await fill(image, made, options);
      // The image comes last: it is the one that names the other.
      if (dataFile !== undefined) {
        storage.rename(dataFile.name, dataFile.finalName, { overwrite, before: partName });
      }
      storage.rename(partName, name, { overwrite });
      return { sourceFormat, virtualSize, copiedBytes };
    } catch (error) {
      for (const each of [partName, dataFile?.name]) {
        if (each !== undefined) discardFile({ storage, name: each });
      }
      const named = aboutFinalName(error, partName, name);
      throw dataFile === undefined ? named : aboutFinalName(named, dataFile.name, dataFile.finalName);
    }
  } finally {
    await image.abandon();
  }
}

/**
 * Nothing is created, replaced or resized: zeroes are written too, as the target may hold anything. A
 * conversion that fails closes the target: an image without errors, with part of the disk.
 */
async function convertInPlace(options: ConvertOptions): Promise<ConvertedImage> {
  const { source, target } = options;
  const { image, format: sourceFormat, ...chain } = await openChain(source);
  try {
    if (source.snapshot !== undefined) await snapshotsOf(image, source.path).show(source.snapshot);
    const { virtualSize } = image;
    const path = target.storage.realName?.(target.name) ?? target.name;
    const files: ImageFiles = {
      ...WRITABLE_HOST_FILES,
      open: (name, file) => {
        // The external data file of the target is written as well.
        if (!file.readOnly) refuseSource(chain, hostImage(name));
        return WRITABLE_HOST_FILES.open(name, file);
      },
    };
    const existing = { name: path, format: target.format, files, backing: ofOthers(source.backing) };
    const copiedBytes = await changeImage(existing, (opened) => {
      if (opened.virtualSize >= virtualSize) return copied(image, opened, options);
      const message = `holds ${formatSize(opened.virtualSize)}, but the source has ${formatSize(virtualSize)}: resize it, or use another target`;
      throw new Qcow2BenchError('target-too-small', message, { path });
    });
    return { sourceFormat, virtualSize, copiedBytes };
  } finally {
    await image.abandon();
  }
}

/** Where the data file of the result is written, and the name that it gets. */
function newDataFile({
  storage,
  name,
}: ImagePlace): ImagePlace & { readonly stored: string; readonly finalName: string } {
  const finalName = dataFileName(name);
  return { storage, name: storage.temporaryName(finalName), stored: basename(finalName), finalName };
}

/**
 * The backing file of the source, as the target names it: relative to its own directory.
 *
 * @throws Qcow2BenchError `convert-without-backing`, `option-of-other-format`
 */
function sameBacking(
  image: DiskImage,
  images: readonly string[],
  { source, target }: ConvertOptions,
): NewBacking {
  const [, base] = images;
  if (image.backing === undefined || base === undefined) {
    throw new Qcow2BenchError('convert-without-backing', 'the image has no backing file to keep', {
      path: source.path,
    });
  }
  if (FORMAT_FACTS[target.format].backing === 'none') {
    const having = formatList(formatsWith(({ backing }) => backing !== 'none'));
    const message = `${target.format} images have no backing file: keep it in ${having}`;
    throw new Qcow2BenchError('option-of-other-format', message);
  }
  const path = resolve(base);
  const place = target.storage.realName?.(target.name) ?? target.name;
  const name = relative(dirname(resolve(place)), path);
  // A colon before the first slash would be read as a protocol.
  const stored = name.includes(':') ? `./${name}` : name;
  return { name: stored, format: image.backing.format, path, files: SHARED_HOST_FILES };
}

/**
 * A file of the source's chain may have other overlays: it is never replaced or written, whatever its
 * name.
 */
function refuseSource(
  { names, images }: Pick<OpenedChain, 'names' | 'images'>,
  { storage, name }: ImagePlace,
): void {
  const path = storage.realName?.(name);
  if (path === undefined) return;
  const identity = fileIdentity(path);
  if (![...names, ...images].some((source) => fileIdentity(source) === identity)) return;
  const message = 'is a file that the conversion reads: use another name for the output';
  throw new Qcow2BenchError('target-is-source', message, { path });
}

async function fill(
  source: DiskImage,
  made: {
    readonly files: UnsyncedFiles;
    readonly name: string;
    readonly dataFile: string | undefined;
    readonly backing: NewBacking | undefined;
  },
  options: ConvertOptions,
): Promise<number> {
  const { format } = options.target;
  const { files, backing } = made;
  const target = await openImage({
    name: made.name,
    dataFile: made.dataFile,
    format,
    openBacking:
      backing &&
      (() =>
        openImage({
          name: backing.path,
          format: backing.format,
          files: backing.files,
          readOnly: true,
          backing: ofOthers(options.source.backing),
        })),
    files: {
      open: (file, { label, readOnly, contents }) =>
        files.open(file, { label, readOnly, lock: lockOf({ contents, readOnly }) }),
    },
    readOnly: false,
  });
  try {
    const copiedBytes = await copied(source, target, options);
    files.areWhole = true;
    await target.close();
    return copiedBytes;
  } catch (error) {
    // What could not be synced is only closed.
    files.areWhole = false;
    await target.abandon();
    throw error;
  }
}

/** Copies the disk; answers how many bytes were copied. */
async function copied(source: DiskImage, target: DiskImage, options: ConvertOptions): Promise<number> {
  const copy = new Copy(source, target, options);
  await (options.compress === true ? copy.compressed() : copy.plain());
  return copy.copiedBytes;
}

/** The source's rules for images other than itself. */
function ofOthers(backing: BackingPolicy | undefined): BackingPolicy {
  return { ...backing, dataFile: undefined };
}

/** Bytes of the disk that go to the target together. */
interface Run {
  readonly start: number;
  readonly length: number;
}

class Copy {
  copiedBytes = 0;
  readonly #source: DiskImage;
  readonly #target: DiskImage;
  readonly #options: ConvertOptions;
  /** One is filled while the other is written. */
  readonly #buffers: readonly [Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>];
  /** The last work on the target. */
  #working: Promise<void> = Promise.resolve();

  constructor(source: DiskImage, target: DiskImage, options: ConvertOptions) {
    this.#source = source;
    this.#target = target;
    this.#options = options;
    const size = Math.max(CHUNK_BYTES, target.clusterSize);
    this.#buffers = [allocatePages(size), allocatePages(size)];
  }

  /** Copies runs of blocks that are not zero. */
  async plain(): Promise<void> {
    try {
      let chunks = 0;
      for await (const extent of tableExtents(this.#source)) {
        const { start, length, zero } = extent;
        if (this.#isBehind(extent)) continue;
        if (zero) await this.#inOrder(() => this.#zeroes(start, start + length));
        for (let at = start; !zero && at < start + length; at += CHUNK_BYTES) {
          const buffer = this.#buffers[chunks++ % 2 === 0 ? 0 : 1];
          const chunk = await this.#read(at, buffer.subarray(0, Math.min(CHUNK_BYTES, start + length - at)));
          await this.#inOrder(() => this.#write(at, chunk));
        }
        this.#done(start + length);
      }
    } finally {
      await this.#working;
    }
  }

  /** Starts work on the target when the work before it is done. */
  async #inOrder(work: () => Promise<void>): Promise<void> {
    await this.#working;
    this.#working = work();
    // A failure is reported by the next, or at the end.
    this.#working.catch(() => undefined);
  }

  async #write(guestOffset: number, chunk: Uint8Array<ArrayBuffer>): Promise<void> {
    for (let from = 0; from < chunk.byteLength;) {
      const data = nextBlock(chunk, from, true);
      await this.#zeroes(guestOffset + from, guestOffset + data);
      const end = nextBlock(chunk, data, false);
      if (end > data) await this.#target.write(guestOffset + data, chunk.subarray(data, end));
      this.copiedBytes += end - data;
      from = end;
    }
  }

  /** Whether the target reads an extent from the backing file that it shares with the source. */
  #isBehind({ depth, present }: ImageExtent): boolean {
    return this.#options.target.keepBacking === true && (depth > 0 || !present);
  }

  /** Zeroes need no bytes in a new image, but must hide what the target or its backing file has. */
  async #zeroes(start: number, end: number): Promise<void> {
    const { keepBacking = false, inPlace = false } = this.#options.target;
    if ((!keepBacking && !inPlace) || start === end) return;
    await this.#target.writeZeroes(start, end - start, { unmap: true });
  }

  /** Copies whole clusters that hold anything but zeroes. */
  async compressed(): Promise<void> {
    const { clusterSize, virtualSize } = this.#target;
    const [buffer] = this.#buffers;
    let done = 0;
    let run: Run = { start: 0, length: 0 };
    for await (const extent of tableExtents(this.#source)) {
      const { start, length, zero } = extent;
      if (this.#isBehind(extent) || (zero && this.#target.backing === undefined)) continue;
      let at = Math.max(done, start - (start % clusterSize));
      for (; at < start + length; at += clusterSize) {
        if (run.start + run.length !== at || run.length + clusterSize > buffer.byteLength) {
          await this.#writeCompressed(run);
          run = { start: at, length: 0 };
        }
        const length = Math.min(clusterSize, virtualSize - at);
        const cluster = await this.#read(at, buffer.subarray(run.length, run.length + length));
        if (nextBlock(cluster, 0, true) < cluster.byteLength) {
          run = { start: run.start, length: run.length + cluster.byteLength };
          continue;
        }
        await this.#writeCompressed(run);
        run = { start: at, length: 0 };
        await this.#zeroes(at, at + cluster.byteLength);
      }
      done = at;
      this.#done(Math.min(done, virtualSize));
    }
    await this.#writeCompressed(run);
    await this.#target.endCompressedWrites?.();
  }

  /** Writes a run of clusters that begins at the buffer's beginning: they are packed together. */
  async #writeCompressed({ start, length }: Run): Promise<void> {
    if (length === 0) return;
    await this.#target.writeCompressed?.(start, this.#buffers[0].subarray(0, length));
    this.copiedBytes += length;
  }

  /** Fills `chunk` from the source; it is what is returned. */
  async #read(guestOffset: number, chunk: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
    this.#options.signal?.throwIfAborted();
    await this.#source.read(guestOffset, chunk);
    this.#done(guestOffset);
    // A source in memory or in the page cache answers at once: signals and the terminal get their
    // turn here.
    if (this.#options.signal !== undefined || this.#options.onProgress !== undefined) await turn();
    return chunk;
  }

  #done(bytes: number): void {
    this.#options.onProgress?.(bytes, this.#source.virtualSize);
  }
}

/**
 * Where the first block from `from` on begins that holds data, or the first that holds none; the
 * end if none does.
 */
function nextBlock(bytes: Uint8Array<ArrayBuffer>, from: number, holdsData: boolean): number {
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  for (let at = from; at < bytes.byteLength; at += SPARSE_BYTES) {
    const end = Math.min(at + SPARSE_BYTES, bytes.byteLength) / 4;
    let index = at / 4;
    while (index < end && words[index] === 0) index++;
    if (index < end === holdsData) return at;
  }
  return bytes.byteLength;
}
