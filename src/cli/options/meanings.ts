/** What the values of options mean, in one line each: for help and `list`. */

import { FORMAT_FACTS } from '../../format/formats.ts';
import { FORMATS } from '../../core/format-name.ts';
import type { PayloadKind } from '../../bench/payload.ts';
import type { StorageKind } from '../../device/storage.ts';
import type { CacheMode } from '../../format/cache-mode.ts';
import type { RefcountMode } from '../../format/image-options.ts';

/** The engines that can run a cell. */
export const ENGINES = ['builtin', 'qemu'] as const;
export type EngineName = (typeof ENGINES)[number];

export function formatMeanings(): Readonly<Record<string, string>> {
  return Object.fromEntries(FORMATS.map((format) => [format, FORMAT_FACTS[format].meaning]));
}

export const REFCOUNT_MEANINGS: Readonly<Record<RefcountMode, string>> = {
  eager: 'qcow2 writes refcounts with each allocation, with an extra sync',
  lazy: 'qcow2 writes refcounts at a clean close; after a crash they are rebuilt',
};

export const CACHE_MEANINGS: Readonly<Record<CacheMode, string>> = {
  writethrough: 'page cache; every guest write ends with a flush',
  directsync: 'O_DIRECT; every guest write ends with a flush',
  writeback: 'page cache; synced when the guest flushes',
  none: 'O_DIRECT; synced when the guest flushes',
  unsafe: 'page cache; never synced',
};

export const DEVICE_MEANINGS: Readonly<Record<StorageKind, string>> = {
  file: 'real files in --dir, for timing',
  memory: 'memory that stores what is written: exact counts on any machine',
  null: 'memory that discards guest data: the cost of the harness itself',
};

export const ENGINE_MEANINGS: Readonly<Record<EngineName, string>> = {
  builtin: "this program's own raw, qcow2 and QED engines",
  qemu: 'the real qemu-io under strace, counted and compared with the builtin engine',
};

export const PAYLOAD_MEANINGS: Readonly<Record<PayloadKind, string>> = {
  pattern: 'all bytes of the n-th write are n mod 255 + 1',
  random: 'seeded bytes that do not compress',
  zero: 'zeroes',
};
