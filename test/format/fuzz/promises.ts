/**
 * What must hold for any image, however damaged: the properties of the fuzzer.
 *
 * - What happens is an error of our class with a code, or an answer; nothing else is thrown.
 * - Each command ends within its budget of host operations and of CPU time.
 * - No file is opened but the image itself (`info`, `check`) and files of its folder (the others).
 * - A command that reads changes nothing; nor does one that refuses the image, but for the repair
 *   of a dirty one that was in flight.
 * - Two checks say the same. A repair that says nothing is left is followed by a check that finds
 *   nothing.
 */

import assert from 'node:assert/strict';

import { Qcow2BenchError } from '../../../src/core/error.ts';
import type { CheckReport } from '../../../src/format/check-report.ts';
import type { DiskImage } from '../../../src/format/disk-image.ts';
import { openImage } from '../../../src/format/registry.ts';
import { checkImageFile } from '../../../src/image/check-image.ts';
import { tableExtents } from '../../../src/image/image-extents.ts';
import { readImageInfo } from '../../../src/image/image-info.ts';
import { filled } from '../recorded-files.ts';
import { IMAGE, type BaseImage } from './base-images.ts';
import { WatchedStorage } from './watched-storage.ts';

/**
 * CPU time of one command, in microseconds: thrice the second that is promised, for a machine that
 * does other things.
 */
const CPU_MAX_US = 3_000_000;
const STUCK_MS = 5000;
/** Extents of a disk that are looked at. */
const EXTENTS_MAX = 2000;
const READ_BYTES_MAX = 64 * 1024;

/** What a check of the image came to: its report, or the code of the error that refused it. */
export type Verdict = CheckReport | { readonly refused: string };

/**
 * Tries every command on a damaged image; throws where a promise is broken. Answers the verdict of
 * the check.
 */
export async function holdPromises(base: BaseImage, bytes: Uint8Array): Promise<Verdict> {
  const trial = new Trial(base, bytes);
  await trial.info();
  const verdict = await trial.check();
  await trial.read();
  await trial.serve();
  await trial.repair(verdict);
  return verdict;
}

class Trial {
  readonly #base: BaseImage;
  readonly #bytes: Uint8Array;
  /** Shared by all that change nothing. */
  readonly #unchanged: WatchedStorage;

  constructor(base: BaseImage, bytes: Uint8Array) {
    this.#base = base;
    this.#bytes = bytes;
    this.#unchanged = this.#storage();
  }

  async info(): Promise<void> {
    const storage = this.#unchanged;
    storage.begin();
    await bounded('info', () => orRefused(() => readImageInfo({ storage, name: IMAGE })));
    opensOnlyItself(storage);
    assert.equal(storage.changes, 0, 'info changes nothing');
  }

  async check(): Promise<Verdict> {
    const storage = this.#unchanged;
    storage.begin();
    const first = await this.#checked(storage);
    assert.deepEqual(await this.#checked(storage), first, 'a second check says the same');
    opensOnlyItself(storage);
    assert.equal(storage.changes, 0, 'a check changes nothing');
    return first;
  }

  /** As `map` and `convert` do. */
  async read(): Promise<void> {
    const storage = this.#unchanged;
    storage.begin();
    await bounded('read', async () => {
      const image = await orRefused(() => this.#open(storage, { readOnly: true }));
      if (image instanceof Qcow2BenchError) return;
      await orRefused(() => readAll(image));
      await image.abandon();
    });
    opensOnlyItsFolder(storage);
    assert.equal(storage.changes, 0, 'reading changes nothing');
  }

  /** As `replay` and `record` do. */
  async serve(): Promise<void> {
    const storage = this.#storage();
    await bounded('serve', async () => {
      const image = await orRefused(() => this.#open(storage, { readOnly: false }));
      if (image instanceof Qcow2BenchError) {
        if (!this.#isDirty()) {
          assert.equal(storage.changes, 0, `refused (${image.code}), and nothing is written`);
        }
        return;
      }
      await useAsGuest(image);
      await orRefused(() => image.close());
      await image.abandon();
    });
    opensOnlyItsFolder(storage);
  }

  async repair(before: Verdict): Promise<void> {
    const storage = this.#storage();
    const repaired = await this.#checked(storage, 'all');
    opensOnlyItself(storage);
    if ('refused' in repaired) {
      if (!('refused' in before)) return;
      assert.deepEqual(repaired, before, 'a repair refuses with what a check refuses');
      assert.equal(storage.changes, 0, 'refused, and nothing is written');
      return;
    }
    // A snapshot table that is too long for a check is cut by a repair; nothing else that is
    // refused can be repaired.
    if ('refused' in before) assert.equal(before.refused, 'qcow2-bad-snapshot-table');
    if (repaired.corruptions + repaired.checkErrors > 0) return;
    const after = await this.#checked(storage);
    assert.ok(!('refused' in after), 'a repaired image can be checked');
    const { corruptions, leaks, checkErrors } = after;
    assert.deepEqual(
      { corruptions, leaks, checkErrors },
      { corruptions: 0, leaks: repaired.leaks, checkErrors: 0 },
      'what a repair calls clean is clean',
    );
  }

  #storage(): WatchedStorage {
    return new WatchedStorage([[IMAGE, this.#bytes], ...this.#base.beside]);
  }

  #open(storage: WatchedStorage, { readOnly }: { readonly readOnly: boolean }): Promise<DiskImage> {
    return openImage({
      format: this.#base.format,
      name: IMAGE,
      files: { open: (name, options) => storage.open(name, options) },
      readOnly,
    });
  }

  async #checked(storage: WatchedStorage, repair?: 'all'): Promise<Verdict> {
    const { format } = this.#base;
    storage.begin();
    return bounded(repair === undefined ? 'check' : 'repair', async () => {
      const checked = await orRefused(() => checkImageFile({ storage, name: IMAGE, format, repair }));
      return checked instanceof Qcow2BenchError ? { refused: checked.code } : checked.report;
    });
  }

  /** By the header alone: bit 0 of qcow2's incompatible features, bit 1 of QED's. */
  #isDirty(): boolean {
    const bytes = this.#bytes;
    if (this.#base.format === 'btree') return false;
    return this.#base.format === 'qcow2' ? ((bytes[79] ?? 0) & 1) !== 0 : ((bytes[16] ?? 0) & 2) !== 0;
  }
}

/** The answer, or the error that refused the image; any other error is a defect. */
async function orRefused<T>(work: () => Promise<T>): Promise<T | Qcow2BenchError> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Qcow2BenchError && error.code !== '') return error;
    throw error;
  }
}

async function bounded<T>(what: string, work: () => Promise<T>): Promise<T> {
  const before = process.cpuUsage();
  const done = await ending(what, work());
  const { user, system } = process.cpuUsage(before);
  assert.ok(user + system < CPU_MAX_US, `${what} took ${String((user + system) / 1e6)} s of CPU time`);
  return done;
}

/**
 * In memory nothing waits for anything but work: what is not done after this long never will be.
 */
async function ending<T>(what: string, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const never = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} waits for something that never comes`)), STUCK_MS);
  });
  try {
    return await Promise.race([work, never]);
  } finally {
    clearTimeout(timer);
  }
}

function opensOnlyItself({ opened }: WatchedStorage): void {
  assert.deepEqual([...opened], [IMAGE], 'no other file is opened');
}

function opensOnlyItsFolder({ opened }: WatchedStorage): void {
  const others = [...opened].filter((name) => !/^vm\/(?!\.\.(\/|$))/.test(name));
  assert.deepEqual(others, [], 'no file of another folder is opened');
}

async function readAll(image: DiskImage): Promise<void> {
  const buffer = new Uint8Array(READ_BYTES_MAX);
  let left = EXTENTS_MAX;
  for await (const { start, length, zero } of tableExtents(image)) {
    assert.ok(length > 0, 'an extent has bytes');
    if (!zero) {
      await orRefused(async () => image.read(start, buffer.subarray(0, Math.min(length, READ_BYTES_MAX))));
    }
    if (--left === 0) return;
  }
}

async function useAsGuest(image: DiskImage): Promise<void> {
  const cluster = Math.min(Math.max(512, image.clusterSize), READ_BYTES_MAX);
  const buffer = new Uint8Array(cluster);
  for (const at of [0, 5, 8, 10, 30, 101]) {
    if ((at + 1) * cluster > image.virtualSize) break;
    await orRefused(async () => image.read(at * cluster, buffer));
    await orRefused(async () => image.write(at * cluster, filled(512, 3)));
  }
  if (cluster * 8 > image.virtualSize) return;
  await orRefused(async () => image.discard(0, cluster));
  await orRefused(async () => image.writeZeroes(5 * cluster, 2 * cluster, { unmap: true }));
  await orRefused(async () => image.flush('guest-flush'));
}
