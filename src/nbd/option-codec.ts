/**
 * The messages of the handshake as bytes.
 *
 *     greeting      0 NBDMAGIC u64      8 IHAVEOPT u64   16 handshake flags u16
 *     option        0 IHAVEOPT u64      8 option u32     12 length u32            16 data …
 *     option reply  0 magic u64         8 option u32     12 type u32  16 length u32  20 data …
 *
 * Data of an option that names an export, and data of the replies that carry some:
 *
 *     INFO, GO                  0 name length u32   4 name …   then count u16, that many u16
 *     LIST, SET_META_CONTEXT    0 name length u32   4 name …   then count u32, that many (length u32, text)
 *     reply SERVER              0 name length u32   4 name …
 *     reply INFO (export)       0 type u16 = 0      2 size u64      10 transmission flags u16
 *     reply INFO (block size)   0 type u16 = 3      2 minimum u32    6 preferred u32   10 maximum u32
 *     reply META_CONTEXT        0 context id u32    4 name …
 *     EXPORT_NAME's answer      0 size u64          8 transmission flags u16   10 zeroes, 124 of them
 *
 * Invariant: a parser answers `undefined` where the data do not add up; lengths inside are checked
 * against the bytes that are there, and nothing is allocated by them.
 */

import { bytesOfText, textOfBytes } from '../core/byte-text.ts';
import { viewOf, writeU64be } from '../core/bytes.ts';
import { ALLOCATION_CONTEXT, HANDSHAKE_FLAG, INFO, MAGIC, type OptionReply } from './protocol.ts';

const GREETING = { bytes: 18, magic: 0, optionMagic: 8, flags: 16 } as const;
export const CLIENT_FLAGS_BYTES = 4;
export const OPTION_HEADER_BYTES = 16;
const OPTION_HEADER = { magic: 0, option: 8, length: 12 } as const;
const REPLY = { bytes: 20, magic: 0, option: 8, type: 12, length: 16 } as const;
const INFO_EXPORT = { bytes: 12, type: 0, size: 2, flags: 10 } as const;
const INFO_BLOCK_SIZE = { bytes: 14, type: 0, minimum: 2, preferred: 6, maximum: 10 } as const;
const EXPORT_NAME_ANSWER = { bytes: 10, size: 0, flags: 8, zeroes: 124 } as const;

export function encodeGreeting(): Uint8Array {
  const bytes = new Uint8Array(GREETING.bytes);
  const view = viewOf(bytes);
  putMagic(view, GREETING.magic, MAGIC.greeting);
  putMagic(view, GREETING.optionMagic, MAGIC.option);
  view.setUint16(GREETING.flags, HANDSHAKE_FLAG.fixedNewstyle | HANDSHAKE_FLAG.noZeroes);
  return bytes;
}

/** The flags that a client answers the greeting with. */
export function decodeClientFlags(bytes: Uint8Array): number {
  return viewOf(bytes).getUint32(0);
}

export interface OptionHeader {
  readonly option: number;
  /** Bytes of the data that follow. */
  readonly length: number;
}

/** `undefined` if it does not begin with the magic. */
export function decodeOptionHeader(bytes: Uint8Array): OptionHeader | undefined {
  const view = viewOf(bytes);
  const [high, low] = MAGIC.option;
  if (view.getUint32(OPTION_HEADER.magic) !== high || view.getUint32(OPTION_HEADER.magic + 4) !== low) {
    return undefined;
  }
  return { option: view.getUint32(OPTION_HEADER.option), length: view.getUint32(OPTION_HEADER.length) };
}

export function encodeOptionReply(option: number, type: OptionReply, data: Uint8Array = NOTHING): Uint8Array {
  const bytes = new Uint8Array(REPLY.bytes + data.byteLength);
  const view = viewOf(bytes);
  putMagic(view, REPLY.magic, MAGIC.optionReply);
  view.setUint32(REPLY.option, option);
  view.setUint32(REPLY.type, type);
  view.setUint32(REPLY.length, data.byteLength);
  bytes.set(data, REPLY.bytes);
  return bytes;
}

export interface ExportFacts {
  /** Bytes. */
  readonly size: number;
  readonly transmissionFlags: number;
}

export function encodeInfoExport({ size, transmissionFlags }: ExportFacts): Uint8Array {
  const bytes = new Uint8Array(INFO_EXPORT.bytes);
  const view = viewOf(bytes);
  view.setUint16(INFO_EXPORT.type, INFO.export);
  writeU64be(view, INFO_EXPORT.size, size);
  view.setUint16(INFO_EXPORT.flags, transmissionFlags);
  return bytes;
}

export interface BlockSizes {
  readonly minimum: number;
  readonly preferred: number;
  readonly maximum: number;
}

export function encodeInfoBlockSize({ minimum, preferred, maximum }: BlockSizes): Uint8Array {
  const bytes = new Uint8Array(INFO_BLOCK_SIZE.bytes);
  const view = viewOf(bytes);
  view.setUint16(INFO_BLOCK_SIZE.type, INFO.blockSize);
  view.setUint32(INFO_BLOCK_SIZE.minimum, minimum);
  view.setUint32(INFO_BLOCK_SIZE.preferred, preferred);
  view.setUint32(INFO_BLOCK_SIZE.maximum, maximum);
  return bytes;
}

/** @param withZeroes for clients that did not ask to be spared them. */
export function encodeExportNameAnswer(facts: ExportFacts, withZeroes: boolean): Uint8Array {
  const { bytes: length, size, flags, zeroes } = EXPORT_NAME_ANSWER;
  const bytes = new Uint8Array(length + (withZeroes ? zeroes : 0));
  const view = viewOf(bytes);
  writeU64be(view, size, facts.size);
  view.setUint16(flags, facts.transmissionFlags);
  return bytes;
}

/** The data of a reply SERVER. */
export function encodeServerName(name: string): Uint8Array {
  const text = bytesOfText(name);
  const bytes = new Uint8Array(4 + text.byteLength);
  viewOf(bytes).setUint32(0, text.byteLength);
  bytes.set(text, 4);
  return bytes;
}

/** The data of a reply META_CONTEXT about the one context there is. */
export function encodeAllocationContext(): Uint8Array {
  const text = Buffer.from(ALLOCATION_CONTEXT.name);
  const bytes = new Uint8Array(4 + text.byteLength);
  viewOf(bytes).setUint32(0, ALLOCATION_CONTEXT.id);
  bytes.set(text, 4);
  return bytes;
}

export interface InfoRequest {
  readonly name: string;
  /** The kinds of information asked for. */
  readonly kinds: readonly number[];
}

/** The data of INFO and GO. */
export function decodeInfoRequest(data: Uint8Array): InfoRequest | undefined {
  const name = textAt(data, 0);
  if (name === undefined || data.byteLength < name.end + 2) return undefined;
  const view = viewOf(data);
  const count = view.getUint16(name.end);
  if (data.byteLength !== name.end + 2 + 2 * count) return undefined;
  const kinds = Array.from({ length: count }, (_, index) => view.getUint16(name.end + 2 + 2 * index));
  return { name: name.text, kinds };
}

export interface MetaContextRequest {
  readonly name: string;
  readonly queries: readonly string[];
}

/** The data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export function decodeMetaContextRequest(data: Uint8Array): MetaContextRequest | undefined {
  const name = textAt(data, 0);
  if (name === undefined || data.byteLength < name.end + 4) return undefined;
  const count = viewOf(data).getUint32(name.end);
  const queries: string[] = [];
  let at = name.end + 4;
  while (queries.length < count) {
    const query = textAt(data, at);
    if (query === undefined) return undefined;
    queries.push(query.text);
    at = query.end;
  }
  return at === data.byteLength ? { name: name.text, queries } : undefined;
}

/** A text behind its length; `end` is the offset after it. */
function textAt(
  data: Uint8Array,
  offset: number,
): { readonly text: string; readonly end: number } | undefined {
  if (offset + 4 > data.byteLength) return undefined;
  const start = offset + 4;
  const end = start + viewOf(data).getUint32(offset);
  if (end > data.byteLength) return undefined;
  return { text: textOfBytes(data.subarray(start, end)), end };
}

function putMagic(view: DataView, offset: number, [high, low]: readonly [number, number]): void {
  view.setUint32(offset, high);
  view.setUint32(offset + 4, low);
}

const NOTHING = new Uint8Array(0);
