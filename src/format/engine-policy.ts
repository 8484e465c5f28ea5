/**
 * What an engine does to keep its metadata in order: as QEMU, or another way that writes the same
 * format. Engines read the rules of a policy; no code compares names.
 *
 * Invariants:
 * - A rule is read once, when an image is opened.
 * - Rules change when a file is written, how much of a table at once, and what is synced before. An
 *   image has the same bytes with every policy once it is closed, if its requests came one by one.
 */

export const ENGINE_POLICY_NAMES = ['qemu', 'strict', 'sector', 'group-commit', 'soft-updates'] as const;
export type EnginePolicyName = (typeof ENGINE_POLICY_NAMES)[number];

export interface EnginePolicy {
  /**
   * New data, and the fill around them, are durable before an L2 entry of qcow2 leads to them. QEMU
   * orders only what it copied, and with eager refcounts the image's own data by the way: hazards
   * `unordered-zero-fill` and `unordered-data` of docs/durability.md.
   */
  readonly syncsDataBeforeL2: boolean;
  /**
   * An entry that led to a cluster of qcow2 is durably gone before the cluster is used again:
   * hazard `early-reuse`.
   */
  readonly syncsUnlinkBeforeReuse: boolean;
  /** QED's need-check mark is durable before the first link of a session: hazard `qed-need-check`. */
  readonly syncsMarkBeforeLink: boolean;
  /**
   * New refcounts of qcow2 are durable before the L2 entries that need them, and removed entries
   * before the refcounts that free their clusters. Without the sync they are only written first:
   * enough on a device that keeps the order of writes.
   */
  readonly syncsBetweenTables: boolean;
  /**
   * Bytes: of a changed table of qcow2, the units of this size around what changed are written.
   * QEMU writes whole tables, or slices of L2 tables.
   */
  readonly tableWriteUnit: number | undefined;
  /** Flushes that wait for one that is in flight become one, for all of them. */
  readonly sharesFlushes: boolean;
}

const QEMU: EnginePolicy = {
  syncsDataBeforeL2: false,
  syncsUnlinkBeforeReuse: false,
  syncsMarkBeforeLink: false,
  syncsBetweenTables: true,
  tableWriteUnit: undefined,
  sharesFlushes: false,
};

/** What every device writes without reading, and every page cache at once. */
const PAGE = 4096;

const ENGINE_POLICIES: Readonly<Record<EnginePolicyName, EnginePolicy>> = {
  qemu: QEMU,
  strict: { ...QEMU, syncsDataBeforeL2: true, syncsUnlinkBeforeReuse: true, syncsMarkBeforeLink: true },
  sector: { ...QEMU, tableWriteUnit: PAGE },
  'group-commit': { ...QEMU, sharesFlushes: true },
  'soft-updates': { ...QEMU, syncsBetweenTables: false },
};

export const DEFAULT_ENGINE_POLICY: EnginePolicyName = 'qemu';

/** The rules of a policy, or of the default. */
export function enginePolicy(name: EnginePolicyName = DEFAULT_ENGINE_POLICY): EnginePolicy {
  return ENGINE_POLICIES[name];
}
