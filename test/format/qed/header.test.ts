import { describe, expect, it } from 'vitest';
import { encodeQedHeader, HEADER_SIZE } from '../../../src/format/qed/header.ts';
import { openImage } from '../../../src/format/registry.ts';
import { filled, RecordedFiles } from '../recorded-files.ts';
import { rejectionOf } from '../rejection.ts';

const CLUSTER = 65_536;

/** A good image with a backing file, as bytes, to be spoiled. */
async function goodImage(): Promise<Uint8Array<ArrayBuffer>> {
  const files = new RecordedFiles();
  await files.create('disk.qed', {
    format: 'qed',
    virtualSize: 1024 ** 3,
    backingFile: { name: 'base.raw', format: 'raw' },
  });
  return files.contents('disk.qed');
}

async function openSpoiled(bytes: Uint8Array): Promise<{ code: string; offset: unknown; message: string }> {
  const files = new RecordedFiles();
  files.put('base.raw', filled(512, 1));
  files.put('bad.qed', bytes);
  const before = files.contents('bad.qed');
  const error = await rejectionOf(() =>
    openImage({ format: 'qed', name: 'bad.qed', files, readOnly: false }),
  );
  expect(Buffer.compare(files.contents('bad.qed'), before), 'a refused image is left as it was').toBe(0);
  expect(error?.path).toBe('memory:bad.qed');
  return { code: error?.code ?? 'opened', offset: error?.offset, message: error?.message ?? '' };
}

const u32 = (value: number) => (view: DataView, at: number) => view.setUint32(at, value, true);
const u64 = (value: bigint) => (view: DataView, at: number) => view.setBigUint64(at, value, true);

describe('a hostile QED header gives the error of the field that is wrong', () => {
  it.each<[string, number, (view: DataView, at: number) => void, string]>([
    ['foreign magic', 0, u32(0xfb494651), 'qed-bad-magic'],
    ['cluster size 0', 4, u32(0), 'qed-bad-cluster-size'],
    ['cluster size below the least', 4, u32(2048), 'qed-bad-cluster-size'],
    ['cluster size no power of two', 4, u32(65_537), 'qed-bad-cluster-size'],
    ['cluster size above the largest', 4, u32(128 * 1024 * 1024), 'qed-bad-cluster-size'],
    ['cluster size 2^31', 4, u32(0x8000_0000), 'qed-bad-cluster-size'],
    ['table size 0', 8, u32(0), 'qed-bad-table-size'],
    ['table size 3', 8, u32(3), 'qed-bad-table-size'],
    ['table size 32', 8, u32(32), 'qed-bad-table-size'],
    ['table size 2^32 − 1', 8, u32(0xffff_ffff), 'qed-bad-table-size'],
    ['header size 0', 12, u32(0), 'qed-bad-header-size'],
    ['header size that overflows 32 bits', 12, u32(0x1_0000), 'qed-bad-header-size'],
    ['header size 2^32 − 1', 12, u32(0xffff_ffff), 'qed-bad-header-size'],
    ['unknown feature bit 3', 16, u32(8), 'qed-unknown-feature'],
    ['unknown feature bit 63', 16, u64(1n << 63n), 'qed-unknown-feature'],
    ['first-level table in the header', 40, u64(0n), 'qed-bad-l1-offset'],
    ['first-level table unaligned', 40, u64(65_537n), 'qed-bad-l1-offset'],
    ['first-level table partly past the end', 40, u64(BigInt(2 * CLUSTER)), 'qed-bad-l1-offset'],
    ['first-level table at 2^63', 40, u64(1n << 63n), 'qed-bad-l1-offset'],
    ['disk of part of a sector', 48, u64(1000n), 'qed-bad-image-size'],
    ['disk larger than the tables map', 48, u64((1n << 46n) + 512n), 'qed-bad-image-size'],
    ['disk of 2^63 bytes', 48, u64(1n << 63n), 'qed-bad-image-size'],
    ['backing name within the fields', 56, u32(0), 'qed-bad-backing-name'],
    ['backing name past the header', 56, u32(CLUSTER - 3), 'qed-bad-backing-name'],
    ['backing name at 2^32 − 1', 56, u32(0xffff_ffff), 'qed-bad-backing-name'],
    ['backing name of 0 bytes', 60, u32(0), 'qed-bad-backing-name'],
    ['backing name of 1,024 bytes', 60, u32(1024), 'qed-bad-backing-name'],
    ['backing name of 2^32 − 1 bytes', 60, u32(0xffff_ffff), 'qed-bad-backing-name'],
  ])('%s', async (_what, at, spoil, code) => {
    const bytes = await goodImage();
    spoil(new DataView(bytes.buffer), at);
    expect(await openSpoiled(bytes)).toMatchObject({ code, offset: at });
  });

  it.each([0, 3, 63])('a file cut off after %i bytes', async (length) => {
    const bytes = (await goodImage()).slice(0, length);
    expect(await openSpoiled(bytes)).toMatchObject({ code: 'qed-truncated', offset: 0 });
  });

  it('tables too large for memory, before memory is taken', async () => {
    const bytes = await goodImage();
    new DataView(bytes.buffer).setUint32(4, 64 * 1024 * 1024, true);
    expect(await openSpoiled(bytes)).toMatchObject({ code: 'qed-table-too-large', offset: 8 });
  });

  it('names the unknown bits in the message', async () => {
    const bytes = await goodImage();
    new DataView(bytes.buffer).setBigUint64(16, (1n << 40n) | 0x10n, true);
    expect((await openSpoiled(bytes)).message).toContain('0x10000000010');
  });
});

it('a backing name that is not UTF-8 opens the file of those bytes', async () => {
  const files = new RecordedFiles();
  const bytes = await goodImage();
  bytes[HEADER_SIZE] = 0xff;
  files.put('\udcffase.raw', filled(512, 1));
  files.put('top.qed', bytes);
  const image = await openImage({ format: 'qed', name: 'top.qed', files, readOnly: true });
  const read = new Uint8Array(1);
  await image.read(0, read);
  await image.abandon();
  expect(read[0]).toBe(1);
});

describe('feature bits', () => {
  it('unknown autoclear bits are cleared, durably, before anything else; compatible ones stay', async () => {
    const files = new RecordedFiles();
    const bytes = encodeImage();
    const view = new DataView(bytes.buffer);
    view.setBigUint64(24, 0xabn, true);
    view.setBigUint64(32, 0xcdn, true);
    files.put('disk.qed', bytes);
    const image = await openImage({ format: 'qed', name: 'disk.qed', files, readOnly: false });
    expect(files.takeChanges()).toEqual(['W header 0 64', 'F dirty-bit']);
    await image.close();
    const after = new DataView(files.contents('disk.qed').buffer);
    expect([after.getBigUint64(24, true), after.getBigUint64(32, true)]).toEqual([0xabn, 0n]);
  });

  it('a read-only opening leaves autoclear bits alone', async () => {
    const files = new RecordedFiles();
    const bytes = encodeImage();
    new DataView(bytes.buffer).setBigUint64(32, 0xcdn, true);
    files.put('disk.qed', bytes);
    const image = await openImage({ format: 'qed', name: 'disk.qed', files, readOnly: true });
    await image.close();
    expect(Buffer.compare(files.contents('disk.qed'), bytes)).toBe(0);
  });

  it('marking the image in mid-run keeps the name of the backing file', async () => {
    const files = new RecordedFiles();
    const bytes = encodeImage();
    bytes.set(new TextEncoder().encode('kept'), HEADER_SIZE);
    files.put('disk.qed', bytes);
    const image = await openImage({ format: 'qed', name: 'disk.qed', files, readOnly: false });
    await image.write(0, filled(512, 1));
    await image.close();
    const name = files.contents('disk.qed').subarray(HEADER_SIZE, HEADER_SIZE + 4);
    expect(new TextDecoder().decode(name)).toBe('kept');
  });
});

function encodeImage(): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(5 * CLUSTER);
  const geometry = { clusterSize: CLUSTER, tableClusters: 4, virtualSize: 1024 ** 2 };
  bytes.set(encodeQedHeader({ ...geometry, backing: undefined }));
  return bytes;
}
