/**
 * A broken image under our engine, in memory, and beside it under a real QEMU where that is
 * installed: what opened, what was refused, what a check said, and the bytes that each left. Both
 * must agree; the answer is what ours did.
 *
 * QEMU's tools open images as their defaults are: cache=writeback, overlap-check=cached,
 * discard=unmap.
 */

import { expect } from 'vitest';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { MemoryStorage } from '../../src/device/memory-storage.ts';
import { SyncElision } from '../../src/device/sync-elision.ts';
import type { CheckReport, RepairScope } from '../../src/format/check-report.ts';
import type { DiskImage } from '../../src/format/disk-image.ts';
import { openQcow2 } from '../../src/format/qcow2/open.ts';
import { openQed } from '../../src/format/qed/open.ts';
import { checkImageFile } from '../../src/image/check-image.ts';
import { expectSameBytes } from './expect-same.ts';
import { checkedAs, countsOfJson } from './qcow2/qemu-checks.ts';
import { CHECK, QemuDirectory } from './qemu-directory.ts';
import { filled } from './recorded-files.ts';
import { rejectionCodeOf } from './rejection.ts';
import { ioWords, reasonToSkip, tryTool } from './system-tools.ts';

/** One request of a guest; bytes. `value` fills a write, and is what a read must find. */
export interface Ask {
  readonly op: 'read' | 'write' | 'write-compressed' | 'write-zeroes' | 'discard';
  readonly offset: number;
  readonly length: number;
  readonly value?: number;
}

export interface Served {
  /** The code of the error of opening; then nothing was served. */
  readonly refused: string | undefined;
  /**
   * For each request the code of its error, or `undefined`; `wrong-data` for a read that found
   * other bytes.
   */
  readonly codes: readonly (string | undefined)[];
  readonly bytes: Buffer;
  /** What was read of the file. */
  readonly bytesRead: number;
}

export interface Checked {
  /** As of `qemu-img check`; 1 with `refused` if the image cannot be opened. */
  readonly exitCode: number;
  readonly refused: string | undefined;
  readonly report: CheckReport | undefined;
  readonly bytes: Buffer;
}

type Format = 'qcow2' | 'qed';

export class BesideQemu {
  readonly #format: Format;
  readonly #qemu: QemuDirectory | undefined;

  constructor(format: Format) {
    this.#format = format;
    const skip = reasonToSkip('qemu-img', 'qemu-io');
    if (skip === undefined) this.#qemu = new QemuDirectory();
    else process.stderr.write(`broken ${format} images are not shown to QEMU: ${skip}\n`);
  }

  /** Opens the image, serves what is asked, and closes it. */
  async serve(
    bytes: Uint8Array,
    asks: readonly Ask[],
    options: { readonly readOnly?: boolean } = {},
  ): Promise<Served> {
    const { readOnly = false } = options;
    const served = await this.#serveOurs(bytes, asks, readOnly);
    if (this.#qemu === undefined) return served;
    this.#qemu.put('disk', bytes);
    const words = ioWords(asks.map(qemuCommand), 'disk', this.#format);
    const theirs = tryTool('qemu-io', [...(readOnly ? ['-r'] : []), ...words], this.#qemu.path);
    const said = `${theirs.stdout}${theirs.stderr}`;
    const isRefused = said.includes("can't open");
    expect(isRefused ? 'refused' : 'opened', said).toBe(served.refused === undefined ? 'opened' : 'refused');
    if (!isRefused) {
      const ours = served.codes.map((code) => (code === undefined ? 'good' : 'failed'));
      expect(ours, said).toEqual(outcomesOf(theirs.stdout));
    }
    expectSameBytes(served.bytes, this.#qemu.get('disk'));
    return served;
  }

  /** Makes the disk smaller; answers the code of the error. */
  async shrink(bytes: Uint8Array, virtualSize: number): Promise<Pick<Served, 'refused' | 'bytes'>> {
    const storage = storageWith(bytes);
    const image = await openQcow2({
      ...OPEN,
      device: new SyncElision(storage.open('disk')),
      readOnly: false,
    });
    const refused = await rejectionCodeOf(() => image.resize(virtualSize));
    await image.close();
    const shrunk = { refused, bytes: contentsOf(storage) };
    this.onlyQemu(bytes, (qemu) => {
      const resize = () => qemu.img('resize', '-q', '--shrink', '-f', 'qcow2', 'disk', String(virtualSize));
      if (refused === undefined) resize();
      else expect(resize).toThrow('Failed to discard unused refblocks');
      expectSameBytes(shrunk.bytes, qemu.get('disk'));
    });
    return shrunk;
  }

  /** Checks the image, and repairs it within the scope if one is given. */
  async check(bytes: Uint8Array, repair?: RepairScope): Promise<Checked> {
    const checked = await this.#checkOurs(bytes, repair);
    if (this.#qemu === undefined) return checked;
    this.#qemu.put('disk', bytes);
    const words = repair === undefined ? [] : ['-r', repair];
    const { status, output } = this.#qemu.check(this.#format, 'disk', '--output=json', ...words);
    expect(checked.exitCode, output).toBe(status);
    if (output.includes('{') && checked.report !== undefined) {
      const theirs = countsOfJson(output.slice(output.indexOf('{'), output.lastIndexOf('}') + 1));
      expect(checkedAs(checked.report).counts, output).toEqual(theirs);
    }
    expectSameBytes(checked.bytes, this.#qemu.get('disk'));
    return checked;
  }

  /** The image is repaired, and then found clean. */
  async repair(bytes: Uint8Array): Promise<Checked> {
    const repaired = await this.check(bytes, 'all');
    expect(repaired.exitCode).toBe(CHECK.clean);
    expect((await this.check(repaired.bytes)).exitCode).toBe(CHECK.clean);
    return repaired;
  }

  /** What QEMU alone does with a file of these bytes; nothing where it is not installed. */
  onlyQemu(bytes: Uint8Array, use: (qemu: QemuDirectory) => void): void {
    if (this.#qemu === undefined) return;
    this.#qemu.put('disk', bytes);
    use(this.#qemu);
  }

  async #serveOurs(bytes: Uint8Array, asks: readonly Ask[], readOnly: boolean): Promise<Served> {
    const storage = storageWith(bytes);
    let bytesRead = 0;
    const device = storage.open('disk', { readOnly });
    const count = device.read.bind(device);
    device.read = (offset, target, purpose) => {
      bytesRead += target.byteLength;
      count(offset, target, purpose);
    };
    const opened: DiskImage[] = [];
    const refused = await rejectionCodeOf(async () => {
      opened.push(await open(this.#format, new SyncElision(device), readOnly));
    });
    const codes: (string | undefined)[] = [];
    for (const image of opened) {
      for (const ask of asks) codes.push(await serveOne(image, ask));
      await image.close();
    }
    return { refused, codes, bytes: contentsOf(storage), bytesRead };
  }

  async #checkOurs(bytes: Uint8Array, repair: RepairScope | undefined): Promise<Checked> {
    const storage = storageWith(bytes);
    let report: CheckReport | undefined;
    const refused = await rejectionCodeOf(async () => {
      report = (await checkImageFile({ storage, name: 'disk', format: this.#format, repair })).report;
    });
    const exitCode = report === undefined ? CHECK.failed : checkedAs(report).status;
    return { exitCode, refused, report, bytes: contentsOf(storage) };
  }
}

/** The code of a request's error. */
async function serveOne(image: DiskImage, ask: Ask): Promise<string | undefined> {
  const { op, offset, length, value = 0 } = ask;
  const target = new Uint8Array(op === 'read' ? length : 0);
  const code = await rejectionCodeOf(async () => {
    switch (op) {
      case 'write':
        return await image.write(offset, filled(length, value));
      case 'write-compressed':
        return await image.writeCompressed?.(offset, filled(length, value));
      case 'write-zeroes':
        return await image.writeZeroes(offset, length, { unmap: false });
      case 'discard':
        return await image.discard(offset, length);
      case 'read':
        return await image.read(offset, target);
    }
  });
  if (code === undefined && target.some((byte) => byte !== value)) return 'wrong-data';
  return code;
}

function qemuCommand({ op, offset, length, value = 0 }: Ask): string {
  const range = `${String(offset)} ${String(length)}`;
  switch (op) {
    case 'read':
    case 'write':
      return `${op} -P ${String(value)} ${range}`;
    case 'write-compressed':
      return `write -c -P ${String(value)} ${range}`;
    case 'write-zeroes':
      return `write -z ${range}`;
    case 'discard':
      return `discard ${range}`;
  }
}

/**
 * Of each command of qemu-io, in order, from what it prints; a read of other bytes says so before
 * it says that it read.
 */
function outcomesOf(stdout: string): readonly string[] {
  const outcomes: string[] = [];
  let isWrong = false;
  for (const line of stdout.split('\n')) {
    if (line.startsWith('Pattern verification failed')) isWrong = true;
    else if (/^\w+ failed: /.test(line)) outcomes.push('failed');
    else if (/^(?:wrote|read|discard) \d+\/\d+ bytes/.test(line)) {
      outcomes.push(isWrong ? 'failed' : 'good');
      isWrong = false;
    }
  }
  return outcomes;
}

const OPEN = {
  readPurpose: 'data',
  openBacking: () => Promise.reject(new Error('test bug: there is no backing file')),
} as const;

function open(format: Format, device: BlockDevice, readOnly: boolean): Promise<DiskImage> {
  const options = { ...OPEN, device, readOnly };
  return format === 'qcow2' ? openQcow2(options) : openQed(options);
}

function storageWith(bytes: Uint8Array): MemoryStorage {
  const storage = new MemoryStorage();
  storage.create('disk').write(0, bytes, 'data');
  return storage;
}

function contentsOf(storage: MemoryStorage): Buffer {
  return Buffer.from(storage.open('disk').contents());
}
