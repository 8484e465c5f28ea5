/**
 * A list for both engines: the files as they are before the run, and the guest requests, all of it
 * from the features and a seed.
 *
 * Requests gather where something happens: at the ends of clusters, L2 slices, L2 tables, backing
 * files and the disk; so they meet what others allocated, whatever the disk's size.
 */

import { alignDown, alignUp } from '../../src/core/alignment.ts';
import { Random } from '../../src/core/random.ts';
import type { CacheMode } from '../../src/format/cache-mode.ts';
import type { CacheSizes } from '../../src/format/cache-sizes.ts';
import type { Format } from '../../src/format/disk-image.ts';
import type { DiscardMode } from '../../src/format/image-options.ts';
import type { QemuIoRequest } from '../../src/peer/qemu-io.ts';
import { SECTOR_SIZE, type RequestOp } from '../../src/workload/request.ts';
import type { DataFileKind } from '../../src/format/image-shape.ts';
import type { BackingSize, Chain, DiskKind, Features, Mix, Qcow2Features } from './features.ts';

/** A file that QEMU makes and fills before the run. */
export interface StartFile {
  /** Within the list's directory. */
  readonly name: string;
  readonly format: Format;
  /** Bytes. */
  readonly size: number;
  /** As `qemu-img create -o` takes them. */
  readonly options: Readonly<Record<string, string>>;
  /** Name of the file that holds the guest's data, if the image itself does not. */
  readonly dataFile: string | undefined;
  readonly fill: readonly QemuIoRequest[];
  /** Ended by a crash, so that nothing is closed. */
  readonly crashes: boolean;
  /** Snapshots are taken after so many requests of the fill. */
  readonly snapshotsAfter: readonly number[];
  /** A persistent bitmap is added after so many requests of the fill. */
  readonly bitmapAfter: number | undefined;
  /** Raw: begins with a hole, which qemu-img leaves none of at the start. */
  readonly isSparse: boolean;
}

export interface ParityList {
  /** Names the list in reports: `qcow2-017`. */
  readonly name: string;
  readonly features: Features;
  readonly format: Format;
  readonly cache: CacheMode;
  readonly discard: DiscardMode;
  /** `discard-no-unref`, where the version of QEMU has it. */
  readonly noUnref: boolean;
  /** Of the metadata caches; `undefined` for QEMU's defaults. */
  readonly cacheSizes: CacheSizes | undefined;
  /** The image first, then what it is backed by, from the top down. */
  readonly files: readonly [StartFile, ...StartFile[]];
  readonly requests: readonly QemuIoRequest[];
}

/** The files that a run may change. */
export function writtenFiles({ files: [image] }: ParityList): readonly string[] {
  return image.dataFile === undefined ? [image.name] : [image.name, image.dataFile];
}

export function allFiles(list: ParityList): readonly string[] {
  return [...writtenFiles(list), ...list.files.slice(1).map(({ name }) => name)];
}

/** Half as many where each table is 2 MiB. */
const REQUESTS_MIN = 30;
const REQUESTS_MAX = 50;
const FILL_REQUESTS = 9;
/** They come first, as QEMU compresses into clusters that are not allocated yet. */
const COMPRESSED_REQUESTS = 7;
/**
 * The first of a list of requests are such that more can be compressed; the rest do as they please.
 */
const COMPRESSING_SHARE = 0.7;
/** Places that a compressed write is tried at before it becomes a plain one. */
const FREE_CLUSTER_TRIES = 8;
/**
 * As long as a request of a fill may be at least, whatever the cluster size: many clusters of the
 * smallest.
 */
const FILL_BYTES = 64 * 1024;
/** Below it a request is short of a cluster of any size but the smallest. */
const SMALL_BYTES = 4096;
/** Nothing is longer: what is wanted of a large request is the number of its clusters. */
const LARGE_BYTES = 4 * 1024 * 1024;
/** At the start of a file, by which its alignment is probed. */
const PROBED_BYTES = 4096;
const MIB = 1024 * 1024;
const ENTRY_SIZE = 8;
/** L2 tables that QEMU's cache holds by default, in bytes. */
const L2_CACHE_BYTES = 32 * MIB;
const QED_TABLE_CLUSTERS = 4;

export function parityList(name: string, features: Features, seed: number): ParityList {
  const random = new Random(seed);
  const disk = diskOf(features);
  const below = backingFiles(features, disk, random);
  const spots = hotSpots(disk, below, random);
  const zeroes = takesZeroes(features.format, below.length > 0);
  const maker = new RequestMaker({ disk, spots, zeroes }, random);
  const { start } = features;
  const compressed = start === 'compressed' ? maker.compressed() : [];
  const image: StartFile = {
    name: 'image',
    format: features.format,
    size: disk.size,
    options: imageOptions(features),
    dataFile: features.format === 'qcow2' && features.dataFile !== 'none' ? DATA_FILE_NAME : undefined,
    fill: start === 'fresh' || start === 'sparse' ? [] : [...compressed, ...maker.fill()],
    crashes: start === 'crashed',
    // The first leaves requests for the second to share, and the second some that find nothing
    // shared.
    snapshotsAfter: start === 'snapshots' ? [4, 7] : [],
    bitmapAfter: start === 'bitmap' ? 4 : undefined,
    isSparse: start === 'sparse',
  };
  return {
    name,
    features,
    format: features.format,
    cache: features.cache,
    discard: features.discard,
    noUnref: features.format === 'qcow2' && features.noUnref === 'on',
    cacheSizes: features.format === 'qcow2' ? cacheSizesOf(features) : undefined,
    files: [image, ...below],
    requests: maker.list(features.mix, image.fill),
  };
}

/** The disk as the guest sees it, with what decides where its requests go. Bytes. */
interface Disk {
  readonly size: number;
  readonly clusterSize: number;
  /** What one L2 table maps. */
  readonly l2Coverage: number;
}

function diskOf(features: Features): Disk {
  const clusterSize = features.format === 'raw' ? MIB : features.clusterSize;
  const tableSize = features.format === 'qed' ? QED_TABLE_CLUSTERS * clusterSize : clusterSize;
  const l2Coverage = (tableSize / ENTRY_SIZE) * clusterSize;
  return { size: diskSize(features.disk, clusterSize, l2Coverage), clusterSize, l2Coverage };
}

function diskSize(kind: DiskKind, clusterSize: number, l2Coverage: number): number {
  switch (kind) {
    case 'few-clusters':
      return 20 * clusterSize;
    case 'mid-cluster':
      return clusterSize === SECTOR_SIZE ? 101 * clusterSize : 100 * clusterSize + SECTOR_SIZE;
    case 'tables':
      return 2 * l2Coverage + 8 * clusterSize;
    case 'huge': {
      // Four times over what the cache covers; the smallest clusters stop where their L1 table is
      // half a MiB.
      const beyondCache = 1.25 * (L2_CACHE_BYTES / ENTRY_SIZE) * clusterSize;
      const largestL1 = (MIB / 2 / ENTRY_SIZE) * l2Coverage;
      return alignDown(Math.min(beyondCache, largestL1), clusterSize);
    }
  }
}

function imageOptions(features: Features): Readonly<Record<string, string>> {
  switch (features.format) {
    case 'raw':
      return {};
    case 'qed':
      return { cluster_size: String(features.clusterSize) };
    case 'qcow2':
      return {
        compat: features.compat,
        cluster_size: String(features.clusterSize),
        refcount_bits: String(features.refcountBits),
        compression_type: features.compressionType,
        extended_l2: features.extendedL2,
        preallocation: features.preallocation,
        lazy_refcounts: features.refcounts === 'lazy' ? 'on' : 'off',
        ...dataFileOptions(features.dataFile),
      };
  }
}

const DATA_FILE_NAME = 'image.data';

function dataFileOptions(kind: DataFileKind): Readonly<Record<string, string>> {
  if (kind === 'none') return {};
  return { data_file: DATA_FILE_NAME, data_file_raw: kind === 'raw' ? 'on' : 'off' };
}

function cacheSizesOf({ cacheSizes, clusterSize }: Qcow2Features): CacheSizes | undefined {
  const smallest = SECTOR_SIZE;
  switch (cacheSizes) {
    case 'default':
      return undefined;
    case 'least':
      return { l2CacheSize: clusterSize, refcountCacheSize: clusterSize };
    case 'small-slices':
      return { l2CacheSize: 6 * smallest, l2CacheEntrySize: smallest };
    case 'shared':
      return { cacheSize: 7 * clusterSize };
  }
}

const CHAIN_FORMATS: Readonly<Record<Chain, readonly Format[]>> = {
  none: [],
  raw: ['raw'],
  'sparse-raw': ['raw'],
  qcow2: ['qcow2'],
  qed: ['qed'],
  'three-deep': ['qcow2', 'qed', 'raw'],
};

function backingFiles(features: Features, disk: Disk, random: Random): readonly StartFile[] {
  if (features.format === 'raw') return [];
  // QED names no format but raw, which is all it can be backed by.
  const formats: readonly Format[] =
    features.format === 'qed' && features.chain === 'three-deep'
      ? ['qcow2', 'qed', 'raw']
      : CHAIN_FORMATS[features.chain];
  return formats.map((format, depth): StartFile => {
    const size = backingSize(features.backingSize, disk.size, depth);
    const fillDisk = { ...disk, size };
    const spots = hotSpots(disk, [], random).filter((spot) => spot <= size);
    const zeroes = takesZeroes(format, depth < formats.length - 1);
    const fill = new RequestMaker({ disk: fillDisk, spots, zeroes }, random).fill();
    const isSparse = features.chain === 'sparse-raw';
    return {
      name: `backing-${String(depth)}`,
      format,
      size,
      options: {},
      dataFile: undefined,
      fill: isSparse ? fill.filter(({ offset }) => offset >= PROBED_BYTES) : fill,
      crashes: false,
      snapshotsAfter: [],
      bitmapAfter: undefined,
      isSparse,
    };
  });
}

/** Exception `qed-zero-over-backing`: see docs/qemu-rules.md. */
function takesZeroes(format: Format, isBacked: boolean): boolean {
  return format !== 'qed' || !isBacked;
}

/** Those below the first are each a little shorter than the one above. */
function backingSize(kind: BackingSize, diskSizeBytes: number, depth: number): number {
  const first = { shorter: diskSizeBytes / 2, equal: diskSizeBytes, longer: diskSizeBytes + 65_536 }[kind];
  return Math.max(SECTOR_SIZE, alignDown(first - depth * 3 * SECTOR_SIZE, SECTOR_SIZE));
}

/** Guest offsets, in bytes, that requests gather around. */
function hotSpots(
  { size, clusterSize, l2Coverage }: Disk,
  below: readonly StartFile[],
  random: Random,
): readonly number[] {
  const tables = Math.ceil(size / l2Coverage);
  const sliceCoverage = (4096 / ENTRY_SIZE) * clusterSize;
  const spots = [0, size, alignDown(size / 2, clusterSize), ...below.map((file) => file.size)];
  for (let index = 0; index < 3; index++) spots.push(l2Coverage * random.below(tables));
  spots.push(l2Coverage, sliceCoverage, 2 * sliceCoverage);
  return spots.filter((spot) => spot <= size);
}

interface Weights {
  readonly write: number;
  readonly fua: number;
  readonly read: number;
  readonly flush: number;
  readonly discard: number;
  readonly zeroes: number;
  readonly compressed: number;
}

const WEIGHTS: Readonly<Record<Mix, Weights>> = {
  writes: { write: 80, fua: 0, read: 12, flush: 8, discard: 0, zeroes: 0, compressed: 0 },
  durable: { write: 30, fua: 35, read: 5, flush: 30, discard: 0, zeroes: 0, compressed: 0 },
  zeroes: { write: 40, fua: 4, read: 10, flush: 6, discard: 20, zeroes: 20, compressed: 0 },
  large: { write: 70, fua: 5, read: 10, flush: 5, discard: 5, zeroes: 5, compressed: 0 },
  compressed: { write: 25, fua: 4, read: 10, flush: 8, discard: 7, zeroes: 6, compressed: 40 },
};

class RequestMaker {
  readonly #disk: Disk;
  readonly #spots: readonly number[];
  /** False makes writes of what would be zero-writes. */
  readonly #zeroes: boolean;
  readonly #random: Random;

  constructor(
    place: { readonly disk: Disk; readonly spots: readonly number[]; readonly zeroes: boolean },
    random: Random,
  ) {
    this.#disk = place.disk;
    this.#spots = place.spots;
    this.#zeroes = place.zeroes;
    this.#random = random;
  }

  /**
   * Writes, and a few zero-writes among them; together they need several refcount blocks where
   * those are small.
   */
  fill(): readonly QemuIoRequest[] {
    const requests = Array.from({ length: FILL_REQUESTS }, (_, index) =>
      this.#request(index % 5 === 4 ? 'write-zeroes' : 'write', 'fill'),
    );
    // The first block of a raw file is written, by which its alignment is reported.
    return [
      ...requests,
      {
        op: 'write',
        offset: 0,
        length: Math.min(SMALL_BYTES, this.#disk.size),
        fua: false,
        unmap: false,
        timeNs: 0,
      },
    ];
  }

  /** Compressed writes, none of a cluster that another has. */
  compressed(): readonly QemuIoRequest[] {
    const { size, clusterSize } = this.#disk;
    const requests: QemuIoRequest[] = [];
    for (let left = COMPRESSED_REQUESTS; left > 0; left--) {
      const request = this.#request('write', 'writes');
      const offset = alignDown(request.offset, clusterSize);
      const length = Math.min(alignUp(request.length, clusterSize), size - offset);
      const compressed = { ...request, offset, length, compressed: true };
      if (!requests.some((other) => overlap(other, compressed))) requests.push(compressed);
    }
    return requests;
  }

  /** @param before what the image holds already. */
  list(mix: Mix, before: readonly QemuIoRequest[]): readonly QemuIoRequest[] {
    const whole = REQUESTS_MIN + this.#random.below(REQUESTS_MAX - REQUESTS_MIN + 1);
    const length = this.#disk.clusterSize > MIB ? Math.ceil(whole / 2) : whole;
    const requests: QemuIoRequest[] = [];
    for (let index = 0; index < length; index++) {
      const request = this.#weighted(mix);
      const compresses = index < COMPRESSING_SHARE * length;
      requests.push(compresses ? this.#besideCompressed(request, [...before, ...requests]) : plain(request));
    }
    return requests;
  }

  /**
   * The request, or another in its place: QEMU compresses only into clusters that are not
   * allocated, and nothing is compressed after what was packed in this run was freed (exception
   * `packing-into-freed`).
   */
  #besideCompressed(request: QemuIoRequest, before: readonly QemuIoRequest[]): QemuIoRequest {
    const { size, clusterSize } = this.#disk;
    const changes = before.filter(({ op }) => op !== 'read' && op !== 'flush');
    if (request.compressed === true) {
      for (let left = FREE_CLUSTER_TRIES; left > 0; left--) {
        const offset = alignDown(this.#range('write', 'writes').offset, clusterSize);
        const whole = { ...request, offset, length: Math.min(clusterSize, size - offset) };
        if (!changes.some((other) => overlap(aligned(other, clusterSize), whole))) return whole;
      }
    }
    const frees = changes.some(
      (other) => other.compressed === true && overlap(aligned(other, clusterSize), request),
    );
    return frees ? { ...plain(request), op: 'read', fua: false, unmap: false } : plain(request);
  }

  #weighted(mix: Mix): QemuIoRequest {
    const weights = WEIGHTS[mix];
    let roll = this.#random.below(100);
    const hits = (weight: number): boolean => (roll -= weight) < 0;
    if (hits(weights.write)) return this.#request('write', mix);
    if (hits(weights.fua)) return { ...this.#request('write', mix), fua: true };
    if (hits(weights.read)) return this.#request('read', mix);
    if (hits(weights.discard)) return this.#request('discard', mix);
    if (hits(weights.zeroes)) return this.#request('write-zeroes', mix);
    if (hits(weights.compressed)) return { ...this.#request('write', mix), compressed: true };
    return { op: 'flush', offset: 0, length: 0, fua: false, unmap: false, timeNs: 0 };
  }

  #request(wanted: RequestOp, mix: Mix | 'fill'): QemuIoRequest {
    const random = this.#random;
    const op = wanted === 'write-zeroes' && !this.#zeroes ? 'write' : wanted;
    const zeroes = op === 'write-zeroes';
    return {
      op,
      ...this.#range(op, mix),
      fua: zeroes && random.chance(0.2),
      unmap: zeroes && random.chance(0.5),
      timeNs: 0,
    };
  }

  #range(op: RequestOp, mix: Mix | 'fill'): { offset: number; length: number } {
    const { size, clusterSize } = this.#disk;
    const random = this.#random;
    const spot = this.#spots[random.below(this.#spots.length)] ?? 0;
    const near = spot + (random.below(9) - 4) * clusterSize;
    const inCluster = random.chance(0.4) ? 0 : random.below(clusterSize / SECTOR_SIZE) * SECTOR_SIZE;
    const offset = Math.min(size - SECTOR_SIZE, Math.max(0, alignDown(near, SECTOR_SIZE) + inCluster));
    return { offset, length: Math.min(this.#length(op, mix), size - offset) };
  }

  #length(op: RequestOp, mix: Mix | 'fill'): number {
    const { clusterSize } = this.#disk;
    const random = this.#random;
    const upTo = (bytes: number): number =>
      (1 + random.below(Math.max(1, bytes / SECTOR_SIZE))) * SECTOR_SIZE;
    const movesNothing = op === 'discard' || op === 'write-zeroes';
    const clusters = mix === 'large' || movesNothing ? 8 : 3;
    const fewClusters = movesNothing ? 8 * clusterSize : Math.min(LARGE_BYTES, clusters * clusterSize);
    const most = mix === 'fill' ? Math.max(fewClusters, FILL_BYTES) : fewClusters;
    switch (random.below(4)) {
      case 0:
        return upTo(SMALL_BYTES);
      case 1:
        return movesNothing || clusterSize < LARGE_BYTES ? clusterSize : SMALL_BYTES;
      case 2:
        return upTo(clusterSize);
      default:
        return upTo(most);
    }
  }
}

interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

function overlap(left: ByteRange, right: ByteRange): boolean {
  return left.offset < right.offset + right.length && right.offset < left.offset + left.length;
}

/** The clusters that a range touches. */
function aligned({ offset, length }: ByteRange, clusterSize: number): ByteRange {
  const first = alignDown(offset, clusterSize);
  return { offset: first, length: alignUp(offset + length, clusterSize) - first };
}

/** Without compression. */
function plain({ op, offset, length, fua, unmap, timeNs }: QemuIoRequest): QemuIoRequest {
  return { op, offset, length, fua, unmap, timeNs };
}
