/**
 * Who is let in beside whom, ours and QEMU's tools in both roles: whatever QEMU answers to itself
 * is the answer for every pair.
 */

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

import { openStack } from '../../src/bench/stack.ts';
import { Qcow2BenchError } from '../../src/core/error.ts';
import { loadOfdLocks } from '../../src/device/ofd-lock.ts';
import type { Format } from '../../src/format/disk-image.ts';
import { checkImageFile } from '../../src/image/check-image.ts';
import { createImageFile } from '../../src/image/create-image.ts';
import { hostImage, WRITABLE_HOST_FILES } from '../../src/image/host-image.ts';
import { readImageInfo } from '../../src/image/image-info.ts';
import { changeSnapshots } from '../../src/image/image-snapshots.ts';
import { openChain } from '../../src/image/open-chain.ts';
import { resizeImage } from '../../src/image/resize-image.ts';
import { reasonToSkip, runTool } from '../format/system-tools.ts';
import { owned } from '../owned-process.ts';
import { testDirectory } from '../test-directory.ts';
import { startQemuNbd } from './qemu-nbd.ts';

const loaded = loadOfdLocks();
const skip = loaded.ok ? reasonToSkip('qemu-img', 'qemu-io', 'qemu-nbd') : loaded.reason;
const directory = testDirectory();

interface Image {
  readonly name: string;
  readonly path: string;
  readonly format: Format;
}

const at = (name: string, format: Format): Image => ({
  name,
  path: join(directory, name),
  format,
});
const TOP = at('top.qcow2', 'qcow2');
const BASE = at('base.qcow2', 'qcow2');
const SPLIT = at('split.qcow2', 'qcow2');
const DATA = at('data.raw', 'raw');
const QED = at('disk.qed', 'qed');
const RAW = at('disk.raw', 'raw');

function makeImages(): void {
  const make = (...args: string[]): string => runTool('qemu-img', ['create', '-q', ...args], directory);
  make('-f', 'qcow2', BASE.path, '1M');
  make('-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', TOP.path);
  rmSync(DATA.path, { force: true });
  make('-f', 'qcow2', '-o', 'data_file=data.raw,data_file_raw=on', SPLIT.path, '1M');
  make('-f', 'qed', QED.path, '1M');
  make('-f', 'raw', RAW.path, '1M');
}

/** A use that lasts until it is ended. */
type Hold = (image: Image) => Promise<() => Promise<void>>;
/** One that is tried: whether it was let in. */
type Try = (image: Image) => Promise<boolean>;

/** Serves an image; `undefined` where that is refused for a lock. */
async function startNbd(
  { path, format }: Image,
  options: readonly string[],
): Promise<(() => Promise<void>) | undefined> {
  const socket = join(directory, `nbd-${String((nbdCount += 1))}.socket`);
  const started = await startQemuNbd(socket, ['-f', format, ...options, path], directory);
  if (typeof started !== 'string') return () => started.end();
  expect(started).toMatch(LOCK_REFUSED);
  return undefined;
}

let nbdCount = 0;
const LOCK_REFUSED = /Failed to get .*lock/;

const qemuNbd =
  (...options: readonly string[]): Hold =>
  async (image) => {
    const end = await startNbd(image, options);
    if (end === undefined) throw new Error('qemu-nbd is refused where nothing else is open');
    return end;
  };

const qemuServes: Try = async (image) => {
  const end = await startNbd(image, []);
  await end?.();
  return end !== undefined;
};

const qemuIoSharing: Hold = async ({ path, format }) => {
  const child = owned(
    spawn('qemu-io', ['-U', '-r', '-f', format, path], {
      cwd: directory,
      stdio: ['pipe', 'pipe', 'inherit'],
    }),
  );
  const ended = new Promise<'ended'>((resolve) => child.once('close', () => resolve('ended')));
  if ((await Promise.race([ended, once(child.stdout, 'data')])) === 'ended') throw new Error('qemu-io ended');
  return async () => {
    child.stdin.end();
    await ended;
  };
};

const served =
  (readOnly: boolean): Hold =>
  async ({ path, format }) => {
    const { storage, name } = hostImage(path);
    const stack = await openStack({ storage, imageName: name, format, cache: 'writeback', readOnly });
    return () => stack.close();
  };

const chain: Hold = async ({ path, format }) => {
  const { image } = await openChain({ path, format });
  return () => image.abandon();
};

const sharedChain: Hold = async ({ path, format }) => {
  const { image } = await openChain({ path, format, forceShare: true });
  return () => image.abandon();
};

const HOLDERS: Readonly<Record<string, { readonly qemu: Hold; readonly ours: Hold }>> = {
  writer: { qemu: qemuNbd(), ours: served(false) },
  reader: { qemu: qemuNbd('-r'), ours: served(true) },
  'shared reader': { qemu: qemuIoSharing, ours: sharedChain },
};

/** One of QEMU's tools that takes longer hangs. */
const PATIENCE_MS = 20_000;

/** @param words `FMT` and `FILE` are the image's. */
const qemu =
  (tool: 'qemu-io' | 'qemu-img', ...words: readonly string[]): Try =>
  ({ path, format }) => {
    const args = words.map((word) => ({ FMT: format, FILE: path })[word] ?? word);
    const { stdout, stderr } = spawnSync(tool, args, {
      encoding: 'utf8',
      cwd: directory,
      timeout: PATIENCE_MS,
    });
    const said = stdout + stderr;
    // An error of another kind would pass as let in.
    const isRefused = LOCK_REFUSED.test(said);
    if (!isRefused) expect(said).not.toMatch(/Could not open/);
    return Promise.resolve(!isRefused);
  };

const ours =
  (use: (image: Image) => Promise<unknown>): Try =>
  async (image) => {
    try {
      await use(image);
    } catch (error) {
      if (error instanceof Qcow2BenchError && error.code === 'image-locked') return false;
      throw error;
    }
    return true;
  };

const briefly =
  (hold: Hold) =>
  async (image: Image): Promise<void> => {
    await (
      await hold(image)
    )();
  };

interface Comer {
  readonly qemu: Try;
  readonly ours: Try;
  readonly formats: readonly Format[];
  /** Ours opens no other file of the image, and locks none. */
  readonly isAlone?: boolean;
}

const ALL: readonly Format[] = ['raw', 'qcow2', 'qed'];

const COMERS: Readonly<Record<string, Comer>> = {
  read: {
    formats: ALL,
    qemu: qemu('qemu-io', '-r', '-f', 'FMT', '-c', 'read 0 512', 'FILE'),
    ours: ours(briefly(chain)),
  },
  'shared read': {
    formats: ALL,
    qemu: qemu('qemu-img', 'map', '-U', '-f', 'FMT', 'FILE'),
    ours: ours(briefly(sharedChain)),
  },
  write: { formats: ALL, qemu: qemuServes, ours: ours(briefly(served(false))) },
  info: {
    formats: ALL,
    isAlone: true,
    qemu: qemu('qemu-img', 'info', '-f', 'FMT', 'FILE'),
    ours: ours(({ path, format }) => readImageInfo(hostImage(path), { format })),
  },
  'shared info': {
    formats: ALL,
    isAlone: true,
    qemu: qemu('qemu-img', 'info', '-U', '-f', 'FMT', 'FILE'),
    ours: ours(({ path, format }) => readImageInfo(hostImage(path), { format, forceShare: true })),
  },
  check: {
    formats: ['qcow2', 'qed'],
    isAlone: true,
    qemu: qemu('qemu-img', 'check', '-f', 'FMT', 'FILE'),
    ours: ours(({ path, format }) => checkImageFile({ ...hostImage(path), format })),
  },
  repair: {
    formats: ['qcow2', 'qed'],
    isAlone: true,
    qemu: qemu('qemu-img', 'check', '-r', 'all', '-f', 'FMT', 'FILE'),
    ours: ours(({ path, format }) => checkImageFile({ ...hostImage(path), format, repair: 'all' })),
  },
  snapshot: {
    formats: ['qcow2'],
    qemu: qemu('qemu-img', 'snapshot', '-a', 'none', 'FILE'),
    ours: ours(async ({ path }) => {
      const change = { action: 'apply', which: 'none' } as const;
      // A command that gets the lock finds no snapshot of that name.
      await changeSnapshots({ path, change }).catch((error: unknown) => {
        if (error instanceof Qcow2BenchError && error.code === 'image-locked') throw error;
      });
    }),
  },
  resize: {
    formats: ALL,
    qemu: qemu('qemu-img', 'resize', '-f', 'FMT', 'FILE', '1M'),
    ours: ours(({ path: name, format }) =>
      resizeImage({ name, format, files: WRITABLE_HOST_FILES, size: { to: 1 << 20 } }),
    ),
  },
  create: {
    formats: ALL,
    qemu: qemu('qemu-img', 'create', '-f', 'FMT', 'FILE', '1M'),
    ours: ours(({ path, format }) =>
      createImageFile({ ...hostImage(path), format, virtualSize: 1 << 20, overwrite: true }),
    ),
  },
};

/** The files that holder and comer open. */
const PLACES: readonly { readonly held: Image; readonly tried: Image }[] = [
  ...[TOP, SPLIT, QED, RAW].map((image) => ({ held: image, tried: image })),
  { held: TOP, tried: BASE },
  { held: BASE, tried: TOP },
  { held: SPLIT, tried: DATA },
  { held: DATA, tried: SPLIT },
];

const CASES = PLACES.flatMap(({ held, tried }) =>
  Object.entries(HOLDERS).map(([holder, holds]) => ({ held, tried, holder, holds })),
);

describe.skipIf(skip !== undefined)(`locks beside QEMU${skip === undefined ? '' : ` (${skip})`}`, () => {
  test.each(CASES)('$holder of $held.name, others of $tried.name', async ({ held, tried, holds }) => {
    const answers = new Map<string, boolean>();
    for (const side of ['qemu', 'ours'] as const) {
      makeImages();
      const end = await holds[side](held);
      try {
        for (const [name, comer] of Object.entries(COMERS)) {
          if (!comer.formats.includes(tried.format)) continue;
          const isApart = comer.isAlone === true && held !== tried && (held === BASE || held === DATA);
          const wanted = side === 'qemu' ? await comer.qemu(tried) : answers.get(name);
          if (side === 'qemu') answers.set(name, wanted === true);
          else expect(await comer.qemu(tried), `QEMU's ${name} beside ours`).toBe(wanted);
          if (name === 'create' && wanted === true) continue;
          const own = await comer.ours(tried);
          expect(own, `our ${name} beside ${side}`).toBe(isApart ? true : wanted);
        }
      } finally {
        await end();
      }
    }
    expect(answers.size).toBeGreaterThan(0);
  });
});
