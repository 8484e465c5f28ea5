/** `--host-fs`: what it needs, and the file systems that a run makes for it. */

import type { CellPlan } from '../../bench/engine.ts';
import type { HostFileSystems } from '../../bench/host-file-system.ts';
import type { MatrixArgs } from '../options/matrix-options.ts';
import type { Terminal } from '../terminal/terminal.ts';
import { UsageError } from '../terminal/usage-error.ts';

/**
 * What is counted below a file system is counted with the samples.
 *
 * @throws UsageError
 */
export function validateHostFs({ samples, device, engine, image }: MatrixArgs): void {
  if (image !== undefined) {
    throw new UsageError('--host-fs makes new images on file systems of its own: omit --image');
  }
  if (!(device.includes('file') && engine.includes('builtin'))) {
    throw new UsageError(
      '--host-fs needs the engine builtin and the device file: add them to --engine and --device',
    );
  }
  if (samples === 0) {
    throw new UsageError('--host-fs counts below the file system in timing samples: omit --samples 0');
  }
}

/** Each that a plan names is tried; loaded on demand, to keep other runs fast. */
export async function hostFileSystemsOf(
  plans: readonly CellPlan[],
  { directory, isTraced }: { readonly directory: string; readonly isTraced: boolean },
  terminal: Terminal,
): Promise<HostFileSystems | undefined> {
  const kinds = plans.map(({ cell }) => cell.hostFs).filter((kind) => kind !== undefined);
  if (kinds.length === 0) return undefined;
  terminal.warn(
    '--host-fs: what reaches the device below the file systems is counted; times there are of a loop device, not of a disk',
  );
  const { MadeFileSystems } = await import('../../below/made-file-systems.ts');
  return MadeFileSystems.tried(kinds, { directory, isTraced });
}
