/**
 * The named hazards of docs/durability.md on QEMU itself: the order of its operations leaves the
 * gap, and a file that QEMU wrote, without what a power loss may take of it, shows the damage to
 * QEMU.
 */

import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import type { Format } from '../../src/format/disk-image.ts';
import type { HostOperation } from '../../src/peer/host-operation.ts';
import { runQemuIo, type QemuIoOptions, type QemuIoRequest } from '../../src/peer/qemu-io.ts';
import { crashQemuIo, ioWords, reasonToSkip, runTool, tryTool } from '../format/system-tools.ts';
import { ask } from '../parity/qemu-cases.ts';
import { testDirectory } from '../test-directory.ts';

const CLUSTER = 65_536;
const MIB = 1024 * 1024;
/** As a virtual machine may have it; qemu-io's own cache mode is writethrough. */
const OPTIONS = ['-t', 'writeback', '-d', 'unmap'];
const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');

class Scene {
  readonly path = join(testDirectory(), 'disk');
  /** Undefined if guest data are in the image. */
  readonly dataPath: string | undefined;
  readonly #format: Format;

  constructor(
    format: Format,
    { lazy = false, dataFile = false }: { readonly lazy?: boolean; readonly dataFile?: boolean } = {},
  ) {
    this.#format = format;
    if (dataFile) this.dataPath = `${this.path}.data`;
    const options = [
      ...(lazy ? ['lazy_refcounts=on'] : []),
      ...(this.dataPath === undefined ? [] : [`data_file=${this.dataPath}`]),
    ].flatMap((option) => ['-o', option]);
    runTool('qemu-img', ['create', '-q', '-f', format, ...options, this.path, '16M']);
  }

  /** Serves commands and ends as a kill does. */
  crash(...commands: readonly string[]): Buffer {
    crashQemuIo(commands, this.path, { format: this.#format, options: OPTIONS });
    return readFileSync(this.path);
  }

  /** Throws unless reads find what they are to find. */
  io(...commands: readonly string[]): void {
    runTool('qemu-io', [
      ...(commands.every(isRead) ? ['-r'] : []),
      ...ioWords(commands, this.path, this.#format),
    ]);
  }

  /** Host operations of the last request, served from here. */
  async lastOperations(...requests: readonly QemuIoRequest[]): Promise<readonly HostOperation[]> {
    const copy = `${this.path}-traced`;
    copyFileSync(this.path, copy);
    const run = { path: copy, format: this.#format, cache: 'writeback', requests } as const;
    const operations = await runQemuIo({ ...run, ...this.#copiedData(`${copy}.data`) });
    return operations.filter(({ request }) => request === requests.length - 1);
  }

  #copiedData(copy: string): Pick<QemuIoOptions, 'files' | 'imageOptions'> {
    if (this.dataPath === undefined) return {};
    copyFileSync(this.dataPath, copy);
    return {
      files: { data: copy },
      imageOptions: { 'data-file.driver': 'file', 'data-file.filename': copy },
    };
  }

  /** Host offset of a guest offset. */
  placeOf(guestOffset: number): number {
    const map = runTool('qemu-img', ['map', '-U', '--output=json', '-f', this.#format, this.path]);
    const extents = JSON.parse(map) as { start: number; length: number; offset?: number }[];
    const found = extents.find(({ start, length }) => start <= guestOffset && guestOffset < start + length);
    if (found?.offset === undefined) throw new Error(`no place for ${String(guestOffset)}: ${map}`);
    return found.offset + guestOffset - found.start;
  }
}

function isRead(command: string): boolean {
  return command.startsWith('read');
}

function isSync({ op }: HostOperation): boolean {
  return op === 'sync';
}

describe.skipIf(skip !== undefined)(`on QEMU${skip === undefined ? '' : ` (${skip})`}`, () => {
  test('early-reuse: after a plain kill, lazy refcounts show flushed data of another place; eager ones do not', () => {
    const requests = ['write -P 1 0 64k', 'flush', 'write -zu 0 64k', 'write -P 2 1M 64k'];
    const lazy = new Scene('qcow2', { lazy: true });
    lazy.crash(...requests);
    lazy.io('read -P 2 0 64k');
    const eager = new Scene('qcow2');
    eager.crash(...requests);
    eager.io('read -P 0 0 64k');
  });

  test('unordered-zero-fill: lazy refcounts sync nothing between the zeroes around a write and its L2 entry', async () => {
    for (const isLazy of [true, false]) {
      const scene = new Scene('qcow2', { lazy: isLazy });
      scene.io('write -P 1 0 64k');
      const before = readFileSync(scene.path);
      const zero = { ...ask.zero(0, CLUSTER), unmap: true };
      const operations = await scene.lastOperations(zero, ask.write(MIB, 4096), ask.flush());
      const firstSync = operations.findIndex(isSync);
      const tables = operations.findLastIndex(({ op, length }) => op === 'write' && length === CLUSTER);
      // Eager refcounts are made durable first, and the data with them.
      expect({ isLazy, isOrdered: firstSync < tables }).toEqual({ isLazy, isOrdered: !isLazy });
      if (!isLazy) continue;

      const place = scene.placeOf(0);
      const after = scene.crash('write -zu 0 64k', 'write -P 2 1M 4k', 'flush');
      expect(scene.placeOf(MIB)).toBe(place);
      // What is lost: the hole of the zero-write, and the zeroes behind the 4 KiB.
      before.copy(after, place + 4096, place + 4096, place + CLUSTER);
      writeFileSync(scene.path, after);
      scene.io('read -P 2 1M 4k', `read -P 1 ${String(MIB + 4096)} 60k`);
    }
  });

  test('stale-copied-flags: refcounts reach the file before the flags that go with them', () => {
    const scene = new Scene('qcow2');
    scene.io('write -P 1 0 64k');
    const before = readFileSync(scene.path);
    runTool('qemu-img', ['snapshot', '-c', 'a', scene.path]);
    const after = readFileSync(scene.path);
    // What is there of the snapshot: the refcount block alone.
    const table = Number(before.readBigUInt64BE(48));
    const block = Number(before.readBigUInt64BE(table));
    after.copy(before, block, block, block + CLUSTER);
    writeFileSync(scene.path, before);
    const { status, stdout, stderr } = tryTool('qemu-img', ['check', scene.path]);
    expect({ status, flags: (stdout + stderr).includes('OFLAG_COPIED') }).toEqual({ status: 2, flags: true });
    scene.io('read -P 1 0 64k');
    runTool('qemu-img', ['check', '-q', '-r', 'all', scene.path]);
    runTool('qemu-img', ['check', '-q', scene.path]);
    scene.io('read -P 1 0 64k');
  });

  test('unordered-zero-fill: a data file is synced behind the L2 entry; zeroes that were flushed come undone', async () => {
    const scene = new Scene('qcow2', { dataFile: true });
    scene.io('write -P 1 0 64k', 'write -z 0 64k');
    const before = readFileSync(scene.dataPath ?? '');
    const operations = await scene.lastOperations(ask.write(0, 4096), ask.flush());
    const entry = operations.findIndex(({ op, file }) => op === 'write' && file === 'image');
    const sync = operations.findIndex((each) => isSync(each) && each.file === 'data');
    expect(entry).toBeGreaterThanOrEqual(0);
    expect(sync).toBeGreaterThan(entry);

    scene.crash('write -P 2 0 4k', 'flush');
    const after = readFileSync(scene.dataPath ?? '');
    // What is lost: the zeroes behind the 4 KiB.
    before.copy(after, 4096, 4096, CLUSTER);
    writeFileSync(scene.dataPath ?? '', after);
    scene.io('read -P 2 0 4k', 'read -P 1 4k 60k');
  });

  test('qed-need-check: no sync between the mark and the first link; a later write then goes to two places', async () => {
    const scene = new Scene('qed');
    // The L2 table is there: a new one is synced before it is linked.
    scene.io('write -P 7 8M 64k');
    const before = readFileSync(scene.path);
    const operations = await scene.lastOperations(ask.write(0, CLUSTER));
    const writes = operations.filter(({ op }) => op === 'write');
    expect(writes.length).toBeGreaterThan(2);
    const link = operations.findLastIndex(({ op }) => op === 'write');
    expect(operations.slice(0, link).some(isSync)).toBe(false);

    const after = scene.crash('write -P 1 0 64k');
    const place = scene.placeOf(0);
    // What is lost: the mark in the header, and the data at the end of the file.
    before.copy(after, 0, 0, 4096);
    writeFileSync(scene.path, after.subarray(0, place));
    scene.io('write -P 9 1M 64k');
    scene.io('read -P 9 1M 64k', 'read -P 9 0 64k');
  });
});
