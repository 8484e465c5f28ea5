/** The beginning of a trace's file, from which its format is detected. */

import type { TraceHead } from './trace-formats.ts';

/** Bytes that are looked at, if the file has so many. */
const HEAD_BYTES = 16 * 1024;
const LINES_MAX = 64;
const BYTE_ORDER_MARK = '\u{ef}\u{bb}\u{bf}';

/** The first chunks of a file, joined: `HEAD_BYTES` of them or more, if it has so many. */
export async function readHead(chunks: AsyncGenerator<Uint8Array, undefined>): Promise<Uint8Array> {
  const taken: Uint8Array[] = [];
  let length = 0;
  while (length < HEAD_BYTES) {
    const { value } = await chunks.next();
    if (value === undefined) break;
    taken.push(value);
    length += value.length;
  }
  const [only] = taken;
  return taken.length === 1 && only !== undefined ? only : Buffer.concat(taken);
}

export function headOf(bytes: Uint8Array): TraceHead {
  const head = bytes.subarray(0, HEAD_BYTES);
  const text = Buffer.from(head).toString('latin1');
  const lines = text
    .slice(text.startsWith(BYTE_ORDER_MARK) ? BYTE_ORDER_MARK.length : 0)
    .split('\n', LINES_MAX)
    .map((line) => (line.endsWith('\r') ? line.slice(0, -1) : line));
  return { bytes: head, lines };
}

const TAR_MAGIC_AT = 257;
const CONTAINERS: readonly (readonly [name: string, at: number, magic: string, tool: string])[] = [
  ['xz', 0, '\u{fd}7zXZ\0', 'xz -dc'],
  ['bzip2', 0, 'BZh', 'bzip2 -dc'],
  ['LZ4', 0, '\u{4}"M\u{18}', 'lz4 -dc'],
  ['a ZIP archive', 0, 'PK\u{3}\u{4}', 'unzip'],
  ['a 7z archive', 0, "7z\u{bc}\u{af}'\u{1c}", '7z e'],
  ['a tar archive', TAR_MAGIC_AT, 'ustar', 'tar -xf'],
];

/** Why a file that begins so is no trace of any known format, and what to do about it. */
export function unknownTraceRule({ bytes, lines }: TraceHead, formats: readonly string[]): string {
  const text = Buffer.from(bytes).toString('latin1');
  if (text === '') return 'is empty';
  for (const [name, at, magic, tool] of CONTAINERS) {
    if (text.startsWith(magic, at)) {
      return `is ${name}, which cannot be read directly: unpack it (${tool}); .gz and .zst can be read`;
    }
  }
  const [line = ''] = lines;
  const isText = /^[\x20-\x7e\t]*$/.test(line.slice(0, 60));
  const beginning = isText ? ` (it starts with '${line.slice(0, 60)}')` : '';
  return `is not a trace of a known format${beginning}; give it with --trace-format: ${formats.join(', ')}`;
}
