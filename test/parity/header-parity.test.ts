/**
 * What a header holds beyond what is known here, against a real QEMU: kept or dropped on every
 * rewrite, byte for byte (the promises of qemu-iotests 031 and 036).
 */

import { closeSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { SECTOR_SIZE, type Request } from '../../src/workload/request.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { TwinImages } from './twin-images.ts';

const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');
if (skip !== undefined) process.stderr.write(`headers are not held against QEMU: ${skip}\n`);

const FEATURE_NAMES = 0x6803_f857;
const WRITE: Request = {
  op: 'write',
  offset: 0,
  length: SECTOR_SIZE,
  fua: false,
  unmap: false,
  timeNs: 0,
};

interface Extension {
  readonly type: number;
  readonly data: Uint8Array;
}

interface Extra {
  /** Bytes after the 112 that QEMU knows. */
  readonly fields?: Uint8Array;
  /** Before the feature name table, and after it. */
  readonly before?: readonly Extension[];
  readonly after?: readonly Extension[];
  readonly compatible?: bigint;
  readonly autoclear?: bigint;
  readonly incompatible?: bigint;
}

/** Rewrites the header of an image without backing file, with unknown fields and extensions. */
function extend(path: string, extra: Extra): void {
  const fd = openSync(path, 'r+');
  const old = new Uint8Array(112 + 8 + 384);
  readSync(fd, old, 0, old.byteLength, 0);
  const fixed = old.slice(0, 112);
  const view = new DataView(fixed.buffer);
  const fields = extra.fields ?? new Uint8Array(0);
  view.setUint32(100, 112 + fields.byteLength);
  view.setBigUint64(72, view.getBigUint64(72) | (extra.incompatible ?? 0n));
  view.setBigUint64(80, view.getBigUint64(80) | (extra.compatible ?? 0n));
  view.setBigUint64(88, view.getBigUint64(88) | (extra.autoclear ?? 0n));
  const names = { type: FEATURE_NAMES, data: old.slice(120) };
  const extensions = [...(extra.before ?? []), names, ...(extra.after ?? [])];
  const bytes = Buffer.concat([fixed, fields, ...extensions.map(encode), new Uint8Array(8)]);
  writeSync(fd, bytes, 0, bytes.byteLength, 0);
  closeSync(fd);
}

function encode({ type, data }: Extension): Uint8Array {
  const bytes = new Uint8Array(8 + Math.ceil(data.byteLength / 8) * 8);
  new DataView(bytes.buffer).setUint32(0, type);
  new DataView(bytes.buffer).setUint32(4, data.byteLength);
  bytes.set(data, 8);
  return bytes;
}

function text(content: string): Uint8Array {
  return new Uint8Array(Buffer.from(content));
}

function newTwins(...options: readonly string[]): TwinImages {
  const twins = new TwinImages();
  twins.run('qemu-img', 'create', '-q', '-f', 'qcow2', ...options, 'disk', '16M');
  return twins;
}

/**
 * Says so instead of the bytes: a failure prints what was not to come, and a disk is too much to
 * print.
 */
async function opened(twins: TwinImages): Promise<string> {
  return `${String((await twins.readOurs()).byteLength)} bytes were read`;
}

const LAZY = ['-o', 'lazy_refcounts=on'] as const;
/** Nothing a program would know. */
const UNKNOWN = 0x1234_5678;

describe.skipIf(skip !== undefined)('a header that is rewritten keeps what is unknown here', () => {
  const cases: readonly { readonly what: string; readonly extra: Extra }[] = [
    { what: 'an unknown extension', extra: { after: [{ type: UNKNOWN, data: text('kept') }] } },
    { what: 'one without data', extra: { after: [{ type: UNKNOWN, data: new Uint8Array(0) }] } },
    { what: 'one before the feature names', extra: { before: [{ type: UNKNOWN, data: text('12345678') }] } },
    {
      what: 'several, turned around as QEMU does',
      extra: {
        before: [{ type: UNKNOWN, data: text('first') }],
        after: [
          { type: UNKNOWN + 1, data: text('second, a little longer') },
          { type: UNKNOWN, data: text('third, of the type of the first') },
        ],
      },
    },
    { what: 'fields after the known ones', extra: { fields: text('16 bytes of them') } },
    { what: 'unknown compatible features', extra: { compatible: 1n << 42n } },
    { what: 'unknown autoclear features, which go', extra: { autoclear: 1n << 63n } },
    {
      what: 'all of it',
      extra: {
        fields: text('8 bytes.'),
        after: [{ type: UNKNOWN, data: text('kept') }],
        compatible: 0xff00n,
        autoclear: 0xff00n,
      },
    },
  ];
  it.each(cases)('$what', async ({ extra }) => {
    // Eager: the header is rewritten at open if autoclear bits are set. Lazy: also at close.
    for (const options of [[], LAZY]) {
      const twins = newTwins(...options);
      extend(twins.theirs, extra);
      await twins.serve([], 'opened and closed');
      await twins.serve([WRITE], 'written to');
      const rebased = ['rebase', '-q', '-u', '-f', 'qcow2', '-b', '', twins.theirs];
      twins.run('qemu-img', ...rebased);
      await twins.serve([{ ...WRITE, offset: 1024 * 1024 }], 'rewritten by QEMU, then written to');
    }
  });

  it('a read-only opening changes nothing', async () => {
    const twins = newTwins();
    extend(twins.theirs, { autoclear: 1n << 63n });
    const before = readFileSync(twins.theirs);
    await twins.readOurs();
    expect(readFileSync(twins.theirs).equals(before)).toBe(true);
  });
});

describe.skipIf(skip !== undefined)('an image that needs an unknown feature is refused by both', () => {
  const name = new Uint8Array(48);
  name.set([0, 62]);
  name.set(text('test feature'), 2);
  const lie = new Uint8Array(48);
  lie.set([0, 0]);
  lie.set(text('harmless, open me'), 2);
  const cases: readonly { readonly what: string; readonly extra: Extra; readonly says: string }[] = [
    { what: 'without a name', extra: { incompatible: 1n << 62n }, says: 'bit 62 (unnamed)' },
    {
      what: 'which the image names',
      extra: { incompatible: 1n << 62n, before: [{ type: FEATURE_NAMES, data: name }] },
      says: "bit 62 (named 'test feature')",
    },
    {
      what: 'in an image with a false claim about another',
      extra: { incompatible: (1n << 61n) | 1n, before: [{ type: FEATURE_NAMES, data: lie }] },
      says: 'bit 61 (unnamed)',
    },
  ];
  it.each(cases)('$what', async ({ extra, says }) => {
    const twins = newTwins();
    extend(twins.theirs, extra);
    const before = readFileSync(twins.theirs);
    expect(() => twins.run('qemu-io', '-f', 'qcow2', '-c', 'write 0 512', 'disk')).toThrow('nsupported');
    await expect(opened(twins)).rejects.toThrow(says);
    await expect(twins.serveOurs([WRITE])).rejects.toMatchObject({ code: 'qcow2-unsupported-feature' });
    expect(readFileSync(twins.theirs).equals(before)).toBe(true);
  });

  it.each(['aes', 'luks'])('encrypted with %s: refused by name, read-only too', async (method) => {
    const twins = new TwinImages();
    const secret = ['--object', 'secret,id=key,data=secret'];
    const encrypted = `encrypt.format=${method},encrypt.key-secret=key${method === 'luks' ? ',encrypt.iter-time=10' : ''}`;
    twins.run('qemu-img', 'create', '-q', '-f', 'qcow2', ...secret, '-o', encrypted, 'disk', '1M');
    const before = readFileSync(twins.theirs);
    const refusal = `encrypted images (${method.toUpperCase()}) are not supported`;
    await expect(opened(twins)).rejects.toThrow(refusal);
    await expect(twins.serveOurs([WRITE])).rejects.toThrow(refusal);
    expect(readFileSync(twins.theirs).equals(before)).toBe(true);
  });
});
