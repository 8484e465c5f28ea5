/**
 * Image files on a modelled device: bytes are in memory that discards guest data, and every
 * operation takes the time that the model gives it, in virtual time.
 *
 * Invariants:
 * - All files of a storage are on one device: they share its places (`parallelism`), its head and
 *   its time.
 * - While operations are `serial`, each is done at once and time moves on by what it took. While
 *   they are `concurrent`, each answers a promise that resolves at its time; syncs are served one
 *   at a time.
 * - The same requests take the same time, always.
 */

import type { Pending } from '../core/pending.ts';
import type { BlockDevice, Elision, FileGrowth, WritePart } from './block-device.ts';
import type { Capabilities } from './capabilities.ts';
import { operationNs, syncNs, type DeviceModel, type OperationCost, type PathCosts } from './device-model.ts';
import { DeviceFilter } from './filter.ts';
import { NullStorage } from './memory-storage.ts';
import type { Purpose, SyncCause } from './purpose.ts';
import type { CreateOptions, OpenOptions, RenameOptions, Storage } from './storage.ts';
import { VirtualTime } from './virtual-time.ts';
import { WrittenBlocks } from './written-blocks.ts';

export class ModelStorage implements Storage {
  readonly kind = 'null';
  readonly time = new VirtualTime();
  readonly #bytes = new NullStorage();
  readonly #queue: ModelQueue;
  readonly #files = new Map<string, FileState>();
  readonly #model: DeviceModel;

  constructor(model: DeviceModel) {
    this.#model = model;
    this.#queue = new ModelQueue(model.parallelism, this.time);
  }

  get capabilities(): Capabilities {
    return this.#bytes.capabilities;
  }

  get model(): DeviceModel {
    return this.#model;
  }

  /** Whether operations overlap; false to begin with. */
  set isConcurrent(value: boolean) {
    this.#queue.isConcurrent = value;
  }

  create(name: string, options: CreateOptions = {}): BlockDevice {
    const bare = this.#bytes.create(name, options);
    this.#files.set(name, new FileState());
    return this.#device(name, bare, options.direct);
  }

  open(name: string, options: OpenOptions = {}): BlockDevice {
    return this.#device(name, this.#bytes.open(name, options), options.direct);
  }

  exists(name: string): boolean {
    return this.#bytes.exists(name);
  }

  temporaryName(name: string): string {
    return this.#bytes.temporaryName(name);
  }

  remove(name: string): void {
    this.#bytes.remove(name);
    this.#files.delete(name);
  }

  rename(name: string, newName: string, options: RenameOptions): void {
    this.#bytes.rename(name, newName, options);
    const file = this.#files.get(name);
    this.#files.delete(name);
    if (file !== undefined) this.#files.set(newName, file);
  }

  describe(): string {
    return `model ${this.#model.name}`;
  }

  #device(name: string, bare: BlockDevice, direct = false): BlockDevice {
    const state = this.#files.get(name) ?? new FileState();
    this.#files.set(name, state);
    return new ModelDevice(bare, {
      costs: direct ? this.#model.direct : this.#model.buffered,
      queue: this.#queue,
      state,
    });
  }
}

/** The parallel units of the device, and the position of its head. */
class ModelQueue {
  isConcurrent = false;
  /** When each place is free again. */
  readonly #freeNs: Float64Array;
  #syncFreeNs = 0;
  #head: { readonly file: FileState; readonly offset: number } | undefined;
  readonly #time: VirtualTime;

  constructor(places: number, time: VirtualTime) {
    this.#freeNs = new Float64Array(places);
    this.#time = time;
  }

  /** Whether the head has to move to `offset`; it then is at `end`. */
  jump(file: FileState, offset: number, end: number): boolean {
    const jumps = this.#head?.file !== file || this.#head.offset !== offset;
    this.#head = { file, offset: end };
    return jumps;
  }

  serve(serviceNs: number): Pending {
    if (!this.isConcurrent) {
      this.#time.advance(serviceNs);
      return undefined;
    }
    const place = this.#firstFree();
    const endNs = Math.max(this.#time.nowNs, this.#freeNs[place] ?? 0) + serviceNs;
    this.#freeNs[place] = endNs;
    return this.#time.until(endNs);
  }

  serveSync(serviceNs: number): Pending {
    if (!this.isConcurrent) {
      this.#time.advance(serviceNs);
      return undefined;
    }
    this.#syncFreeNs = Math.max(this.#time.nowNs, this.#syncFreeNs) + serviceNs;
    return this.#time.until(this.#syncFreeNs);
  }

  #firstFree(): number {
    let first = 0;
    for (let place = 1; place < this.#freeNs.length; place++) {
      if ((this.#freeNs[place] ?? 0) < (this.#freeNs[first] ?? 0)) first = place;
    }
    return first;
  }
}

/** The file system's state of a file, shared by all who have it open. */
class FileState {
  readonly blocks = new WrittenBlocks();
  bytes = 0;
  extents = 0;
  allocates = false;
  #lastEnd = -1;

  /** Whether blocks were allocated for it. */
  wrote(offset: number, length: number, grows: boolean): boolean {
    this.bytes += length;
    if (offset !== this.#lastEnd) this.extents++;
    this.#lastEnd = offset + length;
    const isNew = this.blocks.write(offset, length);
    if (isNew || grows) this.allocates = true;
    return isNew;
  }

  synced(): void {
    this.bytes = 0;
    this.extents = 0;
    this.allocates = false;
    this.#lastEnd = -1;
  }
}

class ModelDevice extends DeviceFilter {
  readonly #costs: PathCosts;
  readonly #queue: ModelQueue;
  readonly #state: FileState;

  constructor(
    inner: BlockDevice,
    parts: { readonly costs: PathCosts; readonly queue: ModelQueue; readonly state: FileState },
  ) {
    super(inner);
    this.#costs = parts.costs;
    this.#queue = parts.queue;
    this.#state = parts.state;
  }

  override read(offset: number, target: Uint8Array, purpose: Purpose): Pending {
    void this.inner.read(offset, target, purpose);
    return this.#serve(this.#costs.read, offset, target.byteLength);
  }

  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    const allocates = this.#wrote(offset, bytes.byteLength);
    void this.inner.write(offset, bytes, purpose, from, to);
    return this.#serve(this.#costs.write, offset, bytes.byteLength, allocates);
  }

  override writeMerged(offset: number, parts: readonly WritePart[]): Pending {
    let length = 0;
    for (const part of parts) length += part.bytes.byteLength;
    const allocates = this.#wrote(offset, length);
    void this.inner.writeMerged(offset, parts);
    return this.#serve(this.#costs.write, offset, length, allocates);
  }

  override zeroRange(offset: number, length: number, purpose: Purpose): Pending {
    // Unwritten extents: the file system allocates them, and a write into them changes its tables
    // once more.
    this.#state.blocks.clear(offset, length);
    this.#state.allocates = true;
    void this.inner.zeroRange(offset, length, purpose);
    return this.#serve(this.#costs.zeroRange, offset, length);
  }

  override punchHole(offset: number, length: number, purpose: Purpose, isZeroWrite?: boolean): Pending {
    this.#state.blocks.clear(offset, length);
    this.#state.allocates = true;
    void this.inner.punchHole(offset, length, purpose, isZeroWrite);
    return this.#serve(this.#costs.punchHole, offset, length);
  }

  override truncate(size: number, purpose: Purpose, growth?: FileGrowth): Pending {
    const before = this.size();
    if (size < before) this.#state.blocks.clear(size, before - size);
    this.#state.allocates = true;
    void this.inner.truncate(size, purpose, growth);
    return this.#queue.serve(this.#costs.truncate.baseNs);
  }

  override sync(cause: SyncCause, elision?: Elision): Pending {
    const serviceNs = syncNs(this.#costs.sync, this.#state);
    this.#state.synced();
    void this.inner.sync(cause, elision);
    return this.#queue.serveSync(serviceNs);
  }

  #wrote(offset: number, length: number): boolean {
    return this.#state.wrote(offset, length, offset + length > this.size());
  }

  #serve(cost: OperationCost, offset: number, bytes: number, allocates = false): Pending {
    const jumps = this.#queue.jump(this.#state, offset, offset + bytes);
    return this.#queue.serve(operationNs(cost, { bytes, jumps, allocates }));
  }
}
