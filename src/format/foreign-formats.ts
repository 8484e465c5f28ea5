/**
 * Files that are plainly something other than a raw disk: images of other programs, compressed
 * files, archives. Each is recognised by its magic alone.
 *
 * Invariants: file systems and partition tables are what a raw disk holds, so none of theirs is in
 * the table (ISO 9660, squashfs and the like stay raw). A guest can write any of these bytes to a
 * raw disk: a match refuses a guess, and never an explicit format.
 */

import { viewOf } from '../core/bytes.ts';

/** What a file is, and the way to get a disk out of it. */
export interface ForeignFormat {
  /** With its article, as in `the file is …`. */
  readonly name: string;
  readonly remedy: string;
}

interface Magic {
  readonly name: string;
  /** Bytes from the file's start; below 0, from its end. */
  readonly at: number;
  readonly bytes: string;
  readonly remedy: string;
}

/** Bytes of a file's start that the table needs. */
export const FOREIGN_HEAD_BYTES = 512;
/**
 * Bytes of a file's end that the table needs: the footers of VHD and of Apple's disk images fill
 * the last sector.
 */
export const FOREIGN_TAIL_BYTES = 512;

const CONVERT = "convert it first with 'qemu-img convert -O qcow2 FILE NEW'";
const DECOMPRESS = 'decompress it first';
const UNPACK = 'unpack it first and use the disk image inside';

/** One byte a character (latin-1). */
const MAGICS: readonly Magic[] = [
  { name: 'a QCOW image of version 1', at: 0, bytes: 'QFI\xfb\0\0\0\x01', remedy: CONVERT },
  { name: 'a VMDK image', at: 0, bytes: 'KDMV', remedy: CONVERT },
  { name: 'a VMDK image (COWD)', at: 0, bytes: 'COWD', remedy: CONVERT },
  { name: 'a VMDK descriptor', at: 0, bytes: '# Disk DescriptorFile', remedy: CONVERT },
  { name: 'a VMDK descriptor', at: 0, bytes: '# Disk Descriptor File', remedy: CONVERT },
  { name: 'a VDI image', at: 64, bytes: '\x7f\x10\xda\xbe', remedy: CONVERT },
  { name: 'a VHDX image', at: 0, bytes: 'vhdxfile', remedy: CONVERT },
  { name: 'a VHD image', at: 0, bytes: 'conectix', remedy: CONVERT },
  {
    name: 'a VHD image of fixed size',
    at: -512,
    bytes: 'conectix',
    remedy: "convert it first with 'qemu-img convert -f vpc -O qcow2 FILE NEW'",
  },
  { name: 'a Parallels image', at: 0, bytes: 'WithoutFreeSpace', remedy: CONVERT },
  { name: 'a Parallels image', at: 0, bytes: 'WithouFreSpacExt', remedy: CONVERT },
  {
    name: 'a LUKS volume',
    at: 0,
    bytes: 'LUKS\xba\xbe',
    remedy: "decrypt a copy with 'qemu-img convert' or open it with cryptsetup",
  },
  { name: 'a Bochs image', at: 0, bytes: 'Bochs Virtual HD Image', remedy: CONVERT },
  { name: 'a cloop image', at: 0, bytes: '#!/bin/sh\n#V2.0 Format\nmodprobe cloop', remedy: CONVERT },
  {
    name: 'an Apple disk image (DMG)',
    at: -512,
    bytes: 'koly',
    remedy: "convert it first with 'qemu-img convert -f dmg -O qcow2 FILE NEW'",
  },
  {
    name: 'an Android sparse image',
    at: 0,
    bytes: '\x3a\xff\x26\xed',
    remedy: 'expand it first with simg2img',
  },
  { name: 'an EWF image (E01)', at: 0, bytes: 'EVF\t\r\n\xff\0', remedy: 'export it first with ewfexport' },
  { name: 'a Proxmox backup (VMA)', at: 0, bytes: 'VMA\0', remedy: UNPACK },
  { name: 'compressed by gzip', at: 0, bytes: '\x1f\x8b\x08', remedy: DECOMPRESS },
  { name: 'compressed by xz', at: 0, bytes: '\xfd7zXZ\0', remedy: DECOMPRESS },
  { name: 'compressed by Zstandard', at: 0, bytes: '\x28\xb5\x2f\xfd', remedy: DECOMPRESS },
  ...Array.from('123456789', (level) => ({
    name: 'compressed by bzip2',
    at: 0,
    bytes: `BZh${level}1AY&SY`,
    remedy: DECOMPRESS,
  })),
  { name: 'compressed by LZ4', at: 0, bytes: '\x04\x22\x4d\x18', remedy: DECOMPRESS },
  { name: 'compressed by lzip', at: 0, bytes: 'LZIP\x01', remedy: DECOMPRESS },
  { name: 'compressed by lzop', at: 0, bytes: '\x89LZO\0\r\n\x1a\n', remedy: DECOMPRESS },
  { name: 'a ZIP archive', at: 0, bytes: 'PK\x03\x04', remedy: UNPACK },
  { name: 'a 7-Zip archive', at: 0, bytes: '7z\xbc\xaf\x27\x1c', remedy: UNPACK },
  { name: 'a tar archive', at: 257, bytes: 'ustar\x0000', remedy: UNPACK },
  { name: 'a tar archive', at: 257, bytes: 'ustar  \0', remedy: UNPACK },
];

/**
 * The format of another program that the file has.
 *
 * @param head the first bytes, `FOREIGN_HEAD_BYTES` or the whole file if that is shorter
 * @param tail the last `FOREIGN_TAIL_BYTES`; empty if the file is shorter
 */
export function foreignFormat(head: Uint8Array, tail: Uint8Array): ForeignFormat | undefined {
  return MAGICS.find(({ at, bytes }) =>
    holds(at < 0 ? tail : head, at < 0 ? tail.byteLength + at : at, bytes),
  );
}

function holds(where: Uint8Array, at: number, bytes: string): boolean {
  if (at < 0 || at + bytes.length > where.byteLength) return false;
  const view = viewOf(where);
  for (let index = 0; index < bytes.length; index++) {
    if (view.getUint8(at + index) !== bytes.charCodeAt(index)) return false;
  }
  return true;
}
