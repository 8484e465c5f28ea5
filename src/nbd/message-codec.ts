/**
 * The messages of the transmission phase as bytes.
 *
 *     request        0 magic u32   4 flags u16   6 command u16   8 cookie u64   16 offset u64   24 length u32
 *     simple reply   0 magic u32   4 error u32   8 cookie u64                            16 data of a read …
 *     chunk          0 magic u32   4 flags u16   6 type u16      8 cookie u64   16 length u32   20 payload …
 *
 * Payloads of the chunks of a structured reply:
 *
 *     OFFSET_DATA    0 offset u64       8 data …
 *     BLOCK_STATUS   0 context id u32   then, for each extent, length u32 and flags u32
 *     ERROR          0 error u32        4 message length u16   6 message …
 *
 * Invariant: a cookie is the client's own; it is carried back as two halves and never looked at.
 */

import { viewOf, writeU64be } from '../core/bytes.ts';
import { ALLOCATION_CONTEXT, CHUNK, CHUNK_DONE, MAGIC, type NbdError } from './protocol.ts';

export const REQUEST_BYTES = 28;
const REQUEST = { magic: 0, flags: 4, command: 6, cookie: 8, offset: 16, length: 24 } as const;
const SIMPLE = { bytes: 16, magic: 0, error: 4, cookie: 8 } as const;
const CHUNK_HEADER = { bytes: 20, magic: 0, flags: 4, type: 6, cookie: 8, length: 16 } as const;
const OFFSET_BYTES = 8;
const CONTEXT_BYTES = 4;
const EXTENT_BYTES = 8;
const ERROR_HEAD_BYTES = 6;
const TWO_32 = 0x1_0000_0000;

export interface Cookie {
  readonly cookieHigh: number;
  readonly cookieLow: number;
}

export interface NbdRequest extends Cookie {
  readonly flags: number;
  readonly command: number;
  /** Bytes; above 2^53 it is inexact, and out of any disk's range. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
}

/** `undefined` if it does not begin with the magic. The bytes may change afterwards. */
export function decodeRequest(bytes: Uint8Array): NbdRequest | undefined {
  const view = viewOf(bytes);
  if (view.getUint32(REQUEST.magic) !== MAGIC.request) return undefined;
  return {
    flags: view.getUint16(REQUEST.flags),
    command: view.getUint16(REQUEST.command),
    cookieHigh: view.getUint32(REQUEST.cookie),
    cookieLow: view.getUint32(REQUEST.cookie + 4),
    offset: view.getUint32(REQUEST.offset) * TWO_32 + view.getUint32(REQUEST.offset + 4),
    length: view.getUint32(REQUEST.length),
  };
}

/** @param error 0 for success. */
export function encodeSimpleReply(cookie: Cookie, error: NbdError | 0): Uint8Array {
  const bytes = new Uint8Array(SIMPLE.bytes);
  const view = viewOf(bytes);
  view.setUint32(SIMPLE.magic, MAGIC.simpleReply);
  view.setUint32(SIMPLE.error, error);
  putCookie(view, SIMPLE.cookie, cookie);
  return bytes;
}

/** All of the one chunk that answers a read but its data, which follow. */
export function encodeDataHead(request: NbdRequest): Uint8Array {
  const { bytes, view } = chunk(request, CHUNK.offsetData, {
    here: OFFSET_BYTES,
    following: request.length,
  });
  writeU64be(view, CHUNK_HEADER.bytes, request.offset);
  return bytes;
}

/** A chunk that says no more than that the request is done. */
export function encodeDone(cookie: Cookie): Uint8Array {
  return chunk(cookie, CHUNK.none, { here: 0, following: 0 }).bytes;
}

export function encodeErrorChunk(cookie: Cookie, error: NbdError, message: string): Uint8Array {
  const text = Buffer.from(message).subarray(0, 1024);
  const { bytes, view } = chunk(cookie, CHUNK.error, {
    here: ERROR_HEAD_BYTES + text.byteLength,
    following: 0,
  });
  view.setUint32(CHUNK_HEADER.bytes, error);
  view.setUint16(CHUNK_HEADER.bytes + 4, text.byteLength);
  bytes.set(text, CHUNK_HEADER.bytes + ERROR_HEAD_BYTES);
  return bytes;
}

export interface Extent {
  /** Bytes. */
  readonly length: number;
  readonly flags: number;
}

export function encodeBlockStatus(cookie: Cookie, extents: readonly Extent[]): Uint8Array {
  const { bytes, view } = chunk(cookie, CHUNK.blockStatus, {
    here: CONTEXT_BYTES + EXTENT_BYTES * extents.length,
    following: 0,
  });
  view.setUint32(CHUNK_HEADER.bytes, ALLOCATION_CONTEXT.id);
  let at = CHUNK_HEADER.bytes + CONTEXT_BYTES;
  for (const { length, flags } of extents) {
    view.setUint32(at, length);
    view.setUint32(at + 4, flags);
    at += EXTENT_BYTES;
  }
  return bytes;
}

/**
 * The bytes of a last chunk with room for `here` bytes of payload; its length counts those
 * `following` too.
 */
function chunk(
  cookie: Cookie,
  type: number,
  { here, following }: { readonly here: number; readonly following: number },
): { readonly bytes: Uint8Array; readonly view: DataView } {
  const bytes = new Uint8Array(CHUNK_HEADER.bytes + here);
  const view = viewOf(bytes);
  view.setUint32(CHUNK_HEADER.magic, MAGIC.structuredReply);
  view.setUint16(CHUNK_HEADER.flags, CHUNK_DONE);
  view.setUint16(CHUNK_HEADER.type, type);
  putCookie(view, CHUNK_HEADER.cookie, cookie);
  view.setUint32(CHUNK_HEADER.length, here + following);
  return { bytes, view };
}

function putCookie(view: DataView, offset: number, { cookieHigh, cookieLow }: Cookie): void {
  view.setUint32(offset, cookieHigh);
  view.setUint32(offset + 4, cookieLow);
}
