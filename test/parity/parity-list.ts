/**
 * A list for both engines: the files as they are before the run, and the guest requests, all of it from the
 * features and a seed.
 *
 * Requests gather where something happens: at the ends of clusters, L2 slices, L2 tables, backing files and the
 * disk; so they meet what others allocated, whatever the disk's size.
 */

import { alignDown, alignUp } from '../../src/core/alignment.ts';
import { Random } from '../../src/core/random.ts';
import type { CacheMode } from '../../src/format/cache-mode.ts';
import type { CacheSizes } from '../../src/format/cache-sizes.ts';
import type { Format } from '../../src/format/disk-image.ts';
import { SECTOR_SIZE, type Request, type RequestOp } from '../../src/workload/request.ts';
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
  readonly fill: readonly Request[];
  /** Ended by a crash, so that nothing is closed. */
  readonly crashes: boolean;
  /** So many requests of the fill, from the first on, are written compressed. */
  readonly compressed: number;
  /** Snapshots are taken after so many requests of the fill. */
  readonly snapshotsAfter: readonly number[];
}

export interface ParityList {
  /** Names the list in reports: `qcow2-017`. */
  readonly name: string;
  readonly features: Features;
  readonly format: Format;
  readonly cache: CacheMode;
  /** Of the metadata caches; `undefined` for QEMU's defaults. */
  readonly cacheSizes: CacheSizes | undefined;
  /** The image first, then what it is backed by, from the top down. */
  readonly files: readonly [StartFile, ...StartFile[]];
  readonly requests: readonly Request[];
}

/** Half as many where each table is 2 MiB. */
const REQUESTS_MIN = 30;
const REQUESTS_MAX = 50;
const FILL_REQUESTS = 9;
/** They come first, as QEMU compresses into clusters that are not allocated yet. */
const COMPRESSED_REQUESTS = 7;
/** As long as a request of a fill may be at least, whatever the cluster size: many clusters of the smallest. */
const FILL_BYTES = 64 * 1024;
/** Below it a request is short of a cluster of any size but the smallest. */
const SMALL_BYTES = 4096;
/** Nothing is longer: what is wanted of a large request is the number of its clusters. */
const LARGE_BYTES = 4 * 1024 * 1024;
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
  const compressed = start === 'compressed' ? maker.wholeClusters() : [];
  const image: StartFile = {
    name: 'image',
    format: features.format,
    size: disk.size,
    options: imageOptions(features),
    fill: start === 'fresh' ? [] : [...compressed, ...maker.fill()],
    compressed: compressed.length,
    crashes: start === 'crashed',
    // The first leaves requests for the second to share, and the second some that find nothing shared.
    snapshotsAfter: start === 'snapshots' ? [4, 7] : [],
  };
  return {
    name,
    features,
    format: features.format,
    cache: features.cache,
    cacheSizes: features.format === 'qcow2' ? cacheSizesOf(features) : undefined,
    files: [image, ...below],
    requests: maker.list(features.mix),
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
      // Four times over what the cache covers; the smallest clusters stop where their L1 table is half a MiB.
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
      };
  }
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
    return {
      name: `backing-${String(depth)}`,
      format,
      size,
      options: {},
      fill: new RequestMaker({ disk: fillDisk, spots, zeroes }, random).fill(),
      crashes: false,
      compressed: 0,
      snapshotsAfter: [],
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
}

const WEIGHTS: Readonly<Record<Mix, Weights>> = {
  writes: { write: 80, fua: 0, read: 12, flush: 8, discard: 0, zeroes: 0 },
  durable: { write: 30, fua: 35, read: 5, flush: 30, discard: 0, zeroes: 0 },
  zeroes: { write: 40, fua: 4, read: 10, flush: 6, discard: 20, zeroes: 20 },
  large: { write: 70, fua: 5, read: 10, flush: 5, discard: 5, zeroes: 5 },
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

  /** Writes, and a few zero-writes among them; together they need several refcount blocks where those are small. */
  fill(): readonly Request[] {
    const requests = Array.from({ length: FILL_REQUESTS }, (_, index) =>
      this.#request(index % 5 === 4 ? 'write-zeroes' : 'write', 'fill'),
    );
    // Exception `raw-direct-over-hole`: the first block of a raw file is written.
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

  /** Writes of whole clusters, none of a cluster that another has. */
  wholeClusters(): readonly Request[] {
    const { size, clusterSize } = this.#disk;
    const requests: Request[] = [];
    for (let left = COMPRESSED_REQUESTS; left > 0; left--) {
      const request = this.#request('write', 'writes');
      const offset = alignDown(request.offset, clusterSize);
      const length = Math.min(alignUp(request.length, clusterSize), size - offset);
      const meets = (other: Request): boolean =>
        other.offset < offset + length && offset < other.offset + other.length;
      if (!requests.some(meets)) requests.push({ ...request, offset, length });
    }
    return requests;
  }

  list(mix: Mix): readonly Request[] {
    const whole = REQUESTS_MIN + this.#random.below(REQUESTS_MAX - REQUESTS_MIN + 1);
    const length = this.#disk.clusterSize > MIB ? Math.ceil(whole / 2) : whole;
    return Array.from({ length }, () => this.#weighted(mix));
  }

  #weighted(mix: Mix): Request {
    const weights = WEIGHTS[mix];
    let roll = this.#random.below(100);
    const hits = (weight: number): boolean => (roll -= weight) < 0;
    if (hits(weights.write)) return this.#request('write', mix);
    if (hits(weights.fua)) return { ...this.#request('write', mix), fua: true };
    if (hits(weights.read)) return this.#request('read', mix);
    if (hits(weights.discard)) return this.#request('discard', mix);
    if (hits(weights.zeroes)) return this.#request('write-zeroes', mix);
    return { op: 'flush', offset: 0, length: 0, fua: false, unmap: false, timeNs: 0 };
  }

  #request(wanted: RequestOp, mix: Mix | 'fill'): Request {
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
