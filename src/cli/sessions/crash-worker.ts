/** A thread of `crash`: explores the cells that it is sent, one at a time. */

import { parentPort, workerData } from 'node:worker_threads';

import { assertInvariant, Qcow2BenchError } from '../../core/error.ts';
import { planCrashCells, type CrashArgs } from './crash-cells.ts';
import { exploreCrashCell } from './explore-crash-cell.ts';
import type { CellOrder, CellReport } from './crash-threads.ts';

const port = parentPort;
assertInvariant(port !== null, 'the file of a thread was run on its own');
const args = workerData as CrashArgs;
let plans: ReturnType<typeof planCrashCells> | undefined;

const send = (report: CellReport): undefined => {
  port.postMessage(report);
};

port.on('message', (order: CellOrder) => {
  exploreOrdered(order).catch((error: unknown) => {
    const message = error instanceof Error ? error.message : String(error);
    send({ kind: 'failed', message, code: error instanceof Qcow2BenchError ? error.code : undefined });
  });
});

async function exploreOrdered({ index, shown }: CellOrder): Promise<void> {
  plans ??= planCrashCells(args);
  const cell = (await plans)[index];
  assertInvariant(cell !== undefined, 'threads plan the same cells');
  const turn = (tried: number): undefined => send({ kind: 'tried', tried });
  const findings = await exploreCrashCell(cell, args, { turn, shown, signal: undefined });
  send({ kind: 'found', findings });
}
