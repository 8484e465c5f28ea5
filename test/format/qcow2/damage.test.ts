/**
 * Random damage of every structure: a check says what `qemu-img check` says, and what can be repaired QEMU finds clean
 * afterwards, with all guest data that could be reached.
 */

import { execFile } from 'node:child_process';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Qcow2BenchError } from '../../../src/core/error.ts';
import type { CheckReport } from '../../../src/format/check-report.ts';
import { CHECK, QemuDirectory } from '../qemu-directory.ts';
import { reasonToSkip } from '../system-tools.ts';
import { damaged } from './damage.ts';
import { openBytes } from './image-bytes.ts';

const SEEDS = 360;
/** Bytes of a repaired file that is shown to QEMU. */
const LARGEST_FILE = 64 * 1024 * 1024;
/** Programs of the system at a time. */
const WORKERS = 2;
const noQemu = reasonToSkip('qemu-img', 'qemu-io');

/** Images of every version, cluster size and refcount width; scale: KiB for each unit of the guest's writes. */
const BASES: readonly {
  readonly options: string;
  readonly scale: number;
  readonly snapshot: boolean;
  readonly bitmap?: boolean;
  readonly resized?: boolean;
}[] = [
  { options: 'compat=1.1,cluster_size=4096', scale: 4, snapshot: true },
  { options: 'compat=0.10,cluster_size=4096', scale: 4, snapshot: true },
  { options: 'compat=1.1,cluster_size=512,refcount_bits=1', scale: 1, snapshot: false },
  { options: 'compat=1.1,cluster_size=65536', scale: 16, snapshot: true },
  { options: 'compat=1.1,cluster_size=4096,refcount_bits=64', scale: 4, snapshot: false },
  { options: 'compat=1.1,cluster_size=512,refcount_bits=8', scale: 1, snapshot: true },
  { options: 'compat=1.1,cluster_size=4096,refcount_bits=2,lazy_refcounts=on', scale: 4, snapshot: false },
  { options: 'compat=0.10,cluster_size=512', scale: 1, snapshot: false },
  { options: 'compat=1.1,cluster_size=16384,extended_l2=on', scale: 16, snapshot: true },
  { options: 'compat=1.1,cluster_size=4096,compression_type=zstd', scale: 4, snapshot: true },
  { options: 'compat=1.1,cluster_size=4096,refcount_bits=32', scale: 4, snapshot: true, bitmap: true },
  { options: 'compat=1.1,cluster_size=4096', scale: 4, snapshot: true, resized: true },
];

interface Theirs {
  readonly status: number | null;
  readonly counts: Counts | undefined;
}

interface Counts {
  readonly corruptions: number;
  readonly leaks: number;
  readonly checkErrors: number;
  readonly imageEndOffset: number;
  readonly allocatedClusters: number;
  readonly fragmentedClusters: number;
  readonly compressedClusters: number;
  readonly totalClusters: number;
}

describe.skipIf(noQemu !== undefined)(`random damage${noQemu === undefined ? '' : ` (${noQemu})`}`, () => {
  const qemu = new QemuDirectory();
  const bases: Uint8Array<ArrayBuffer>[] = [];

  beforeAll(() => {
    for (const { options, scale, snapshot, bitmap, resized } of BASES) {
      const at = (unit: number): string => `${String(unit * scale)}k`;
      qemu.img('create', '-q', '-f', 'qcow2', '-o', options, 'base', `${String(2 * scale)}M`);
      const isV3 = options.includes('1.1');
      const zeroes = isV3 ? [`write -z ${at(2)} ${at(1)}`, `discard ${at(4)} ${at(1)}`] : [];
      const compressed = /cluster_size=(\d+)/.exec(options)?.[1] ?? '';
      qemu.io(
        'qcow2',
        'base',
        `write -P 1 0 ${at(12)}`,
        `write -P 2 ${at(700)} ${at(9)}`,
        `write -c -P 3 ${at(128)} ${compressed}`,
        ...zeroes,
      );
      if (snapshot) {
        qemu.img('snapshot', '-c', 'a', 'base');
        qemu.io('qcow2', 'base', `write -P 5 0 ${at(2)}`, `write -P 6 ${at(1500)} ${at(3)}`);
      }
      if (bitmap === true) {
        qemu.img('bitmap', '--add', '-f', 'qcow2', 'base', 'b');
        qemu.io('qcow2', 'base', `write -P 7 ${at(900)} ${at(3)}`);
      }
      if (resized === true) {
        qemu.img('resize', '-q', '-f', 'qcow2', 'base', `${String(3 * scale)}M`);
        qemu.img('snapshot', '-c', 'larger', 'base');
        qemu.io('qcow2', 'base', `write -P 8 ${at(2500)} ${at(3)}`);
      }
      bases.push(qemu.get('base'));
    }
  });
  afterAll(() => {
    qemu.remove();
  });

  async function theirs(name: string): Promise<Theirs> {
    const { status, stdout } = await run(
      'qemu-img',
      ['check', '-f', 'qcow2', '--output=json', name],
      qemu.path,
    );
    return { status, counts: stdout.startsWith('{') ? countsOfJson(stdout) : undefined };
  }

  async function tryDamage(seed: number, name: string): Promise<'equal' | 'stricter' | 'repaired'> {
    const base = bases[seed % bases.length] as Uint8Array<ArrayBuffer>;
    const { bytes, what } = damaged(base, seed, { header: false });
    const told = `seed ${String(seed)} (${what.join('; ')})`;
    qemu.put(name, bytes);
    const their = await theirs(name);
    let ours: CheckReport;
    try {
      const { image } = await openBytes(bytes, { readOnly: true, forCheck: true });
      ours = await image.check();
      await image.abandon();
    } catch (error) {
      // A table past the end of the file, or a broken snapshot table, is refused by name.
      if (!(error instanceof Qcow2BenchError)) throw error;
      expect(error.code, told).toMatch(/^qcow2-(table-past-end|bad-snapshot-table)$/);
      // An image of which no table is left is clean to QEMU, which reads zeroes past the end of the file.
      if (error.code !== 'qcow2-table-past-end') expect(their.status, told).not.toBe(CHECK.clean);
      return 'stricter';
    }
    expect(countsOf(ours), told).toEqual(their.counts);
    expect(exitCodeOf(ours), told).toBe(their.status);
    return (await repair({ base, bytes }, name, told)) ? 'repaired' : 'equal';
  }

  /** Whether the repair left nothing. */
  async function repair(
    { base, bytes }: { readonly base: Uint8Array; readonly bytes: Uint8Array<ArrayBuffer> },
    name: string,
    told: string,
  ): Promise<boolean> {
    const sound = await readableClusters(base);
    const before = await readableClusters(bytes);
    const { image, device } = await openBytes(bytes, { forCheck: true });
    const report = await image.check('all');
    const second = await image.check();
    if (second.corruptions > report.corruptions) {
      // A table that lies over others sees what was mended there as new damage: QEMU's own repair is no better off.
      await repairByQemu(bytes, name);
      expect((await theirs(name)).status, told).toBe(CHECK.corrupt);
    }
    const isGood = second.corruptions + second.checkErrors === 0;
    if (isGood) await image.close();
    else await image.flush('repair');
    await image.abandon();
    // A pointer far past the end makes the file as long, as with QEMU.
    if (!isGood || device.size() > LARGEST_FILE) return false;
    const after = device.contents();
    expect({ leaks: second.leaks, told }).toEqual({ leaks: 0, told });
    qemu.put(name, after);
    expect({ ...(await theirs(name)), told }).toMatchObject({ status: CHECK.clean, told });
    const kept = await readableClusters(after);
    let theirKept: ReadonlyMap<number, Uint8Array> | undefined;
    for (const [guestOffset, content] of before) {
      // Damage may show a guest metadata, or another's cluster: only what the guest wrote has to stay.
      const written = sound.get(guestOffset);
      if (written === undefined || Buffer.compare(written, content) !== 0) continue;
      if (Buffer.compare(kept.get(guestOffset) ?? new Uint8Array(), content) === 0) continue;
      // A cluster of data that a broken entry calls a table is mended as one: nothing but what QEMU loses is lost.
      theirKept ??= await keptByQemu(bytes, name);
      expect(kept.get(guestOffset), `${told}: guest data at ${String(guestOffset)}`).toEqual(
        theirKept.get(guestOffset),
      );
    }
    return true;
  }

  async function keptByQemu(
    bytes: Uint8Array<ArrayBuffer>,
    name: string,
  ): Promise<ReadonlyMap<number, Uint8Array>> {
    await repairByQemu(bytes, name);
    return readableClusters(qemu.get(name));
  }

  async function repairByQemu(bytes: Uint8Array<ArrayBuffer>, name: string): Promise<void> {
    qemu.put(name, bytes);
    await run('qemu-img', ['check', '-q', '-r', 'all', '-f', 'qcow2', name], qemu.path);
  }

  it(`is counted as QEMU counts it, and repaired so that QEMU finds it clean (${String(SEEDS)} seeds)`, async () => {
    let next = 0;
    const outcomes = { equal: 0, stricter: 0, repaired: 0 };
    const work = async (worker: number): Promise<void> => {
      while (next < SEEDS) outcomes[await tryDamage(next++, `damaged-${String(worker)}`)]++;
    };
    await Promise.all(Array.from({ length: WORKERS }, (_, worker) => work(worker)));
    // Most damage can be mended, and nearly none is refused: otherwise this would prove little.
    expect(outcomes.repaired).toBeGreaterThan(SEEDS / 3);
    expect(outcomes.stricter).toBeLessThan(SEEDS / 8);
  }, 120_000);
});

/** What can be read of the image, a cluster each; a cluster whose tables are broken cannot. */
async function readableClusters(bytes: Uint8Array): Promise<ReadonlyMap<number, Uint8Array>> {
  const { image } = await openBytes(bytes, { readOnly: true, forCheck: true });
  const readable = new Map<number, Uint8Array>();
  const fileSize = bytes.byteLength;
  for (let at = 0; at < image.virtualSize; at += image.clusterSize) {
    try {
      const { kind, hostOffset = 0 } = await image.map(at, image.clusterSize);
      if (kind === 'unallocated' || hostOffset + image.clusterSize > fileSize) continue;
      const content = new Uint8Array(image.clusterSize);
      await image.read(at, content);
      readable.set(at, content);
    } catch (error) {
      if (!(error instanceof Qcow2BenchError)) throw error;
    }
  }
  await image.abandon();
  return readable;
}

function run(
  tool: string,
  args: readonly string[],
  directory: string,
): Promise<{ readonly status: number | null; readonly stdout: string }> {
  return new Promise((resolve, reject) => {
    const options = { cwd: directory, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 } as const;
    execFile(tool, args, options, (error, stdout) => {
      if (error === null) resolve({ status: 0, stdout });
      else if (typeof error.code === 'number') resolve({ status: error.code, stdout });
      else reject(new Error(`${tool} ${join(directory, args.at(-1) ?? '')}: ${error.message}`));
    });
  });
}

function countsOfJson(text: string): Counts {
  const json = JSON.parse(text) as Record<string, number | undefined>;
  const count = (name: string): number => json[name] ?? 0;
  return {
    corruptions: count('corruptions'),
    leaks: count('leaks'),
    checkErrors: count('check-errors'),
    imageEndOffset: count('image-end-offset'),
    allocatedClusters: count('allocated-clusters'),
    fragmentedClusters: count('fragmented-clusters'),
    compressedClusters: count('compressed-clusters'),
    totalClusters: count('total-clusters'),
  };
}

function countsOf(report: CheckReport): Counts {
  const { corruptions, leaks, checkErrors, imageEndOffset, totalClusters } = report;
  const { allocatedClusters, fragmentedClusters, compressedClusters } = report;
  return {
    corruptions,
    leaks,
    checkErrors,
    imageEndOffset,
    allocatedClusters,
    fragmentedClusters,
    compressedClusters,
    totalClusters,
  };
}

function exitCodeOf({ corruptions, leaks, checkErrors }: CheckReport): number {
  if (checkErrors > 0) return CHECK.failed;
  if (corruptions > 0) return CHECK.corrupt;
  return leaks > 0 ? CHECK.leaks : CHECK.clean;
}
