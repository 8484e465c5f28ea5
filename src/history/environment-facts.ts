/**
 * What of an environment times depend on: its identity in a history, and how it is named when it
 * changes.
 *
 * Invariant: what differs from run to run on one machine (load, date, directory, names of devices)
 * is left out, as is the version of the program: that is what is measured.
 */

import type { Environment } from '../result/schema.ts';

/** Facts by name, as text; an unknown one is left out. */
export type EnvironmentFacts = Readonly<Record<string, string>>;

export function environmentFacts({
  node,
  platform,
  arch,
  kernel,
  cpu,
  cores,
  governor,
  isVirtual,
  fileSystem,
  compression,
  qemu,
}: Environment): EnvironmentFacts {
  const device = fileSystem?.device;
  const facts: Readonly<Record<string, string | number | boolean | undefined>> = {
    node,
    platform,
    arch,
    kernel,
    cpu,
    cores,
    governor,
    virtual: isVirtual,
    'file system': fileSystem?.type,
    'mount options': fileSystem?.mountOptions.join(','),
    storage: device?.model,
    rotational: device?.isRotational,
    'write cache': device?.writeCache,
    scheduler: device?.scheduler,
    zlib: compression?.zlib,
    zstd: compression?.zstd,
    qemu,
  };
  const known = Object.entries(facts).flatMap(([name, value]) =>
    value === undefined || value === '' ? [] : [[name, String(value)] as const],
  );
  return Object.fromEntries(known);
}

/** A string that identifies the environment. */
export function environmentKey(facts: EnvironmentFacts): string {
  return JSON.stringify(Object.entries(facts).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** What differs, one text for each fact: `kernel 6.1.0 → 6.12.0`. */
export function environmentChanges(before: EnvironmentFacts, after: EnvironmentFacts): readonly string[] {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  return names
    .filter((name) => before[name] !== after[name])
    .map((name) => `${name} ${before[name] ?? 'unknown'} → ${after[name] ?? 'unknown'}`);
}
