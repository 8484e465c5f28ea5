/**
 * One list, live: QEMU makes the files, both engines serve the same requests on copies of them, and everything that
 * can be compared is.
 *
 * QEMU's thread pool decides in which order it does the extents of one request. A list whose requests let that order
 * decide more than a stretch between two syncs differs from one run of QEMU to the next; such a list is run again a
 * few times, and ours has to be one of QEMU's sequences (exception `varying-order`). Where it never is, a second sync
 * within such a request may be what sets them apart (exception `late-extent`).
 */

import { linkSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { probeCapabilities } from '../../src/device/capabilities.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import { compareOperations, type Comparison } from '../../src/peer/compare-operations.ts';
import type { HostOperation } from '../../src/peer/host-operation.ts';
import { copySparse, firstDifference } from '../../src/peer/whole-file.ts';
import { misreadByQemu, serveWithBuiltin, serveWithQemu, type BuiltinRun } from './both-engines.ts';
import type { ParityList } from './parity-list.ts';
import { makeStartFiles } from './start-files.ts';

export type ExceptionName = 'varying-order' | 'late-extent';

/** Runs of QEMU before a list counts as different. */
const RUNS_MAX = 6;

export interface LiveOutcome {
  /** Where the files are as they were before the run. */
  readonly start: FileStorage;
  readonly ours: BuiltinRun;
  readonly theirs: readonly HostOperation[];
  /** Where ours lie after the run. */
  readonly end: FileStorage;
  /** Of QEMU that were compared. */
  readonly operations: number;
  /** Stretches between two syncs that are equal as sets only. */
  readonly reorderedStretches: number;
  /** Runs of QEMU it took: above 1, its own order varies. */
  readonly runs: number;
  /** Named exceptions of docs/qemu-rules.md that the list needed. */
  readonly exceptions: readonly ExceptionName[];
  /** What differs, in words; empty if nothing does. */
  readonly differences: readonly string[];
}

/** Serves `list` with both engines below `directory`, which is left to the caller to remove. */
export async function runLive(list: ParityList, directory: string): Promise<LiveOutcome> {
  const place = (name: string): string => join(directory, name);
  for (const name of ['start', 'ours']) mkdirSync(place(name));
  const capabilities = probeCapabilities(place('start'));
  const start = new FileStorage(place('start'), capabilities);
  const end = new FileStorage(place('ours'), capabilities);
  await makeStartFiles(list, start.directory);
  await copyFiles(list, start.directory, end.directory);
  const ours = await serveWithBuiltin(list, end);
  for (let run = 1; ; run++) {
    const folder = place(`theirs-${String(run)}`);
    mkdirSync(folder);
    await copyFiles(list, start.directory, folder);
    const { operations, misreads } = await serveWithQemu(list, join(folder, list.files[0].name), ours);
    const compare = (theirs: readonly HostOperation[]): Comparison =>
      compareOperations(ours.records, theirs, { ignoreFiles: below(list) });
    let theirs = operations;
    let comparison = compare(theirs);
    if (!comparison.identical && run < RUNS_MAX) continue;
    const exceptions: ExceptionName[] = run > 1 ? ['varying-order'] : [];
    if (!comparison.identical) {
      const timely = withoutLateSyncs(operations);
      const again = compare(timely);
      if (again.identical) {
        exceptions.push('late-extent');
        theirs = timely;
        comparison = again;
      }
    }
    return {
      start,
      ours,
      theirs,
      end,
      operations: comparison.operations,
      reorderedStretches: comparison.identical ? comparison.reorderedStretches : 0,
      runs: run,
      exceptions,
      differences: [
        ...(comparison.identical ? [] : [comparison.text]),
        ...(await differingFiles(list, end.directory, folder)),
        ...ours.wrongReads,
        ...misreads,
        ...said(misreadByQemu(list, join(folder, list.files[0].name), ours.readBack)),
      ],
    };
  }
}

/**
 * Extents of one request are tasks of their own in QEMU: data that are written only while the sync of another extent
 * is under way are not covered by it, and cost a second sync. Leaves out a sync that follows another at once in a
 * request of several data writes.
 */
export function withoutLateSyncs(operations: readonly HostOperation[]): readonly HostOperation[] {
  const writes = new Map<number, number>();
  for (const { op, request } of operations) {
    if (op === 'write' && request !== undefined) writes.set(request, (writes.get(request) ?? 0) + 1);
  }
  return operations.filter(({ op, request }, index) => {
    const before = operations[index - 1];
    const isSecond = op === 'sync' && before?.op === 'sync' && before.request === request;
    return !(isSecond && request !== undefined && (writes.get(request) ?? 0) > 1);
  });
}

/** Backing files: QEMU opens them in ways of its own. */
export function below({ files }: ParityList): readonly string[] {
  return files.slice(1).map((_, depth) => `backing:${String(depth)}`);
}

/** Copies what will be written; what is only read stands in both places. */
async function copyFiles({ files }: ParityList, from: string, to: string): Promise<void> {
  for (const [depth, { name }] of files.entries()) {
    if (depth === 0) await copySparse(join(from, name), join(to, name));
    else linkSync(join(from, name), join(to, name));
  }
}

async function differingFiles(
  { files }: ParityList,
  ours: string,
  theirs: string,
): Promise<readonly string[]> {
  const [{ name }] = files;
  const offset = await firstDifference(join(ours, name), join(theirs, name));
  return offset === undefined ? [] : [`the final bytes of ${name} differ from ${String(offset)} on`];
}

function said(text: string): readonly string[] {
  return text === '' ? [] : [`after the run QEMU reads other bytes: ${text}`];
}
