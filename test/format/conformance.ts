/**
 * What every `DiskImage` promises, run for each format, refcount mode and cache mode: whatever a
 * guest asks for, it reads what a plain array of bytes would hold, also after the image was closed
 * and opened again, and the image left behind is clean by our own check and by QEMU's.
 */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openStack, type Stack, type WrapDevice } from '../../src/bench/stack.ts';
import { MemoryStorage } from '../../src/device/memory-storage.ts';
import type { BlockBackend } from '../../src/format/block-backend.ts';
import { CACHE_MODE_RULES, CACHE_MODES, type CacheMode } from '../../src/format/cache-mode.ts';
import { QEMU_FORMATS } from '../../src/core/format-name.ts';
import type { CommitPolicy } from '../../src/format/commit-policy.ts';
import type { Format } from '../../src/format/disk-image.ts';
import type { RefcountMode } from '../../src/format/image-options.ts';
import type { ImageShape } from '../../src/format/image-shape.ts';
import { Qcow2Image } from '../../src/format/qcow2/qcow2-image.ts';
import { createImage, openImage, withLoneFile } from '../../src/format/registry.ts';
import { SlowDevice } from '../device/slow-device.ts';
import {
  backingContents,
  GuestModel,
  guestRequest,
  performRequest,
  SECTOR,
  type DiskShape,
  type GuestRequest,
  type Region,
} from './guest-model.ts';
import { CHECK, QemuDirectory } from './qemu-directory.ts';
import { reasonToSkip } from './system-tools.ts';

export interface ImageSubject {
  readonly name: string;
  readonly format: Format;
  readonly refcounts?: RefcountMode;
  readonly shape?: ImageShape;
  readonly commit?: CommitPolicy;
  /** Bytes; empty for a format without clusters. */
  readonly clusterSizes: readonly number[];
  /** Whether an image of this format can have a backing file. */
  readonly canBeBacked: boolean;
}

/** A backing file: its format, and whether it ends before or after its overlay. */
interface BackingKind {
  readonly format: 'raw' | 'qcow2';
  readonly length: 'shorter' | 'longer';
}

const IMAGE = 'disk';
const BACKING = 'base';
/** Bytes; larger clusters are tried less often. */
const HUGE_CLUSTER_MIN = 1024 * 1024;
const noQemu = reasonToSkip('qemu-img') !== undefined;

/** Runs the suite for one subject in one cache mode. */
export function describeDiskImage(subject: ImageSubject, cacheMode: CacheMode): void {
  describe(`${subject.name}, ${cacheMode}`, () => {
    const qemu = new QemuDirectory();

    const clusterSizes = subject.clusterSizes.length === 0 ? [1] : subject.clusterSizes;
    const backings = subject.canBeBacked ? [undefined, ...BACKING_KINDS] : [undefined];
    const cases = clusterSizes.flatMap((clusterSize) => {
      // Huge clusters move many bytes: each cache mode takes another kind of backing file.
      const turn = CACHE_MODES.indexOf(cacheMode) % backings.length;
      const taken = clusterSize > HUGE_CLUSTER_MIN ? backings.slice(turn, turn + 1) : backings;
      return taken.map((backing) => ({ clusterSize, backing }));
    });

    for (const { clusterSize, backing } of cases) {
      it(`holds what was written: ${titleOf(clusterSize, backing)}`, async () => {
        const disk = new DiskUnderTest({ subject, cacheMode, clusterSize, backing });
        await disk.makeBacking();
        let asksQemu = !noQemu && (QEMU_FORMATS as readonly string[]).includes(subject.format);
        const run = fc.asyncProperty(requestsAndReopens(disk.shape), async (steps) => {
          const model = await runInTurn(disk, steps);
          await expectSame(disk, model);
          if (!asksQemu) return;
          await expectQemuAgrees(disk, model, qemu);
          // One run a case is enough for QEMU, but if that one fails, the smaller ones are shown to
          // it as well.
          asksQemu = false;
        });
        await fc.assert(run, { numRuns: clusterSize > HUGE_CLUSTER_MIN ? 2 : 3 });
      });
    }

    it('serves requests that are in flight together as if they came in turn', async () => {
      const clusterSize = subject.clusterSizes.at(-2) ?? subject.clusterSizes.at(-1) ?? 1;
      const backing = subject.canBeBacked ? ({ format: 'raw', length: 'shorter' } as const) : undefined;
      const disk = new DiskUnderTest({ subject, cacheMode, clusterSize, backing });
      await disk.makeBacking();
      const run = fc.asyncProperty(batches, async (rounds) => {
        const model = await runTogether(disk, rounds);
        await expectSame(disk, model);
      });
      await fc.assert(run, { numRuns: 5 });
    });
  });
}

const BACKING_KINDS: readonly BackingKind[] = (['raw', 'qcow2'] as const).flatMap((format) =>
  (['shorter', 'longer'] as const).map((length) => ({ format, length })),
);

function titleOf(clusterSize: number, backing: BackingKind | undefined): string {
  const clusters = clusterSize === 1 ? 'no clusters' : `clusters of ${String(clusterSize)} bytes`;
  return `${clusters}, ${backing === undefined ? 'no backing file' : `${backing.length} ${backing.format} backing file`}`;
}

/**
 * A disk that is not a multiple of its cluster and, unless clusters are huge, needs more than one
 * mapping table.
 */
function shapeOf(format: Format, clusterSize: number, cacheMode: CacheMode): DiskShape {
  const unit = Math.max(clusterSize, 4096);
  if (format === 'btree') {
    const virtualSize = 40 * unit + 5 * SECTOR;
    return { format, clusterSize: unit, virtualSize, regions: [{ start: 0, length: virtualSize }] };
  }
  const tableClusters = format === 'qed' ? 4 : 1;
  const tableCoverage = ((tableClusters * clusterSize) / 8) * clusterSize;
  if (format === 'raw' || tableCoverage > 2 ** 36) {
    // A raw file is aligned to 4 KiB for O_DIRECT while it begins with a hole.
    const end = format === 'raw' && CACHE_MODE_RULES[cacheMode].direct ? unit : 5 * SECTOR;
    const virtualSize = 3 * unit + end;
    return { format, clusterSize, virtualSize, regions: [{ start: 0, length: virtualSize }] };
  }
  if (clusterSize < 4096) {
    const virtualSize = 10 * tableCoverage + 3 * SECTOR;
    return { format, clusterSize, virtualSize, regions: [{ start: 0, length: virtualSize }] };
  }
  const virtualSize = tableCoverage + 5 * unit + 3 * SECTOR;
  const border = tableCoverage - 4 * unit;
  const regions = [
    { start: 0, length: 6 * unit },
    { start: border, length: virtualSize - border },
  ];
  return { format, clusterSize, virtualSize, regions };
}

interface DiskOptions {
  readonly subject: ImageSubject;
  readonly cacheMode: CacheMode;
  readonly clusterSize: number;
  readonly backing: BackingKind | undefined;
}

/** One image in memory, made again for each run, over a backing file that is made once. */
class DiskUnderTest {
  readonly shape: DiskShape;
  readonly storage = new MemoryStorage();
  readonly options: DiskOptions;
  readonly #backingModel: GuestModel;
  readonly #backingSize: number;

  constructor(options: DiskOptions) {
    const { subject, clusterSize, backing, cacheMode } = options;
    this.options = options;
    this.shape = shapeOf(subject.format, clusterSize, cacheMode);
    this.#backingModel = backing === undefined ? new GuestModel(this.shape) : backingContents(this.shape);
    const { start, length } = this.shape.regions.at(-1) as Region;
    const shorter = start + Math.floor(length / 2 / SECTOR) * SECTOR;
    this.#backingSize =
      backing?.length === 'shorter' ? shorter : this.shape.virtualSize + 2 * Math.max(clusterSize, 4096);
  }

  async makeBacking(): Promise<void> {
    const { backing } = this.options;
    if (backing === undefined) return;
    const device = this.storage.create(BACKING);
    await createImage({ device, format: backing.format, virtualSize: this.#backingSize, clusterSize: 4096 });
    device.close();
    const files = this.storage;
    const image = await openImage({ format: backing.format, name: BACKING, files, readOnly: false });
    for (const { start, bytes } of this.#backingModel.contents) {
      const length = Math.min(bytes.byteLength, this.#backingSize - start);
      await image.write(start, bytes.subarray(0, length));
    }
    await image.close();
  }

  async create(): Promise<void> {
    const { subject, clusterSize, backing } = this.options;
    const device = this.storage.create(IMAGE, { overwrite: true });
    await createImage({
      device,
      format: subject.format,
      virtualSize: this.shape.virtualSize,
      clusterSize: clusterSize === 1 ? undefined : clusterSize,
      refcounts: subject.refcounts,
      shape: subject.shape,
      backingFile: backing && { name: BACKING, format: backing.format },
    });
    device.close();
  }

  open(wrap?: WrapDevice): Promise<Stack> {
    const { subject, cacheMode, backing } = this.options;
    return openStack({
      storage: this.storage,
      imageName: IMAGE,
      format: subject.format,
      cache: cacheMode,
      refcounts: subject.refcounts,
      commit: subject.commit,
      backingPolicy: { unnamedFormat: backing?.format },
      wrap,
    });
  }

  /** What the guest sees before its first request. */
  freshModel(): GuestModel {
    const model = this.#backingModel.clone();
    for (const { start, bytes } of model.contents) {
      bytes.fill(0, Math.max(0, Math.min(bytes.byteLength, this.#backingSize - start)));
    }
    return model;
  }

  /** Lays image and backing file down for QEMU. */
  show(qemu: QemuDirectory): void {
    qemu.put(IMAGE, this.storage.open(IMAGE).contents());
    const { backing } = this.options;
    if (backing?.format === 'raw') qemu.putRaw(BACKING, this.#backingModel, this.#backingSize);
    if (backing?.format === 'qcow2') qemu.put(BACKING, this.storage.open(BACKING).contents());
  }
}

type Step = GuestRequest | { readonly op: 'reopen' };

function requestsAndReopens(shape: DiskShape): fc.Arbitrary<Step[]> {
  const step = fc.oneof(
    { weight: 12, arbitrary: guestRequest(shape) },
    { weight: 1, arbitrary: fc.constant({ op: 'reopen' as const }) },
  );
  return fc.array(step, { minLength: 12, maxLength: 36 });
}

async function runInTurn(disk: DiskUnderTest, steps: readonly Step[]): Promise<GuestModel> {
  await disk.create();
  const model = disk.freshModel();
  let stack = await disk.open();
  for (const [index, step] of steps.entries()) {
    if (step.op === 'reopen') {
      await stack.close();
      stack = await disk.open();
    } else {
      await performChecked(stack.backend, step, index, model);
      model.apply(step, index);
    }
  }
  for (const { start, bytes } of model.contents) {
    await expectRead(stack.backend, start, bytes, 'before the close');
  }
  await stack.close();
  return model;
}

/** Makes one request of the image; what a read answers is held against the model. */
async function performChecked(
  backend: BlockBackend,
  request: GuestRequest,
  index: number,
  model: GuestModel,
): Promise<void> {
  if (request.op !== 'read') return performRequest(backend, request, index);
  const expected = model.view(request.offset, request.length);
  return expectRead(backend, request.offset, expected, `step ${String(index)}`);
}

async function expectRead(
  backend: BlockBackend,
  offset: number,
  expected: Uint8Array,
  when: string,
): Promise<void> {
  const target = new Uint8Array(expected.byteLength).fill(0xaa);
  await backend.read(offset, target);
  if (Buffer.compare(target, expected) === 0) return;
  const at = target.findIndex((byte, index) => byte !== expected[index]);
  expect.unreachable(
    `${when}, guest offset ${String(offset + at)}: read ${hexAt(target, at)}, expected ${hexAt(expected, at)}`,
  );
}

function hexAt(bytes: Uint8Array, at: number): string {
  return Buffer.from(bytes.subarray(at, at + 8)).toString('hex');
}

/** The closed image holds what the model holds, and our own check finds nothing. */
async function expectSame(disk: DiskUnderTest, model: GuestModel): Promise<void> {
  const stack = await disk.open();
  for (const { start, bytes } of model.contents) {
    await expectRead(stack.backend, start, bytes, 'opened again');
  }
  if (stack.image instanceof Qcow2Image) {
    const { corruptions, leaks, checkErrors, messages } = await stack.image.check();
    expect({ corruptions, leaks, checkErrors }, messages.join('\n')).toEqual({
      corruptions: 0,
      leaks: 0,
      checkErrors: 0,
    });
    expect(stack.image.header.isDirty).toBe(false);
  }
  if (stack.image.format === 'btree') await expectGoodTree(disk);
  await stack.close();
}

async function expectGoodTree({ storage }: DiskUnderTest): Promise<void> {
  const device = storage.open(IMAGE);
  const report = await withLoneFile('btree', { device, readOnly: true }, async (engine, file) =>
    engine.check?.(file, {}),
  );
  expect(report, report?.messages.join('\n')).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
}

async function expectQemuAgrees(disk: DiskUnderTest, model: GuestModel, qemu: QemuDirectory): Promise<void> {
  const { format } = disk.options.subject;
  disk.show(qemu);
  if (format !== 'raw') qemu.expectCheck(format, IMAGE, CHECK.clean);
  qemu.expectContents(format, IMAGE, model);
}

/** Requests that begin together: neighbouring ranges of some sectors, each of one kind. */
const batches = fc.array(
  fc.array(
    fc.record({
      op: fc.constantFrom('write' as const, 'write' as const, 'read' as const, 'flush' as const),
      gap: fc.nat(9),
      sectors: fc.integer({ min: 1, max: 40 }),
      fua: fc.boolean(),
    }),
    { minLength: 2, maxLength: 8 },
  ),
  { minLength: 1, maxLength: 5 },
);

type Batches = typeof batches extends fc.Arbitrary<infer T> ? T : never;

async function runTogether(disk: DiskUnderTest, rounds: Batches): Promise<GuestModel> {
  await disk.create();
  const model = disk.freshModel();
  const stack = await disk.open((device) => new SlowDevice(device));
  const { start, length } = disk.shape.regions.at(-1) as Region;
  for (const [round, batch] of rounds.entries()) {
    const requests: GuestRequest[] = [];
    let at = start + round * 7 * SECTOR;
    for (const { op, gap, sectors, fua } of batch) {
      at += gap * SECTOR;
      const end = Math.min(at + sectors * SECTOR, start + length);
      if (end <= at) break;
      if (op === 'flush') requests.push({ op });
      else {
        requests.push(
          op === 'read' ? { op, offset: at, length: end - at } : { op, offset: at, length: end - at, fua },
        );
      }
      at = end;
    }
    const numbered = requests.map((request, index) => ({ request, index: round * 10 + index }));
    // No two of them share a sector, so each read sees what was there before the batch.
    await Promise.all(
      numbered.map(({ request, index }) => performChecked(stack.backend, request, index, model)),
    );
    for (const { request, index } of numbered) model.apply(request, index);
  }
  await stack.close();
  return model;
}
