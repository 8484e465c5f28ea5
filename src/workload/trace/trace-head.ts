/** The beginning of a trace's file, from which its format is detected. */

/** The beginning of an unpacked file. */
export interface TraceHead {
  readonly bytes: Uint8Array;
  /**
   * Its first whole lines, without their line feeds; of a binary file, what is between such bytes.
   */
  readonly lines: readonly string[];
}

/** Bytes that are looked at, if the file has so many. */
const HEAD_BYTES = 16 * 1024;
/** Lines among which the first event must be. */
export const LINES_MAX = 64;
/** As editors and spreadsheets write it at the beginning of UTF-8. */
const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf] as const;

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
  const lines = Buffer.from(withoutByteOrderMark(head))
    .toString('latin1')
    .split('\n', LINES_MAX)
    .map((line) => (line.endsWith('\r') ? line.slice(0, -1) : line));
  return { bytes: head, lines };
}

/** The text at the beginning of a file; of a long file, its whole lines. */
export function headText({ bytes }: TraceHead): Uint8Array {
  const isAll = bytes.length < HEAD_BYTES;
  return withoutByteOrderMark(isAll ? bytes : bytes.subarray(0, bytes.lastIndexOf(LINE_FEED) + 1));
}

export function withoutByteOrderMark(bytes: Uint8Array): Uint8Array {
  const hasMark = BYTE_ORDER_MARK.every((byte, at) => bytes[at] === byte);
  return hasMark ? bytes.subarray(BYTE_ORDER_MARK.length) : bytes;
}

const LINE_FEED = 0x0a;
const UTF_16_MARK = '\u{ff}\u{fe}';
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
  if (text.startsWith(UTF_16_MARK)) return 'is UTF-16 text: convert it (iconv -f UTF-16 -t UTF-8)';
  const [line = ''] = lines;
  const isText = /^[\x20-\x7e\t]*$/.test(line.slice(0, 60));
  const beginning = isText ? ` (it starts with '${line.slice(0, 60)}')` : '';
  return `is not a trace of a known format${beginning}; give it with --trace-format: ${formats.join(', ')}`;
}

/** Why a file is not read that several formats take, or one whose units are a guess. */
export function ambiguousTraceRule(candidates: readonly string[]): string {
  const which = candidates.length === 1 ? 'may be' : 'may be one of';
  return `${which} ${candidates.join(', ')}: its lines do not show it; give it with --trace-format`;
}
