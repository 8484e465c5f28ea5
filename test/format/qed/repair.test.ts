import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openImage } from '../../../src/format/registry.ts';
import { testDirectory } from '../../test-directory.ts';
import { filled, RecordedFiles } from '../recorded-files.ts';
import { rejectionCodeOf } from '../rejection.ts';
import { reasonToSkip, runTool } from '../system-tools.ts';

const CLUSTER = 65_536;
const L1 = CLUSTER;
/**
 * Data of the first write is behind the header and the first level; the table it needs, behind it.
 */
const FIRST_DATA = 5 * CLUSTER;
const FIRST_L2 = 6 * CLUSTER;
const skip = reasonToSkip('qemu-img');

/** Two written clusters and no clean close. */
async function crashed(): Promise<RecordedFiles> {
  const files = new RecordedFiles();
  await files.create('disk.qed', { format: 'qed', virtualSize: 1024 ** 3 });
  const image = await openImage({ format: 'qed', name: 'disk.qed', files, readOnly: false });
  await image.write(0, filled(CLUSTER, 1));
  await image.write(4 * CLUSTER, filled(4096, 2));
  await image.abandon();
  files.operations.length = 0;
  return files;
}

function spoil(files: RecordedFiles, at: number, value: bigint): void {
  const bytes = files.contents('disk.qed');
  new DataView(bytes.buffer).setBigUint64(at, value, true);
  files.put('disk.qed', bytes);
}

function features(files: RecordedFiles): number {
  return new DataView(files.contents('disk.qed').buffer).getUint32(16, true);
}

const openForWriting = (files: RecordedFiles) =>
  openImage({ format: 'qed', name: 'disk.qed', files, readOnly: false });

describe('opening an image that was not closed', () => {
  it('scans the tables, finds all in order and clears the mark', async () => {
    const files = await crashed();
    expect(features(files)).toBe(2);
    const image = await openForWriting(files);
    expect(files.operations.map(({ op }) => op)).toEqual(['read', 'read', 'read', 'write']);
    expect(files.takeChanges()).toEqual(['W header 0 64']);
    expect(features(files)).toBe(0);
    const target = new Uint8Array(CLUSTER);
    await image.read(0, target);
    expect(target).toEqual(filled(CLUSTER, 1));
    await image.close();
  });

  it.each([
    ['past the end', 1n << 40n],
    ['unaligned', BigInt(FIRST_DATA + 512)],
    ['in the header', 0n + 512n],
    ['2^53 and more', 1n << 60n],
  ])('makes a data entry that leads %s unallocated, durably before the mark goes', async (_what, value) => {
    const files = await crashed();
    spoil(files, FIRST_L2 + 8 * 4, value);
    const image = await openForWriting(files);
    expect(files.takeChanges()).toEqual(['W l2-table 393216 262144', 'F repair', 'W header 0 64']);
    const target = filled(CLUSTER, 9);
    await image.read(4 * CLUSTER, target);
    expect(target).toEqual(filled(CLUSTER, 0));
    await image.read(0, target);
    expect(target, 'what was in order stays').toEqual(filled(CLUSTER, 1));
    await image.close();
  });

  it('makes a table entry that leads nowhere empty', async () => {
    const files = await crashed();
    spoil(files, L1 + 8 * 7, 1n << 40n);
    await (await openForWriting(files)).close();
    expect(files.takeChanges()).toEqual(['W l1-table 65536 262144', 'F repair', 'W header 0 64', 'F close']);
  });

  it('refuses an image in which two entries claim one cluster, and leaves the mark', async () => {
    const files = await crashed();
    spoil(files, FIRST_L2 + 8 * 9, BigInt(FIRST_DATA));
    expect(await rejectionCodeOf(() => openForWriting(files))).toBe('qed-cross-linked');
    expect(features(files)).toBe(2);
  });

  it('refuses a table that is its own data, and one table in two places', async () => {
    for (const [at, value] of [
      [FIRST_L2, FIRST_L2],
      [FIRST_L2, L1],
      [L1 + 8, FIRST_L2],
      [L1 + 8, L1],
    ] as const) {
      const files = await crashed();
      spoil(files, at, BigInt(value));
      expect(await rejectionCodeOf(() => openForWriting(files))).toBe('qed-cross-linked');
    }
  });

  it('changes nothing when opened read-only, and still reads what is in order', async () => {
    const files = await crashed();
    const image = await openImage({ format: 'qed', name: 'disk.qed', files, readOnly: true });
    const target = new Uint8Array(CLUSTER);
    await image.read(0, target);
    expect(target).toEqual(filled(CLUSTER, 1));
    await image.close();
    expect(files.takeChanges()).toEqual([]);
    expect(features(files)).toBe(2);
  });

  it('keeps the mark when opened for a check', async () => {
    const files = await crashed();
    const image = await openImage({
      format: 'qed',
      name: 'disk.qed',
      files,
      readOnly: false,
      forCheck: true,
    });
    await image.close();
    expect(features(files)).toBe(2);
  });

  it('takes the part of a cluster that a crash left at the end for new data', async () => {
    const files = await crashed();
    const bytes = files.contents('disk.qed');
    files.put('disk.qed', new Uint8Array([...bytes, ...filled(1000, 5)]));
    const image = await openForWriting(files);
    await image.write(20 * CLUSTER, filled(CLUSTER, 3));
    expect(files.takeChanges()).toContain(`W data ${String(bytes.byteLength)} ${String(CLUSTER)}`);
    await image.close();
  });
});

describe('without the mark, an entry that leads nowhere is an error, never a wild read', () => {
  it.each([
    ['qed-bad-cluster-offset', FIRST_L2, 1n << 40n, 0],
    ['qed-bad-cluster-offset', FIRST_L2, 1n << 60n, 0],
    ['qed-bad-cluster-offset', FIRST_L2, 513n, 0],
    ['qed-bad-table-offset', L1 + 8, 1n << 40n, 2 ** 31],
    ['qed-bad-table-offset', L1 + 8, 1n, 2 ** 31],
    // A cluster within the file, but the table's other clusters would not be.
    ['qed-bad-table-offset', L1 + 8, BigInt(FIRST_L2 + 3 * CLUSTER), 2 ** 31],
  ])('%s at %i', async (code, at, value, guestOffset) => {
    const files = new RecordedFiles();
    await files.create('disk.qed', { format: 'qed', virtualSize: 4 * 1024 ** 3 });
    const writer = await openForWriting(files);
    await writer.write(0, filled(CLUSTER, 1));
    await writer.close();
    spoil(files, at, value);
    const image = await openForWriting(files);
    expect(await rejectionCodeOf(() => image.read(guestOffset, new Uint8Array(512)))).toBe(code);
    expect(await rejectionCodeOf(() => image.write(guestOffset, new Uint8Array(512)))).toBe(code);
    await image.close();
  });

  it('a run of data is not followed past the end of the file', async () => {
    const files = new RecordedFiles();
    await files.create('disk.qed', { format: 'qed', virtualSize: 1024 ** 3 });
    const writer = await openForWriting(files);
    await writer.write(0, filled(CLUSTER, 1));
    await writer.write(CLUSTER, filled(CLUSTER, 1));
    await writer.close();
    const end = files.contents('disk.qed').byteLength;
    spoil(files, FIRST_L2 + 8, BigInt(end - CLUSTER));
    spoil(files, FIRST_L2 + 16, BigInt(end));
    const image = await openForWriting(files);
    const write = () => image.write(CLUSTER, filled(2 * CLUSTER, 2));
    expect(await rejectionCodeOf(write)).toBe('qed-bad-cluster-offset');
    expect(files.contents('disk.qed').byteLength).toBe(end);
    await image.close();
  });
});

describe.skipIf(skip !== undefined)(`qemu-img agrees${skip === undefined ? '' : ` (${skip})`}`, () => {
  it('finds nothing wrong with a repaired image', async () => {
    const files = await crashed();
    spoil(files, FIRST_L2 + 8 * 9, 1n << 40n);
    spoil(files, L1 + 8 * 7, 1n << 40n);
    await (await openForWriting(files)).close();
    const directory = testDirectory();
    writeFileSync(join(directory, 'disk.qed'), files.contents('disk.qed'));
    const report = runTool('qemu-img', ['check', '-f', 'qed', 'disk.qed'], directory);
    expect(report).toContain('No errors were found');
  });
});
