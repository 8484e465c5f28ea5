/**
 * The C library of the running program, called through koffi and loaded at first use. On another
 * system, or where koffi has no binary, the answer is a reason instead.
 */

import { createRequire } from 'node:module';
import type * as Koffi from 'koffi';

export type LoadedLibc =
  | { readonly ok: true; readonly koffi: typeof Koffi; readonly libc: Koffi.LibraryHandle }
  | { readonly ok: false; readonly reason: string };

/** Where `off_t` is 64 bits wide without `_FILE_OFFSET_BITS`, as the bindings declare it. */
const ARCHITECTURES_64_BIT = ['x64', 'arm64', 'riscv64', 'loong64', 'ppc64', 's390x'];

/** @param call the function that is wanted, for the reason. */
export function loadLibc(call: string): LoadedLibc {
  if (process.platform !== 'linux' || !ARCHITECTURES_64_BIT.includes(process.arch)) {
    return { ok: false, reason: `${process.platform} on ${process.arch} has no ${call} that is used here` };
  }
  try {
    const koffi = createRequire(import.meta.url)('koffi') as typeof Koffi;
    // A null path is the running program, which has libc loaded whatever its file is called.
    return { ok: true, koffi, libc: koffi.load(null) };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { ok: false, reason: `koffi, which calls libc's ${call}, could not be loaded: ${why}` };
  }
}
