/**
 * The recording of a cell whose requests another program serves: on the files that our engines begin
 * with, with the same data, and with a log of what it does to the image.
 */

import { backingChain, unnamedFormat, type NamedFile } from '../bench/backing-layers.ts';
import type { CellPlan } from '../bench/engine.ts';
import { prepareFiles } from '../bench/prepare.ts';
import { SECTOR_SIZE } from '../core/alignment.ts';
import { QEMU_FORMATS } from '../core/format-name.ts';
import { stampSectors } from '../core/sector-stamp.ts';
import type { Storage } from '../device/storage.ts';
import { hasDataFile } from '../format/image-shape.ts';
import type { Request } from '../workload/request.ts';
import { copyPages, copyWhole } from './copied-files.ts';
import { recordingOfLog, type LoggedRequest } from './log-recording.ts';
import { PageFiles, tokensOf } from './pages.ts';
import { FIRST_WRITE, subjectOf } from './record-cell.ts';
import { Recorder } from './recorder.ts';
import type { Recording } from './recording.ts';
import { isImageStep, type Step } from './steps.ts';
import { readWriteLog } from './write-log.ts';

const IMAGE = 'disk';
const BACKING = 'base';
const LOG = 'log';

/** What the other program is to do; all names are of files in the storage. */
export interface LoggedJob {
  readonly plan: CellPlan;
  readonly imageName: string;
  readonly backing: readonly NamedFile[];
  /** An empty file, for the log. */
  readonly logName: string;
  readonly requests: readonly Request[];
  /** By index of the request, of a write: a file with its data. */
  readonly dataNames: ReadonlyMap<number, string>;
  /** The number with which each write was stamped, by index of the request. */
  readonly writeNumbers: ReadonlyMap<number, number>;
}

export interface ForeignEngine {
  /** Where the program can work. */
  readonly storage: Storage;
  /** Serves the requests; answers how many entries the log had when each began and was answered. */
  readonly serve: (job: LoggedJob) => Promise<readonly Pick<LoggedRequest, 'began' | 'done'>[]>;
}

/** Why another program cannot serve a cell so that all of it is in a log; `undefined` if it can. */
export function unsupportedByLog({ cell }: CellPlan, hasSteps: boolean): string | undefined {
  if (!(QEMU_FORMATS as readonly string[]).includes(cell.format)) return `QEMU has no format ${cell.format}`;
  if (hasSteps) return 'another engine serves guest requests only: leave out --steps';
  if (hasDataFile(cell.shape)) return 'a log has the writes of one file, and not those of a data file';
  if (cell.queueDepth > 1) return 'another engine serves one request at a time: use --queue-depth 1';
  return cell.policy === undefined ? undefined : `only the builtin engine has the policy ${cell.policy}`;
}

/** @throws Qcow2BenchError of the files, of the program, or of its log */
export async function recordLogged(
  plan: CellPlan,
  {
    requests,
    engine,
    signal,
  }: {
    readonly requests: readonly Step[];
    readonly engine: ForeignEngine;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<Recording> {
  const { storage } = engine;
  const fills = new Recorder();
  const fillDisk = fills.disk.bind(fills);
  const names = { imageName: IMAGE, backingName: BACKING };
  using prepared = await prepareFiles({ plan, storage, ...names, signal, fillDisk });
  const backing = backingChain(plan, BACKING);
  const base = new PageFiles();
  const constants = new Map<string, Uint8Array>();
  await reading(storage, prepared.imageName, (device) => copyPages(device, base, 0));
  for (const { name } of backing) {
    await reading(storage, name, async (device) => {
      constants.set(name, await copyWhole(device));
    });
  }
  const guest = requests.filter((step): step is Request => !isImageStep(step));
  using files = new WorkFiles(storage);
  await files.add(LOG, undefined);
  const dataNames = new Map<number, string>();
  const writeNumbers = new Map<number, number>();
  const tokens = new Map<number, Float64Array>();
  for (const [index, { op, offset, length }] of guest.entries()) {
    if (op !== 'write') continue;
    const bytes = new Uint8Array(length);
    const write = FIRST_WRITE + index;
    stampSectors(bytes, { sector: offset / SECTOR_SIZE, write });
    writeNumbers.set(index, write);
    tokens.set(index, tokensOf(bytes));
    dataNames.set(index, `write-${String(index)}`);
    await files.add(`write-${String(index)}`, bytes);
  }
  const job = {
    plan,
    imageName: prepared.imageName,
    backing,
    logName: LOG,
    requests: guest,
    dataNames,
    writeNumbers,
  };
  const spans = await engine.serve(job);
  const logged = guest.flatMap((request, index): readonly LoggedRequest[] => {
    const { op, offset, length, fua, unmap } = request;
    const { began = 0, done = Infinity } = spans[index] ?? {};
    if (op === 'read') return [];
    const when = { began, done, beganAt: 2 * index, doneAt: 2 * index + 1 };
    return [{ op, offset, length, fua, unmap, ...when, tokens: tokens.get(index) }];
  });
  const log = await reading(storage, LOG, (device) => readWriteLog(device, { isWhole: true }));
  const subject = subjectOf(plan, {
    files: [{ name: IMAGE, label: 'image' }],
    constants,
    clusterSize: plan.cell.clusterSize ?? 1,
    unnamedFormat: unnamedFormat(plan),
  });
  return await recordingOfLog({ subject, base }, log.entries, { from: 'requests', requests: logged });
}

async function reading<T>(
  storage: Storage,
  name: string,
  work: (device: ReturnType<Storage['open']>) => Promise<T>,
): Promise<T> {
  const device = storage.open(name, { readOnly: true });
  try {
    return await work(device);
  } finally {
    await device.close();
  }
}

/** Files that are gone afterwards. */
class WorkFiles implements Disposable {
  readonly #storage: Storage;
  readonly #names: string[] = [];

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  async add(name: string, bytes: Uint8Array | undefined): Promise<void> {
    const device = this.#storage.create(name);
    this.#names.push(name);
    try {
      if (bytes !== undefined) await device.write(0, bytes, 'data');
    } finally {
      await device.close();
    }
  }

  [Symbol.dispose](): void {
    for (const name of this.#names) this.#storage.remove(name);
  }
}
