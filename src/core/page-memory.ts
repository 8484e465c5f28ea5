/**
 * Page-aligned memory, which O_DIRECT needs and `Buffer` does not give (the system answers EINVAL).
 *
 * The memory of a `WebAssembly.Memory` is mapped in whole pages, so views that begin at a multiple
 * of 4096 into it are page-aligned, without native code. Regions never grow (growing would detach
 * every view handed out). They are carved from slabs; a freed view is not reused: buffers live as
 * long as the cache, pool or device that asked for them, and a slab is collected with its last
 * view.
 */

import { alignUp } from './alignment.ts';

export const PAGE_SIZE = 4096;
/** A page of WebAssembly, the unit in which its memory is sized. */
const WASM_PAGE = 65_536;
const SLAB_SIZE = 4 * 1024 * 1024;

const pageAlignedBuffers = new WeakSet<ArrayBufferLike>();
let slab: ArrayBuffer | undefined;
let slabUsed = 0;

/** A zeroed view of `length` bytes (more than 0) that begins on a page boundary. */
export function allocatePages(length: number): Uint8Array<ArrayBuffer> {
  const size = alignUp(length, PAGE_SIZE);
  if (size >= SLAB_SIZE / 4) return new Uint8Array(newRegion(size), 0, length);
  if (slab === undefined || slabUsed + size > slab.byteLength) {
    slab = newRegion(SLAB_SIZE);
    slabUsed = 0;
  }
  const view = new Uint8Array(slab, slabUsed, length);
  slabUsed += size;
  return view;
}

/**
 * Whether `bytes` begins at a multiple of `alignment` (a divisor of 4096) in page-aligned memory.
 */
export function isPageMemory(bytes: Uint8Array, alignment: number): boolean {
  return bytes.byteOffset % alignment === 0 && pageAlignedBuffers.has(bytes.buffer);
}

function newRegion(length: number): ArrayBuffer {
  const pages = alignUp(length, WASM_PAGE) / WASM_PAGE;
  const { buffer } = new WebAssembly.Memory({ initial: pages, maximum: pages });
  pageAlignedBuffers.add(buffer);
  return buffer;
}
