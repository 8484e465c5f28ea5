import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';

import { describe, expect, test } from 'vitest';

import { checkImageFile } from '../../src/image/check-image.ts';
import { hostImage } from '../../src/image/host-image.ts';
import { readImageInfo } from '../../src/image/image-info.ts';
import { formatOfFile, openChain } from '../../src/image/open-chain.ts';
import { callCli } from '../cli/call-cli.ts';
import { errorLine } from '../cli/cli-process.ts';
import { newImage } from '../format/qcow2/image-bytes.ts';
import { rejectionCodeOf, rejectionOf } from '../format/rejection.ts';
import { reasonToSkip, runTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';

const SIZE = 1024 * 1024;

/**
 * A file of `SIZE` bytes that holds `text` (one byte a character) at `at`, below 0 from its end.
 */
function withBytes(at: number, text: string): Buffer {
  const bytes = Buffer.alloc(SIZE);
  bytes.write(text, at < 0 ? SIZE + at : at, 'latin1');
  return bytes;
}

/** By name of the format, as the message says it. */
const MADE_HERE: Readonly<Record<string, Buffer>> = {
  'a VMDK image (COWD)': withBytes(0, 'COWD'),
  'a VMDK descriptor': withBytes(0, '# Disk DescriptorFile\nversion=1\n'),
  'a Bochs image': withBytes(0, 'Bochs Virtual HD Image'),
  'a cloop image': withBytes(0, '#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0'),
  'an Apple disk image (DMG)': withBytes(-512, 'koly'),
  'a VHD image of fixed size': withBytes(-512, 'conectix'),
  'a Parallels image': withBytes(0, 'WithouFreSpacExt'),
  'a LUKS volume': withBytes(0, 'LUKS\xba\xbe\0\x02'),
  'compressed by gzip': gzipSync(Buffer.alloc(SIZE)),
  'compressed by Zstandard': zstdCompressSync(Buffer.alloc(SIZE)),
  'compressed by xz': withBytes(0, '\xfd7zXZ\0'),
  'compressed by bzip2': withBytes(0, 'BZh91AY&SY'),
  'a tar archive': withBytes(257, 'ustar  \0'),
};

const QEMU_MADE: Readonly<Record<string, readonly string[]>> = {
  'a VMDK image': ['-f', 'vmdk'],
  'a VMDK descriptor': ['-f', 'vmdk', '-o', 'subformat=monolithicFlat'],
  'a VDI image': ['-f', 'vdi'],
  'a VHD image': ['-f', 'vpc'],
  'a VHD image of fixed size': ['-f', 'vpc', '-o', 'subformat=fixed'],
  'a VHDX image': ['-f', 'vhdx'],
  'a Parallels image': ['-f', 'parallels'],
  'a QCOW image of version 1': ['-f', 'qcow'],
  'a LUKS volume': ['--object', 'secret,id=s,data=x', '-f', 'luks', '-o', 'key-secret=s,iter-time=10'],
};

describe('a file of another format is not taken for a raw disk', () => {
  test.for(Object.entries(MADE_HERE))('%s', async ([name, bytes]) => {
    const path = join(testDirectory(), 'disk');
    writeFileSync(path, bytes);
    const error = await rejectionOf(() => formatOfFile(path));
    expect(error?.code).toBe('foreign-format');
    expect(error?.message).toContain(`the file is ${name}, not`);
  });

  test.skipIf(reasonToSkip('qemu-img') !== undefined).for(Object.entries(QEMU_MADE))(
    'made by qemu-img: %s',
    async ([name, options]) => {
      const folder = testDirectory();
      runTool('qemu-img', ['create', '-q', ...options, 'disk', '4M'], folder);
      const error = await rejectionOf(() => formatOfFile(join(folder, 'disk')));
      expect(error?.code).toBe('foreign-format');
      expect(error?.message).toContain(`the file is ${name}, not`);
    },
  );

  test('a magic at the end is found at every length of the file', async () => {
    const path = join(testDirectory(), 'disk');
    for (const length of [512, 1024, 4096, 4097, 4500, 4608, 8191, 8704, 65_535, 65_536 + 511]) {
      const bytes = Buffer.alloc(length);
      bytes.write('conectix', length - 512);
      writeFileSync(path, bytes);
      expect(await rejectionCodeOf(() => formatOfFile(path)), String(length)).toBe('foreign-format');
    }
  });
});

describe('what a raw disk holds stays raw', () => {
  test.for<readonly [string, Buffer]>([
    ['nothing', Buffer.alloc(0)],
    ['a few bytes', Buffer.from('QF')],
    ['zeroes', Buffer.alloc(SIZE)],
    ['a partition table', withBytes(510, '\x55\xaa')],
    ['a GPT', withBytes(512, 'EFI PART')],
    ['ISO 9660', withBytes(32_769, 'CD001')],
    ['squashfs', withBytes(0, 'hsqs')],
    ['XFS', withBytes(0, 'XFSB')],
    ['a magic at another place', withBytes(4096, 'conectix')],
  ])('%s', async ([, bytes]) => {
    const path = join(testDirectory(), 'disk');
    writeFileSync(path, bytes);
    expect(await formatOfFile(path)).toBe('raw');
  });
});

describe('commands', () => {
  const vdi = withBytes(64, '\x7f\x10\xda\xbe');

  test.for([
    ['info', 'disk'],
    ['map', 'disk'],
    ['convert', 'disk', 'out.qcow2'],
    ['resize', 'disk', '512KiB', '--shrink'],
  ])('%s refuses it by name and changes nothing; the format raw takes it', async (words) => {
    const folder = testDirectory();
    writeFileSync(join(folder, 'disk'), vdi);
    const refused = await callCli(folder, ...words);
    expect(refused.code).toBe(1);
    expect(errorLine(refused)).toMatch(/the file is a VDI image.*qemu-img convert.*--format raw/);
    expect(readFileSync(join(folder, 'disk')).equals(vdi)).toBe(true);
    const asRaw = words[0] === 'convert' ? ['--from', 'raw'] : ['--format', 'raw'];
    const taken = await callCli(folder, ...words, ...asRaw);
    expect(taken, taken.stderr).toMatchObject({ code: 0 });
  });

  test.for([
    ['check', 63],
    ['snapshot', 1],
  ] as const)('%s has nothing to do with it', async ([command, code]) => {
    const folder = testDirectory();
    writeFileSync(join(folder, 'disk'), vdi);
    const refused = await callCli(folder, command, 'disk');
    expect(refused.code).toBe(code);
    expect(errorLine(refused)).toContain('a VDI image');
  });

  test('an unknown version of qcow2 has an error of its own', async () => {
    const folder = testDirectory();
    writeFileSync(join(folder, 'disk'), withBytes(0, 'QFI\xfb\0\0\0\x04'));
    for (const words of [['info'], ['map'], ['check'], ['snapshot'], ['resize', '2MiB']]) {
      const refused = await callCli(folder, words[0] ?? '', 'disk', ...words.slice(1));
      expect(refused.code, words[0]).toBe(1);
      expect(errorLine(refused)).toContain('qcow2 version 4 is not supported');
    }
  });
});

describe('a format that is named, but not that of the file, is refused with the one that was found', () => {
  const FOUND = [
    ['a VMDK image', withBytes(0, 'KDMV'), 'qemu-img convert'],
    ['compressed by gzip', gzipSync(Buffer.alloc(SIZE)), 'decompress it first'],
    ['a VHD image of fixed size', withBytes(-512, 'conectix'), 'qemu-img convert -f vpc'],
  ] as const;

  test.for(['qcow2', 'qed'] as const)('as %s, by every command that opens it', async (format) => {
    const folder = testDirectory();
    const path = join(folder, 'disk');
    for (const [name, bytes, remedy] of FOUND) {
      writeFileSync(path, bytes);
      for (const open of [
        () => openChain({ path, format }),
        () => readImageInfo(hostImage(path), { format }),
        () => checkImageFile({ ...hostImage(path), format }),
      ]) {
        const error = await rejectionOf(open);
        expect(error?.code).toBe(`${format}-bad-magic`);
        expect(error?.message).toContain(`the file is ${name}, not ${format === 'qed' ? 'QED' : format}: `);
        expect(error?.message).toContain(remedy);
      }
    }
  });

  test('as a backing file', async () => {
    const folder = testDirectory();
    const path = join(folder, 'disk');
    const backingFile = { name: 'base', format: 'qcow2' } as const;
    writeFileSync(path, await newImage({ virtualSize: SIZE, backingFile }));
    writeFileSync(join(folder, 'base'), withBytes(0, 'KDMV'));
    const foreign = await rejectionOf(() => openChain({ path }));
    expect(foreign?.message).toContain('the file is a VMDK image, not qcow2: ');
    writeFileSync(join(folder, 'base'), withBytes(0, 'QED\0'));
    const other = await rejectionOf(() => openChain({ path }));
    expect(other?.message).toContain('the file is QED, not qcow2; ');
    expect(other?.message).toContain('rebase --unsafe --backing FILE --backing-format qed');
  });
});
