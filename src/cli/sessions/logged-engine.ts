/** A real QEMU that serves the cells of `crash --engine qemu`, in a directory of its own. */

import { join } from 'node:path';

import { copyFileSync, existsSync, mkdirSync } from '../../core/host-fs.ts';
import { CRASH_ACKS_SCHEMA, type CrashAcks } from '../../crash/log-acks.ts';
import type { ForeignEngine, LoggedJob } from '../../crash/record-logged.ts';
import type { FileStorage } from '../../device/file-storage.ts';
import { cellName } from '../../result/cell.ts';
import { cacheOptions, DISCARD_NO_UNREF } from '../../peer/qemu-io.ts';
import { runLoggedQemuIo, type LoggedSpan } from '../../peer/logged-qemu.ts';
import { findLoneQemuIo } from '../../peer/qemu-tools.ts';
import { replaceFile } from '../../result/atomic-file.ts';
import { ImageDirectory } from '../files/image-directory.ts';

/** Disposing removes its files. */
export type LoggedQemu = Disposable & { readonly engine: ForeignEngine };

export interface LoggedQemuOptions {
  /** With a build of QEMU; default: that of `PATH`. */
  readonly binDirectory?: string | undefined;
  /** Where a new folder gets the image before the first run, its log and its requests. */
  readonly keptIn?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** @throws Qcow2BenchError `peer-missing` */
export async function loggedQemu({ binDirectory, keptIn, signal }: LoggedQemuOptions): Promise<LoggedQemu> {
  const { qemuIo } = await findLoneQemuIo({ binDirectory });
  const directory = new ImageDirectory();
  const { storage } = directory;
  // Later runs are those of shorter examples.
  let isKept = false;
  return {
    engine: {
      storage,
      serve: async (job) => {
        const { plan, imageName, backing, logName, requests, dataNames } = job;
        const { format, cache, discard, caches, discardNoUnref } = plan.cell;
        const kept = keptIn === undefined || isKept ? undefined : new KeptRun(keptIn, storage, job);
        isKept = true;
        const spans = await runLoggedQemuIo({
          image: {
            path: storage.pathOf(imageName),
            format,
            cache,
            discard,
            imageOptions: { ...cacheOptions(caches), ...(discardNoUnref === true ? DISCARD_NO_UNREF : {}) },
          },
          backing: backing.map((file) => ({ path: storage.pathOf(file.name), format: file.format })),
          logPath: storage.pathOf(logName),
          requests,
          dataPaths: new Map([...dataNames].map(([index, name]) => [index, storage.pathOf(name)])),
          qemuIo,
          signal,
        });
        kept?.add(spans);
        return spans;
      },
    },
    [Symbol.dispose]: () => {
      directory[Symbol.dispose]();
    },
  };
}

/** A folder with all that `--log` needs to explore a run again. */
class KeptRun {
  readonly #folder: string;
  readonly #storage: FileStorage;
  readonly #job: LoggedJob;

  /** Keeps the image as it is now. */
  constructor(parent: string, storage: FileStorage, job: LoggedJob) {
    this.#folder = newFolder(parent, cellName(job.plan.cell));
    this.#storage = storage;
    this.#job = job;
    for (const name of [job.imageName, ...job.backing.map((file) => file.name)]) this.#copy(name);
  }

  /** Keeps the log, and the requests. */
  add(spans: readonly LoggedSpan[]): void {
    const { plan, requests, logName, writeNumbers } = this.#job;
    this.#copy(logName);
    const acks: CrashAcks = {
      schema: CRASH_ACKS_SCHEMA,
      cache: plan.cell.cache,
      requests: requests.map(({ op, offset, length, fua, unmap }, index) => ({
        op,
        offset,
        length,
        fua,
        unmap,
        began: spans[index]?.began ?? 0,
        done: spans[index]?.done ?? null,
        ...(op === 'write' ? { write: writeNumbers.get(index) } : {}),
      })),
    };
    const text = `${JSON.stringify(acks, null, 1)}\n`;
    replaceFile(join(this.#folder, 'acks.json'), text, { durable: false });
  }

  #copy(name: string): void {
    copyFileSync(this.#storage.pathOf(name), join(this.#folder, name));
  }
}

/** Nothing of an earlier run is replaced. */
function newFolder(parent: string, name: string): string {
  const words = name.toLowerCase().replaceAll(/[^a-z0-9.]+/g, '-');
  let number = 1;
  let path = join(parent, words);
  while (existsSync(path)) path = join(parent, `${words}-${String(++number)}`);
  mkdirSync(path);
  return path;
}
