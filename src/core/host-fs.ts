/**
 * The file system by path. File names are bytes that need not be UTF-8, and `node:fs` takes text
 * for UTF-8: with a name from `byte-text` it would open no file, or another one. All paths go to
 * the system through here, and all names that it gives come back through here; lint allows of
 * `node:fs` elsewhere only what works on descriptors.
 */

import * as fs from 'node:fs';
import { tmpdir } from 'node:os';

import { bytesOfText, textOfBytes } from './byte-text.ts';

type PathCall = (path: string, ...rest: never[]) => unknown;

export const chmodSync = byPath(fs.chmodSync);
export const chownSync = byPath(fs.chownSync);
export const createReadStream = byPath(fs.createReadStream);
export const createWriteStream = byPath(fs.createWriteStream);
export const existsSync = byPath(fs.existsSync);
export const accessSync = byPath(fs.accessSync);
export const lstatSync = byPath(fs.lstatSync);
export const mkdirSync = byPath(fs.mkdirSync);
export const open = byPath(fs.open);
export const openSync = byPath(fs.openSync);
export const readFileSync = byPath(fs.readFileSync);
export const rmSync = byPath(fs.rmSync);
export const rmdirSync = byPath(fs.rmdirSync);
export const statSync = byPath(fs.statSync);
export const statfsSync = byPath(fs.statfsSync);

export const copyFileSync = byTwoPaths(fs.copyFileSync);
export const linkSync = byTwoPaths(fs.linkSync);
export const symlinkSync = byTwoPaths(fs.symlinkSync);
export const renameSync = byTwoPaths(fs.renameSync);

/** Makes a directory whose name begins with `prefix`; gives its path. */
export function mkdtempSync(prefix: string): string {
  return textOfBytes(fs.mkdtempSync(hostPath(prefix) as string, 'buffer'));
}

export function readdirSync(path: string): string[] {
  return fs.readdirSync(hostPath(path), 'buffer').map(textOfBytes);
}

export function readlinkSync(path: string): string {
  return textOfBytes(fs.readlinkSync(hostPath(path), 'buffer'));
}

export function realpathSync(path: string): string {
  // The other one, written in JavaScript, decodes the path.
  return textOfBytes(fs.realpathSync.native(hostPath(path), 'buffer'));
}

/** O_PATH of Linux. */
const O_PATH = 0o10000000;

/**
 * Opens a file or directory as a place only: nothing of it is read, and it need not allow that.
 * `/proc/self/fd/N` leads there, which is how a name that is not UTF-8 reaches what takes text
 * only. Linux.
 */
export function openPlace(path: string): number {
  return openSync(path, O_PATH);
}

/** Where the system keeps temporary files. */
export function temporaryDirectory(): string {
  const decoded = tmpdir();
  if (isDecodedWhole(decoded)) return decoded;
  try {
    const environment = nulTerminated(fs.readFileSync('/proc/self/environ'));
    for (const name of ['TMPDIR', 'TMP', 'TEMP']) {
      const found = environment.find((each) => each.startsWith(`${name}=`));
      // The first that is set, as in `tmpdir`.
      if (found !== undefined) return found.slice(name.length + 1).replace(/(?<=.)\/$/, '');
    }
  } catch {
    // Without /proc the directory keeps the name that Node gives it.
  }
  return decoded;
}

/**
 * Whether Node decoded a text of the system without loss: it puts U+FFFD for every byte that is not
 * UTF-8.
 */
export function isDecodedWhole(text: string): boolean {
  return !text.includes('\ufffd');
}

/** The strings of `/proc/self/cmdline` and `environ`, each of which ends with a NUL. */
export function nulTerminated(bytes: Uint8Array): readonly string[] {
  const texts: string[] = [];
  for (let start = 0; start < bytes.byteLength;) {
    const found = bytes.indexOf(0, start);
    const end = found < 0 ? bytes.byteLength : found;
    texts.push(textOfBytes(bytes.subarray(start, end)));
    start = end + 1;
  }
  return texts;
}

/** A path for `node:fs`, which takes text for UTF-8 and other names as bytes. */
function hostPath(path: string): string | Buffer {
  return path.isWellFormed() ? path : bytesOfText(path);
}

/**
 * `call`, a function of `node:fs`, with its first argument as the system has it; a descriptor stays
 * one.
 */
function byPath<Call extends PathCall>(call: Call): Call {
  const adapted = (path: string, ...rest: never[]): unknown =>
    call((typeof path === 'string' ? hostPath(path) : path) as string, ...rest);
  return adapted as Call;
}

function byTwoPaths<Call extends (from: string, to: string, ...rest: never[]) => unknown>(call: Call): Call {
  const adapted = (from: string, to: string, ...rest: never[]): unknown =>
    call(hostPath(from) as string, hostPath(to) as string, ...rest);
  return adapted as Call;
}
