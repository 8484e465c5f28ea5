/** Explores one cell of `crash`, in this thread, with the programs that its options ask for. */

import {
  BUILTIN_ENGINE,
  exploreCell,
  type CellFindings,
  type CellOptions,
} from '../../crash/explore-cell.ts';
import { PROCESS_CLOCK } from './clock.ts';
import { cellOptions, qemuDirectory, type CrashArgs, type CrashCell } from './crash-cells.ts';
import { loggedQemu } from './logged-engine.ts';

export async function exploreCrashCell(
  { plan, steps }: CrashCell,
  args: CrashArgs,
  options: Pick<CellOptions, 'turn' | 'shown' | 'signal'>,
): Promise<CellFindings> {
  using directory = qemuDirectory(args);
  using foreign =
    plan.cell.engine === BUILTIN_ENGINE
      ? undefined
      : await loggedQemu({
          binDirectory: args['qemu-bin-dir'],
          keptIn: args['keep-logs'],
          signal: options.signal,
        });
  return await exploreCell(
    plan,
    { ...cellOptions(args), ...options, steps, qemu: directory?.qemu, foreign: foreign?.engine },
    () => PROCESS_CLOCK.nowNs(),
  );
}
