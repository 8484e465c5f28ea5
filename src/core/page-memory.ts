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
import { assertInvariant } from './error.ts';

export const PAGE_SIZE = 4096;
/** A page of WebAssembly, the unit in which its memory is sized. */
const WASM_PAGE = 65_536;
const SLAB_SIZE = 4 * 1024 * 1024;

const pageAlignedBuffers = new WeakSet<ArrayBufferLike>();
let slab: ArrayBuffer | undefined;
let slabUsed = 0;

/** Slabs that are used again, and how much of them is taken. */
const recycled: ArrayBuffer[] = [];
let recycling: { slab: number; used: number } | undefined;
/** More are given back to the system. */
const RECYCLED_SLABS_MAX = 64;

/** A zeroed view of `length` bytes (more than 0) that begins on a page boundary. */
export function allocatePages(length: number): Uint8Array<ArrayBuffer> {
  const size = alignUp(length, PAGE_SIZE);
  if (size >= SLAB_SIZE / 4) return new Uint8Array(newRegion(size), 0, length);
  if (recycling !== undefined) {
    const { view, isNew } = recycledPages(recycling, length, size);
    return isNew ? view : view.fill(0);
  }
  if (slab === undefined || slabUsed + size > slab.byteLength) {
    slab = newRegion(SLAB_SIZE);
    slabUsed = 0;
  }
  const view = new Uint8Array(slab, slabUsed, length);
  slabUsed += size;
  return view;
}

/**
 * As `allocatePages`, of whatever content: for what is filled as a whole before anything of it is
 * used.
 */
export function allocatePagesToFill(length: number): Uint8Array<ArrayBuffer> {
  const size = alignUp(length, PAGE_SIZE);
  if (recycling === undefined || size >= SLAB_SIZE / 4) return allocatePages(length);
  return recycledPages(recycling, length, size).view;
}

/** As `allocatePages`, of memory that is never recycled: for what outlives the work that needs it first. */
export function lastingPages(length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(newRegion(length), 0, length);
}

/**
 * Does work whose memory is taken back at its end and used again by the next: images that are opened
 * thousands of times a second cost more in page faults than in work.
 *
 * Nothing else may allocate here meanwhile, and no view that `allocatePages` gave may be used
 * afterwards.
 */
export async function withRecycledPages<T>(work: () => Promise<T>): Promise<T> {
  assertInvariant(recycling === undefined, 'memory is recycled by one at a time');
  recycling = { slab: 0, used: 0 };
  try {
    return await work();
  } finally {
    recycling = undefined;
    recycled.splice(RECYCLED_SLABS_MAX);
  }
}

function recycledPages(
  place: { slab: number; used: number },
  length: number,
  size: number,
): { readonly view: Uint8Array<ArrayBuffer>; readonly isNew: boolean } {
  if (place.used + size > SLAB_SIZE) {
    place.slab++;
    place.used = 0;
  }
  const known = recycled[place.slab];
  const from = (recycled[place.slab] = known ?? newRegion(SLAB_SIZE));
  const view = new Uint8Array(from, place.used, length);
  place.used += size;
  return { view, isNew: known === undefined };
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
