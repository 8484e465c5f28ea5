import { describe, expect, it } from 'vitest';
import { serializeHeader } from '../../../src/format/qcow2/on-disk/header-writer.ts';
import { parseHeader } from '../../../src/format/qcow2/on-disk/header.ts';
import { QemuDirectory } from '../qemu-directory.ts';
import { reasonToSkip } from '../system-tools.ts';
import { newImage, openBytes, patched } from './image-bytes.ts';

const skip = reasonToSkip('qemu-img');
const PATH = 'disk.qcow2';
/** Where extensions begin in a version 3 header as QEMU writes it. */
const EXTENSIONS = 112;
const UNKNOWN_TYPE = 0x1234_5678;

function headerCluster(bytes: Uint8Array): Uint8Array {
  return bytes.subarray(0, 2 ** new DataView(bytes.buffer).getUint32(20));
}

/**
 * The header cluster with one more extension in front, and the backing file's name moved behind it.
 */
function withExtension(bytes: Uint8Array, type: number, text: string): Uint8Array<ArrayBuffer> {
  const data = Buffer.from(text);
  const length = 8 + Math.ceil(data.byteLength / 8) * 8;
  const copy = bytes.slice();
  copy.copyWithin(EXTENSIONS + length, EXTENSIONS, 4096 - length);
  copy.fill(0, EXTENSIONS, EXTENSIONS + length);
  copy.set(data, EXTENSIONS + 8);
  const view = new DataView(copy.buffer);
  view.setUint32(EXTENSIONS, type);
  view.setUint32(EXTENSIONS + 4, data.byteLength);
  const nameOffset = view.getBigUint64(8);
  if (nameOffset > 0n) view.setBigUint64(8, nameOffset + BigInt(length));
  return copy;
}

/** The header cluster with a header that is 16 bytes longer than any that is known. */
function withUnknownFields(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const copy = bytes.slice();
  copy.copyWithin(EXTENSIONS + 16, EXTENSIONS, 4096 - 16);
  copy.fill(0xc3, EXTENSIONS, EXTENSIONS + 16);
  const view = new DataView(copy.buffer);
  view.setUint32(100, EXTENSIONS + 16);
  const nameOffset = view.getBigUint64(8);
  if (nameOffset > 0n) view.setBigUint64(8, nameOffset + 16n);
  return copy;
}

describe.skipIf(skip !== undefined)('headers that QEMU made', () => {
  const qemu = new QemuDirectory();
  const create = (settings: string, ...more: readonly string[]): Uint8Array<ArrayBuffer> => {
    qemu.img('create', '-q', '-f', 'qcow2', '-o', settings, ...more, PATH, '3M');
    return qemu.get(PATH);
  };

  const sizes = [512, 4096, 65_536, 2_097_152];
  const kinds = [
    ...sizes.map((size) => `compat=0.10,cluster_size=${String(size)}`),
    ...sizes.map((size) => `compat=1.1,cluster_size=${String(size)},lazy_refcounts=on`),
    ...[1, 2, 4, 8, 16, 32, 64].map((bits) => `refcount_bits=${String(bits)}`),
  ];
  for (const kind of kinds) {
    it(`come back byte for byte from values: ${kind}`, () => {
      for (const backing of [[], ['-u', '-b', 'other.raw', '-F', 'raw']]) {
        const bytes = create(kind, ...backing);
        const header = parseHeader(headerCluster(bytes), PATH);
        expect(header.backingFile).toBe(backing.length > 0 ? 'other.raw' : undefined);
        expect(header.backingFormat).toBe(backing.length > 0 ? 'raw' : undefined);
        expect(header.virtualSize).toBe(3 * 1024 * 1024);
        expect(Buffer.compare(serializeHeader(header, PATH), headerCluster(bytes))).toBe(0);
      }
    });
  }

  it('with unknown extensions and fields are rewritten as QEMU rewrites them', async () => {
    const original = create('compat=1.1', '-u', '-b', 'other.raw', '-F', 'raw');
    const strange = withUnknownFields(withExtension(original, UNKNOWN_TYPE, 'kept as it is'));
    qemu.put('other.raw', new Uint8Array(512));
    qemu.put(PATH, strange);
    qemu.img('amend', '-f', 'qcow2', '-o', 'lazy_refcounts=on', PATH);

    const header = parseHeader(headerCluster(strange), PATH);
    expect(header.unknownFields).toEqual(new Uint8Array(16).fill(0xc3));
    expect(header.otherExtensions).toEqual([
      { type: UNKNOWN_TYPE, data: new Uint8Array(Buffer.from('kept as it is')) },
    ]);
    const rewritten = serializeHeader({ ...header, compatible: 1n }, PATH);
    expect(Buffer.compare(rewritten, headerCluster(qemu.get(PATH)))).toBe(0);
  });
});

describe('what is unknown in a header', () => {
  it('survives a run that rewrites it', async () => {
    const created = await newImage({ virtualSize: 1024 * 1024, refcounts: 'lazy' });
    const strange = withUnknownFields(withExtension(created, UNKNOWN_TYPE, 'kept'));
    const { image, device, log } = await openBytes(strange);
    await image.write(0, new Uint8Array(4096).fill(1));
    await image.close();
    // Marking the image clean wrote the whole header cluster.
    const rewrites = log.entries.filter((entry) => entry.op === 'write' && entry.offset === 0);
    expect(rewrites.map((entry) => entry.op === 'write' && entry.bytes.byteLength)).toEqual([65_536]);
    const header = parseHeader(device.contents().subarray(0, 65_536), PATH);
    expect(header.otherExtensions.map(({ type }) => type)).toEqual([UNKNOWN_TYPE]);
    expect(header.unknownFields).toEqual(new Uint8Array(16).fill(0xc3));
  });

  it('of compatible features is kept, of autoclear features is cleared before the first write', async () => {
    const created = await newImage({ virtualSize: 1024 * 1024 });
    const strange = patched(
      created,
      { at: 80, u64: 0x8000_0000_0000_0010n },
      { at: 88, u64: 0x4000_0000_0000_0004n },
    );
    const readOnly = await openBytes(strange, { readOnly: true });
    await readOnly.image.close();
    expect(readOnly.log.entries).toEqual([]);

    const { image, device, log } = await openBytes(strange);
    expect(log.entries[0]).toMatchObject({ op: 'write', purpose: 'header' });
    await image.close();
    const view = new DataView(device.contents().buffer);
    expect(view.getBigUint64(80)).toBe(0x8000_0000_0000_0010n);
    expect(view.getBigUint64(88)).toBe(0n);
  });
});
