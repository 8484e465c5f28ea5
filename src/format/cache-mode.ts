/** Cache modes, as QEMU defines them (qemu-system(1), `cache=`; rule R2 in docs/qemu-rules.md). */

export const CACHE_MODES = ['writethrough', 'directsync', 'writeback', 'none', 'unsafe'] as const;
export type CacheMode = (typeof CACHE_MODES)[number];

export interface CacheModeRules {
  /** Host files are opened with O_DIRECT. */
  readonly direct: boolean;
  /** Every guest write ends with a full flush. */
  readonly flushAfterWrite: boolean;
  /** No fdatasync is ever issued; tables are still written at a flush. */
  readonly neverSync: boolean;
}

export const CACHE_MODE_RULES: Readonly<Record<CacheMode, CacheModeRules>> = {
  writethrough: { direct: false, flushAfterWrite: true, neverSync: false },
  directsync: { direct: true, flushAfterWrite: true, neverSync: false },
  writeback: { direct: false, flushAfterWrite: false, neverSync: false },
  none: { direct: true, flushAfterWrite: false, neverSync: false },
  unsafe: { direct: false, flushAfterWrite: false, neverSync: true },
};
