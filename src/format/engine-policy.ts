/**
 * What an engine does to keep its metadata in order: as QEMU, or another way that writes the same
 * format. Engines read the rules of a policy; no code compares names.
 *
 * Invariants:
 * - A rule is read once, when an image is opened.
 * - No rule changes what is written to a file, only when, and what is synced before. So an image
 *   has the same bytes with every policy once it is closed.
 */

export const ENGINE_POLICY_NAMES = ['qemu', 'strict'] as const;
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
}

export const ENGINE_POLICIES: Readonly<Record<EnginePolicyName, EnginePolicy>> = {
  qemu: { syncsDataBeforeL2: false, syncsUnlinkBeforeReuse: false, syncsMarkBeforeLink: false },
  strict: { syncsDataBeforeL2: true, syncsUnlinkBeforeReuse: true, syncsMarkBeforeLink: true },
};

export const DEFAULT_ENGINE_POLICY: EnginePolicyName = 'qemu';

/** The rules of a policy, or of the default. */
export function enginePolicy(name: EnginePolicyName = DEFAULT_ENGINE_POLICY): EnginePolicy {
  return ENGINE_POLICIES[name];
}
