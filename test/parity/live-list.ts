/**
 * One list, live: QEMU makes the files, both engines serve the same requests on copies of them, and
 * everything that can be compared is. QEMU is run again a few times where it did other operations
 * than ours: its own order may vary (`varying-order.ts`).
 */

import { linkSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { probeCapabilities } from '../../src/device/capabilities.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import type { HostOperation } from '../../src/peer/host-operation.ts';
import { copySparse } from '../../src/device/file-copy.ts';
import { firstDifference } from '../../src/peer/whole-file.ts';
import { misreadByQemu, serveWithBuiltin, serveWithQemu, type BuiltinRun } from './both-engines.ts';
import { writtenFiles, type ParityList } from './parity-list.ts';
import { peerProfile } from './peer-stack.ts';
import { makeStartFiles } from './start-files.ts';
import { judgeOrder, ORDER_RUNS, wantsAnotherRun, type OrderVerdict } from '../../src/peer/varying-order.ts';

export interface LiveOutcome {
  /** Where the files are as they were before the run. */
  readonly start: FileStorage;
  readonly ours: BuiltinRun;
  readonly order: OrderVerdict;
  /** Where ours are after the run. */
  readonly end: FileStorage;
  /** Runs of QEMU it took. */
  readonly runs: number;
  /** What differs, in words; empty if nothing does. */
  readonly differences: readonly string[];
}

/**
 * Serves `list` with both engines below `directory`, which is left to the caller to remove.
 *
 * @param recordedFrom what the same QEMU did when it was recorded, if it was with these files: one
 *   more run, for orders that come once in a hundred.
 */
export async function runLive(
  list: ParityList,
  directory: string,
  recordedFrom?: (start: FileStorage) => Promise<readonly HostOperation[] | undefined>,
): Promise<LiveOutcome> {
  const place = (name: string): string => join(directory, name);
  for (const name of ['start', 'ours']) mkdirSync(place(name));
  const capabilities = probeCapabilities(place('start'));
  const start = new FileStorage(place('start'), capabilities);
  const end = new FileStorage(place('ours'), capabilities);
  await makeStartFiles(list, start.directory);
  await copyFiles(list, start.directory, end.directory);
  const ours = await serveWithBuiltin(list, end, peerProfile());
  const runs: (readonly HostOperation[])[] = [];
  for (;;) {
    const folder = place(`theirs-${String(runs.length)}`);
    mkdirSync(folder);
    await copyFiles(list, start.directory, folder);
    const { operations, misreads } = await serveWithQemu(list, folder, {
      ours,
      slowed: ORDER_RUNS[runs.length],
    });
    runs.push(operations);
    const live = judgeOrder(ours.records, runs);
    if (wantsAnotherRun(live)) continue;
    const recorded = live.comparison.identical ? undefined : await recordedFrom?.(start);
    const order = recorded === undefined ? live : judgeOrder(ours.records, [recorded, ...runs]);
    return {
      start,
      ours,
      order,
      end,
      runs: runs.length,
      differences: [
        ...(order.comparison.identical ? [] : [order.comparison.text]),
        ...(await differingFiles(list, end.directory, folder)),
        ...ours.wrongReads,
        ...misreads,
        ...said(misreadByQemu(list, folder, ours.readBack)),
      ],
    };
  }
}

/** Copies what will be written; what is only read is in both places. */
async function copyFiles(list: ParityList, from: string, to: string): Promise<void> {
  for (const name of writtenFiles(list)) await copySparse(join(from, name), join(to, name));
  for (const { name } of list.files.slice(1)) linkSync(join(from, name), join(to, name));
}

async function differingFiles(list: ParityList, ours: string, theirs: string): Promise<readonly string[]> {
  const differences: string[] = [];
  for (const name of writtenFiles(list)) {
    const offset = await firstDifference(join(ours, name), join(theirs, name));
    if (offset !== undefined) differences.push(`the final bytes of ${name} differ from ${String(offset)} on`);
  }
  return differences;
}

function said(text: string): readonly string[] {
  return text === '' ? [] : [`after the run QEMU reads other bytes: ${text}`];
}
