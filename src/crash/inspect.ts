/**
 * A crash state as a user would find it: opened read-only, opened for writing (which repairs it),
 * checked, written to, closed, checked again. What comes of it depends on what was read alone, so
 * an outcome holds for every state that agrees there.
 *
 * Guest data are not compared here. An outcome has for each guest sector where it is; `judge` looks
 * what is there.
 */

import { SECTOR_SIZE } from '../core/alignment.ts';
import { Qcow2BenchError } from '../core/error.ts';
import { withRecycledPages } from '../core/page-memory.ts';
import { stampSectors } from '../core/sector-stamp.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { MemoryDevice } from '../device/memory-device.ts';
import { SparseBytes } from '../device/sparse-bytes.ts';
import { SyncElision } from '../device/sync-elision.ts';
import type { CheckReport, DetailSink } from '../format/check-report.ts';
import type { DiskImage, Format } from '../format/disk-image.ts';
import { FORMAT_FACTS } from '../format/formats.ts';
import { Qcow2Image } from '../format/qcow2/qcow2-image.ts';
import { openImage, withLoneFile } from '../format/registry.ts';
import { extentsOf, type Extent } from './extents.ts';
import type { Finding, FindingKind, Moment } from './findings.ts';
import { tokensOf, type PageSource } from './pages.ts';
import type { Recorder } from './recorder.ts';
import type { ImageFile, Subject } from './recording.ts';
import { ScratchFiles, StateDevice } from './state-device.ts';

/** The disk at one moment, or a snapshot. */
export interface Look {
  readonly moment: Moment;
  /** Its name. */
  readonly snapshot: string | undefined;
  readonly extents: readonly Extent[];
  /** Pages that the inspection had written by then, over those of the state. */
  readonly written: ReadonlyMap<number, Uint8Array>;
}

export interface Outcome {
  /** What is wrong whatever the guest data are. */
  readonly findings: readonly Finding[];
  readonly looks: readonly Look[];
  /** Names of the snapshots that the image lists; of moments at which they were looked at. */
  readonly snapshots: ReadonlyMap<Moment, readonly string[]>;
  /** The image was marked as not closed cleanly. */
  readonly isMarked: boolean;
  /** Bytes that opening for writing read where it repaired; 0 where it did not. */
  readonly repairBytes: number;
}

/** A write that is made to find out whether the image can still be used. */
export interface FurtherWrite {
  /** Guest sector. */
  readonly sector: number;
  readonly bytes: Uint8Array;
  readonly token: number;
}

/** What can follow a crash: opening the image for writing, which may repair it, or `check --repair all`. */
export const RECOVERIES = ['opening', 'check'] as const;
export type Recovery = (typeof RECOVERIES)[number];

/** Larger than the number of any write of a run. */
const FURTHER_WRITE = 0x7fff_fff0;
const FINDINGS_SHOWN = 4;

/** Small writes to these guest sectors. */
export function furtherWrites(sectors: readonly number[]): readonly FurtherWrite[] {
  return sectors.map((sector, index) => {
    const bytes = new Uint8Array(SECTOR_SIZE);
    stampSectors(bytes, { sector, write: FURTHER_WRITE + index });
    return { sector, bytes, token: tokensOf(bytes)[0] as number };
  });
}

type OpenFile = (name: string) => BlockDevice;

/** Inspects states of one image. */
export class Inspector {
  readonly subject: Subject;
  readonly writes: readonly FurtherWrite[];
  /** Backing files. */
  readonly #constants = new Map<string, SparseBytes>();

  constructor(subject: Subject, writes: readonly FurtherWrite[]) {
    this.subject = subject;
    this.writes = writes;
    for (const [name, bytes] of subject.constants) {
      const sparse = new SparseBytes();
      sparse.write(0, bytes);
      this.#constants.set(name, sparse);
    }
  }

  /**
   * Looks at a state.
   *
   * @param onRead gets each page of the state that the outcome depends on, and each size, as
   *   `sizeNumber` has it
   */
  async inspect(state: PageSource, onRead: (number: number) => void): Promise<Outcome> {
    const inspection = new Inspection(this, state, onRead);
    await withRecycledPages(() => inspection.run());
    return inspection;
  }

  /**
   * Does to a state what follows a crash, up to the close, and records it. An image that cannot be
   * opened or repaired is left at that.
   *
   * @returns the files afterwards
   */
  async recover(state: PageSource, recovery: Recovery, recorder?: Recorder): Promise<ScratchFiles> {
    const files = new ScratchFiles(state, () => undefined);
    const open: OpenFile = (name) => this.#device(files, name, recorder);
    try {
      if (recovery === 'opening') await (await this.#openWith(open, false)).close();
      else await this.#repair(open);
    } catch (error) {
      if (!(error instanceof Qcow2BenchError)) throw error;
    }
    return files;
  }

  async #repair(open: OpenFile): Promise<void> {
    const { format, files } = this.subject;
    const dataFile = files[1]?.name;
    const openDataFile = dataFile === undefined ? undefined : () => open(dataFile);
    const file = { device: open(files[0].name), readOnly: false, forCheck: true, openDataFile };
    await withLoneFile(format, file, async (engine, lone) => engine.check?.(lone, { repair: 'all' }));
  }

  /** Opens the image over these files. */
  open(files: ScratchFiles, readOnly: boolean): Promise<DiskImage> {
    return this.#openWith((name) => this.#device(files, name), readOnly);
  }

  #openWith(open: OpenFile, readOnly: boolean): Promise<DiskImage> {
    const { format, refcounts, caches, discard, policy, commit, unnamedFormat } = this.subject;
    return openImage({
      format,
      name: this.subject.files[0].name,
      files: { open },
      readOnly,
      refcounts,
      caches,
      discard,
      policy,
      commit,
      backing: { unnamedFormat },
    });
  }

  /** The image's own file. */
  imageDevice(files: ScratchFiles): BlockDevice {
    return this.#device(files, this.subject.files[0].name);
  }

  #device(files: ScratchFiles, name: string, recorder?: Recorder): BlockDevice {
    const index = this.subject.files.findIndex((file) => file.name === name);
    const file: ImageFile | undefined = this.subject.files[index];
    if (file !== undefined) {
      const bare = new StateDevice(files, index, file);
      const device = recorder?.device(bare, index) ?? bare;
      return new SyncElision(this.subject.deviation?.(device) ?? device);
    }
    const bytes = this.#constants.get(name);
    if (bytes === undefined) throw new Error(`internal error: a state needs the file ${name}`);
    return new MemoryDevice({ label: name, path: name, readOnly: true, bytes });
  }
}

class Inspection implements Outcome {
  readonly findings: Finding[] = [];
  readonly looks: Look[] = [];
  readonly snapshots = new Map<Moment, readonly string[]>();
  isMarked = false;
  repairBytes = 0;
  readonly #inspector: Inspector;
  readonly #before: ScratchFiles;
  readonly #after: ScratchFiles;

  constructor(inspector: Inspector, state: PageSource, onRead: (number: number) => void) {
    this.#inspector = inspector;
    this.#before = new ScratchFiles(state, onRead);
    this.#after = new ScratchFiles(state, onRead);
  }

  async run(): Promise<void> {
    const { subject } = this.#inspector;
    const isReadable = await this.#attempt('unreadable', 'before-repair', async () => {
      const image = await this.#inspector.open(this.#before, true);
      await this.#look(image, 'before-repair', this.#before);
      await this.#lookAtSnapshots(image, 'before-repair', this.#before);
      await image.abandon();
    });
    if (!isReadable) return;
    this.isMarked = isMarked(subject.format, this.#before);
    let image: DiskImage | undefined;
    await this.#attempt('not-opened-for-writing', 'after-repair', async () => {
      image = await this.#inspector.open(this.#after, false);
    });
    if (image === undefined) return;
    if (this.isMarked) this.repairBytes = this.#after.bytesRead;
    if (!(await this.#isUsable(image))) await image.abandon();
    else await this.#checkAgain();
  }

  /** Checks the open image, writes to it and closes it. */
  async #isUsable(image: DiskImage): Promise<boolean> {
    const isSound = await this.#attempt('corrupt-after-repair', 'after-repair', async () => {
      const report = await this.#check(image, 'corrupt-after-repair', 'after-repair');
      // Where no repair was due, an allocation that came to nothing is a leak. QED cannot free
      // any.
      if (this.isMarked && image.format === 'qcow2' && report !== undefined && report.leaks > 0) {
        this.#note('leaks-after-repair', 'after-repair', firstOf(report));
      }
      await this.#look(image, 'after-repair', this.#after);
    });
    if (!isSound) return false;
    return this.#attempt('write-fails', 'after-writes', async () => {
      for (const { sector, bytes } of this.#inspector.writes) await image.write(sector * SECTOR_SIZE, bytes);
      await image.flush('guest-flush');
      await image.close();
    });
  }

  async #checkAgain(): Promise<void> {
    await this.#attempt('corrupt-after-writes', 'after-writes', async () => {
      const image = await this.#inspector.open(this.#after, true);
      await this.#check(image, 'corrupt-after-writes', 'after-writes');
      await this.#look(image, 'after-writes', this.#after);
      await this.#lookAtSnapshots(image, 'after-writes', this.#after);
      await image.abandon();
      if (!isMarked(image.format, this.#after)) return;
      this.#note('corrupt-after-writes', 'after-writes', 'the image is marked as in use after a clean close');
    });
  }

  /** Checks the image; damage is a finding. */
  async #check(image: DiskImage, kind: FindingKind, moment: Moment): Promise<CheckReport | undefined> {
    const details: string[] = [];
    const onDetail: DetailSink = (_kind, text) => details.push(text);
    let report: CheckReport | undefined;
    if (image instanceof Qcow2Image) report = await image.check(undefined, { onDetail });
    else if (FORMAT_FACTS[image.format].hasCheck) report = await this.#checkFile(image.format);
    if (report === undefined || report.corruptions + report.checkErrors === 0) return report;
    const isStale = report.checkErrors === 0 && areFlagsStale(details, image.clusterSize);
    this.#note(isStale ? 'stale-copied-flags' : kind, moment, firstOf(report));
    return report;
  }

  /** What is in the file of an image that holds nothing back. */
  #checkFile(format: Format): Promise<CheckReport | undefined> {
    const device = this.#inspector.imageDevice(this.#after);
    return withLoneFile(format, { device, readOnly: true, forCheck: true }, async (engine, file) =>
      engine.check?.(file, {}),
    );
  }

  /** At those of an image that is open read-only, which shows one of them afterwards. */
  async #lookAtSnapshots(image: DiskImage, moment: Moment, files: ScratchFiles): Promise<void> {
    const { snapshots } = image;
    if (snapshots === undefined) return;
    this.snapshots.set(
      moment,
      snapshots.list.map(({ name }) => name),
    );
    for (const { name } of snapshots.list) {
      await this.#attempt('wrong-snapshot', moment, async () => {
        await snapshots.show(name);
        await this.#look(image, moment, files, name);
      });
    }
  }

  async #look(image: DiskImage, moment: Moment, files: ScratchFiles, snapshot?: string): Promise<void> {
    const extents = await extentsOf(image, this.#inspector.subject.files.length - 1);
    this.looks.push({ moment, snapshot, extents, written: files.writtenSoFar() });
  }

  /** Whether the work succeeded; where it fails, that is a finding. */
  async #attempt(kind: FindingKind, moment: Moment, work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      this.#note(kind, moment, error instanceof Error ? error.message : String(error));
      return false;
    }
  }

  #note(kind: FindingKind, moment: Moment, text: string): void {
    this.findings.push({ kind, moment, text });
  }
}

/**
 * Whether all that is corrupt are copied flags that do no harm: a flag that is missing costs a copy,
 * and one that is set is right where the refcount is too high.
 */
function areFlagsStale(details: readonly string[], clusterSize: number): boolean {
  const soleOwners = new Set<number>();
  for (const text of details) {
    const [, cluster] = /^Leaked cluster (\d+) refcount=\d+ reference=1$/.exec(text) ?? [];
    if (cluster !== undefined) soleOwners.add(Number(cluster) * clusterSize);
  }
  return details.every((text) => {
    if (!text.startsWith('ERROR')) return true;
    const [, offset, refcount] =
      /^ERROR OFLAG_COPIED .*offset=(0x[0-9a-f]+) refcount=(\d+)$/.exec(text) ?? [];
    return offset !== undefined && (refcount === '1' || soleOwners.has(Number(offset)));
  });
}

function firstOf({ messages }: CheckReport): string {
  return messages.slice(0, FINDINGS_SHOWN).join('; ');
}

/** The mark of an image that is in use. */
function isMarked(format: Format, files: ScratchFiles): boolean {
  return FORMAT_FACTS[format].isInUse?.(files.bytes(0)) ?? false;
}
