/**
 * Cells of `crash` explored in threads, one cell in each at a time. A thread gets the options and
 * plans the cells itself.
 */

import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';

import { Qcow2BenchError } from '../../core/error.ts';
import type { CellFindings } from '../../crash/explore-cell.ts';
import type { CrashArgs } from './crash-cells.ts';

/** To a thread: explore this cell. */
export interface CellOrder {
  readonly index: number;
  readonly shown: ReadonlySet<string>;
}

/** From a thread: progress, then what was found or why nothing was. */
export type CellReport =
  | { readonly kind: 'tried'; readonly tried: number }
  | { readonly kind: 'found'; readonly findings: CellFindings }
  /** The message has the place of the error. */
  | { readonly kind: 'failed'; readonly message: string; readonly code: string | undefined };

export class CrashThread implements Disposable {
  readonly #worker: Worker;

  constructor(args: CrashArgs) {
    const file = new URL(`./crash-worker${extname(import.meta.url)}`, import.meta.url);
    this.#worker = new Worker(file, { workerData: args });
  }

  /** @throws what the thread threw; the signal's reason if it aborts */
  explore(
    order: CellOrder,
    { onTried, signal }: { readonly onTried: (tried: number) => void; readonly signal: AbortSignal },
  ): Promise<CellFindings> {
    const worker = this.#worker;
    return new Promise((resolve, reject) => {
      const end = (settle: () => void): void => {
        worker.off('message', onMessage);
        worker.off('error', onError);
        signal.removeEventListener('abort', onAbort);
        settle();
      };
      const onMessage = (report: CellReport): void => {
        switch (report.kind) {
          case 'tried':
            onTried(report.tried);
            break;
          case 'found':
            end(() => {
              resolve(report.findings);
            });
            break;
          case 'failed':
            end(() => {
              reject(errorOf(report));
            });
        }
      };
      const onError = (error: unknown): void => {
        end(() => {
          reject(error instanceof Error ? error : new Error(String(error)));
        });
      };
      const onAbort = (): void => {
        onError(signal.reason);
      };
      worker.on('message', onMessage);
      worker.on('error', onError);
      signal.addEventListener('abort', onAbort);
      worker.postMessage(order);
    });
  }

  [Symbol.dispose](): void {
    void this.#worker.terminate();
  }
}

function errorOf({ message, code }: CellReport & { readonly kind: 'failed' }): Error {
  return code === undefined ? new Error(message) : new Qcow2BenchError(code, message);
}
