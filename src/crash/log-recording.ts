/**
 * A recording from the log of another program: the writes, discards and flushes of one image file in
 * the order in which they were done, and what its guest was promised.
 *
 * What was promised is known in one of three ways:
 * - from the guest's requests, with how far the log was when each began and was answered
 * - from the log's flushes and writes with FUA: what the image holds at one is taken for promised
 * - from the log's marks, in the same way: a flush that the log's maker saw answered
 *
 * In the second and third way what the guest wrote is what the image shows of it after each entry. So
 * old and in-flight values are known, but nothing that the image shows only later.
 *
 * The same holds for the size of the disk.
 *
 * Invariants: each entry is done before the next is issued. Purposes come from the layout of the file
 * before and after, and not from the program. A log has no new sizes of the file: it is as long as its
 * entries make it.
 */

import { SECTOR_SIZE } from '../core/alignment.ts';
import { Qcow2BenchError } from '../core/error.ts';
import type { Purpose } from '../device/purpose.ts';
import { metadataIn, type FileLayout } from '../format/file-layout.ts';
import { readFileLayout } from '../format/registry.ts';
import { REQUEST_OPS } from '../workload/request.ts';
import type { HostIndex } from './extents.ts';
import { applyOperation, pagesOf } from './layers.ts';
import { tokensOf, ZERO_TOKEN, type PageFiles } from './pages.ts';
import type { GuestRequest, Operation, Recording, Subject, Sync } from './recording.ts';
import { contentsOfDisk, type DiskContents, type Start } from './start.ts';
import { ScratchFiles, StateDevice } from './state-device.ts';
import type { LogEntry } from './write-log.ts';

/** What a guest asked for, or a new size of its disk. */
export const LOGGED_OPS = [...REQUEST_OPS, 'resize'] as const;

/** A guest request, and how many entries the log had. */
export interface LoggedRequest {
  readonly op: (typeof LOGGED_OPS)[number];
  /** Of a resize: the new size. */
  readonly offset: number;
  readonly length: number;
  readonly fua: boolean;
  readonly unmap: boolean;
  /** When it began. */
  readonly began: number;
  /** When it was answered; `Infinity` if it was not, or failed. */
  readonly done: number;
  /** By one clock for all: where the log is as long, it has the order of beginnings and answers. */
  readonly beganAt: number;
  readonly doneAt: number;
  /** Of a write: what each of its sectors holds. */
  readonly tokens: Float64Array | undefined;
}

/** What the guest was promised, and when. */
export type Acknowledgements =
  | { readonly from: 'flushes' | 'marks' }
  | { readonly from: 'requests'; readonly requests: readonly LoggedRequest[] };

/** @throws Qcow2BenchError of the image before the log, if it cannot be opened */
export async function recordingOfLog(
  image: { readonly subject: Subject; readonly base: PageFiles },
  entries: readonly LogEntry[],
  acknowledgements: Acknowledgements,
): Promise<Recording> {
  const { base } = image;
  // What is seen of a write promises nothing before the next flush.
  const isSeen = acknowledgements.from !== 'requests';
  const subject: Subject = isSeen ? { ...image.subject, cache: 'writeback' } : image.subject;
  const purposeOf = await purposes(subject, base, entries);
  const start = await contentsOfDisk(subject, base);
  const { from } = acknowledgements;
  const guest =
    acknowledgements.from === 'requests'
      ? new KnownGuest(acknowledgements.requests, start.size)
      : new SeenGuest({ subject, base, start, promisesAt: from === 'marks' ? 'mark' : 'flush' });
  const copied = copiedTokens(base, start, guest.tokens);
  const log: Log = { operations: [], syncs: [], requests: [], events: 0 };
  for (const entry of entries) {
    await guest.before(entry, log);
    const { kind } = entry;
    if (kind === 'flush') log.syncs.push(syncAt(log, undefined));
    else if (kind !== 'mark') {
      const operation = operationOf(entry, log, { purpose: purposeOf(entry), copied });
      log.operations.push(operation);
      if (entry.fua) log.syncs.push(syncAt(log, log.operations.length - 1));
      await guest.changed(operation, entry, log);
    }
    await guest.after(entry, log);
  }
  guest.end(log);
  const { operations, syncs, requests, events } = log;
  return { subject, base, operations, syncs, requests, endsAt: events, isClosed: false };
}

/** What was recorded so far. */
interface Log {
  readonly operations: Operation[];
  readonly syncs: Sync[];
  readonly requests: GuestRequest[];
  /** Number of the next event. */
  events: number;
}

function syncAt(log: Log, only: number | undefined): Sync {
  const [issuedAt, doneAt] = [log.events++, log.events++];
  return { file: 0, cause: undefined, request: undefined, issuedAt, doneAt, failed: false, only };
}

function operationOf(
  { kind, offset, length, bytes }: LogEntry,
  log: Log,
  { purpose, copied }: { readonly purpose: Purpose; readonly copied: (bytes: Uint8Array) => boolean },
): Operation {
  const [issuedAt, doneAt] = [log.events++, log.events++];
  const isData = purpose === 'data';
  return {
    file: 0,
    op: kind === 'discard' ? 'punch-hole' : 'write',
    offset,
    length,
    bytes,
    purpose,
    hasCopy: isData && bytes !== undefined && copied(bytes),
    request: log.requests.length === 0 ? undefined : log.requests.length - 1,
    issuedAt,
    doneAt,
  };
}

/** What a guest did, as far as it is known. */
interface Guest {
  /** Of all that it wrote, if that is known beforehand. */
  readonly tokens: ReadonlySet<number> | undefined;
  before(entry: LogEntry, log: Log): Promise<void>;
  changed(operation: Operation, entry: LogEntry, log: Log): Promise<void>;
  after(entry: LogEntry, log: Log): Promise<void>;
  end(log: Log): void;
}

/** A request of a recording, as long as it may still be answered. */
type OpenRequest = { -readonly [Key in keyof GuestRequest]: GuestRequest[Key] };

/** That a request began, or that it was answered. */
interface GuestEvent {
  readonly request: LoggedRequest;
  readonly isAnswer: boolean;
  /** Entries that the log had. */
  readonly entries: number;
  readonly at: number;
}

/** Its requests are known, and when they were answered. */
class KnownGuest implements Guest {
  readonly tokens: ReadonlySet<number>;
  readonly #events: readonly GuestEvent[];
  readonly #open = new Map<LoggedRequest, OpenRequest>();
  #size: number;
  #next = 0;

  constructor(requests: readonly LoggedRequest[], size: number) {
    this.#size = size;
    this.tokens = new Set(requests.flatMap(({ tokens }) => [...(tokens ?? [])]));
    this.#events = requests
      .flatMap((request): readonly GuestEvent[] => {
        const { began, beganAt, done, doneAt } = request;
        const beginning = { request, isAnswer: false, entries: began, at: beganAt };
        if (done === Infinity) return [beginning];
        return [beginning, { request, isAnswer: true, entries: done, at: doneAt }];
      })
      // At one time, a beginning is before an answer: nothing is promised that is not certain.
      .toSorted((a, b) => a.at - b.at || Number(a.isAnswer) - Number(b.isAnswer));
  }

  before({ number }: LogEntry, log: Log): Promise<void> {
    this.#until(number, log);
    return Promise.resolve();
  }

  changed(): Promise<void> {
    return Promise.resolve();
  }

  after(): Promise<void> {
    return Promise.resolve();
  }

  end(log: Log): void {
    this.#until(Infinity, log);
  }

  /** Begins and answers what was begun and answered when the log had so many entries. */
  #until(entries: number, log: Log): void {
    for (;;) {
      const event = this.#events[this.#next];
      if (event === undefined || event.entries > entries) return;
      this.#next++;
      const open = this.#open.get(event.request);
      if (open === undefined) {
        const begun = this.#begun(event.request, log.events++);
        this.#open.set(event.request, begun);
        log.requests.push(begun);
      } else open.doneAt = log.events++;
    }
  }

  #begun({ op, offset, length, fua, unmap, tokens }: LoggedRequest, beganAt: number): OpenRequest {
    const rest = { snapshot: undefined, fua, unmap, beganAt, doneAt: Infinity, tokens };
    if (op !== 'resize') return { op, offset, length, ...rest };
    const [before, size] = [this.#size, offset];
    this.#size = size;
    return size < before
      ? { op: 'shrink', offset: size, length: before - size, ...rest }
      : { op: 'grow', offset: before, length: size - before, ...rest };
  }
}

/** What it wrote is what the image shows, entry by entry. */
class SeenGuest implements Guest {
  readonly tokens = undefined;
  readonly #subject: Subject;
  readonly #files: PageFiles;
  readonly #behind: Start['behind'];
  readonly #promisesAt: 'flush' | 'mark';
  #index: HostIndex;
  readonly #contents: Map<number, number>;
  #size: number;
  /** Sizes of the disk that were seen, and not promised yet. */
  #newSizes: OpenRequest[] = [];
  #flushBegan = 0;

  constructor({
    subject,
    base,
    start,
    promisesAt,
  }: {
    readonly subject: Subject;
    readonly base: PageFiles;
    readonly start: DiskContents;
    readonly promisesAt: 'flush' | 'mark';
  }) {
    this.#subject = subject;
    this.#files = base.clone();
    this.#behind = start.behind;
    this.#index = start.index;
    this.#contents = new Map(start.initial);
    this.#size = start.size;
    this.#promisesAt = promisesAt;
  }

  before(_entry: LogEntry, log: Log): Promise<void> {
    this.#flushBegan = log.events++;
    return Promise.resolve();
  }

  async changed(operation: Operation, { fua }: LogEntry, log: Log): Promise<void> {
    const changes = await this.#changes(operation, log);
    const doneAt = log.events++;
    const isPromise = fua && this.#promisesAt === 'flush';
    for (const { first, tokens } of rangesOf(changes)) {
      log.requests.push({
        op: 'write',
        offset: first * SECTOR_SIZE,
        length: tokens.length * SECTOR_SIZE,
        snapshot: undefined,
        fua: isPromise,
        unmap: false,
        beganAt: this.#flushBegan,
        doneAt,
        tokens,
      });
    }
  }

  after({ kind }: LogEntry, log: Log): Promise<void> {
    if (kind !== this.#promisesAt) return Promise.resolve();
    const when = { beganAt: this.#flushBegan, doneAt: log.events++ };
    log.requests.push({ ...NO_RANGE, op: 'flush', offset: 0, ...when });
    for (const size of this.#newSizes) size.doneAt = log.events++;
    this.#newSizes = [];
    return Promise.resolve();
  }

  end(): void {
    // Nothing is open.
  }

  /** What each guest sector that changed holds now. */
  async #changes(operation: Operation, log: Log): Promise<ReadonlyMap<number, number>> {
    const numbers = pagesOf(operation, [this.#files.pages]);
    applyOperation(this.#files, operation);
    const changes = new Map<number, number>();
    const spans = numbers.map((number) => ({ number, spans: this.#index.spansOf(number) }));
    if (numbers.length === 0 || spans.some((each) => each.spans.length === 0)) {
      return (await this.#read(log)) ?? changes;
    }
    // All of it is guest data: nothing has another place.
    for (const { number, spans: found } of spans) {
      const { tokens } = this.#files.page(number);
      for (const { from, sectors, guest } of found) {
        for (let n = 0; n < sectors; n++) this.#put(guest + n, tokens[from + n] as number, changes);
      }
    }
    return changes;
  }

  /** The whole disk; nothing if the image cannot be opened in the middle of a change. */
  async #read(log: Log): Promise<ReadonlyMap<number, number> | undefined> {
    try {
      const { initial, index, size } = await contentsOfDisk(this.#subject, this.#files, this.#behind);
      this.#index = index;
      this.#resize(size, log);
      const changes = new Map<number, number>();
      for (const [sector, token] of initial) this.#put(sector, token, changes);
      for (const sector of [...this.#contents.keys()]) {
        if (!initial.has(sector)) this.#put(sector, ZERO_TOKEN, changes);
      }
      return changes;
    } catch (error) {
      if (error instanceof Qcow2BenchError) return undefined;
      throw error;
    }
  }

  /** What the sectors that come or go hold is seen as any other change. */
  #resize(size: number, log: Log): void {
    if (size === this.#size) return;
    const op = size < this.#size ? 'shrink' : 'grow';
    const request: OpenRequest = {
      ...NO_RANGE,
      op,
      offset: size,
      beganAt: this.#flushBegan,
      doneAt: Infinity,
    };
    this.#size = size;
    this.#newSizes.push(request);
    log.requests.push(request);
  }

  #put(sector: number, token: number, changes: Map<number, number>): void {
    if ((this.#contents.get(sector) ?? ZERO_TOKEN) === token) return;
    changes.set(sector, token);
    if (token === ZERO_TOKEN) this.#contents.delete(sector);
    else this.#contents.set(sector, token);
  }
}

/** Of a request without sectors. */
const NO_RANGE = { length: 0, snapshot: undefined, fua: false, unmap: false, tokens: undefined };

function rangesOf(
  changes: ReadonlyMap<number, number>,
): readonly { readonly first: number; readonly tokens: Float64Array }[] {
  const ranges: { first: number; tokens: number[] }[] = [];
  for (const [sector, token] of [...changes].toSorted(([a], [b]) => a - b)) {
    const last = ranges.at(-1);
    if (last !== undefined && last.first + last.tokens.length === sector) last.tokens.push(token);
    else ranges.push({ first: sector, tokens: [token] });
  }
  return ranges.map(({ first, tokens }) => ({ first, tokens: Float64Array.from(tokens) }));
}

/**
 * Whether bytes hold what was on the disk or behind it before, and so may be copied from elsewhere:
 * of a guest whose writes are known, anything else that it did not write.
 */
function copiedTokens(
  base: PageFiles,
  { behind }: Start,
  written: ReadonlySet<number> | undefined,
): (bytes: Uint8Array) => boolean {
  if (written !== undefined) {
    return (bytes) => tokensOf(bytes).some((token) => token !== ZERO_TOKEN && !written.has(token));
  }
  const before = new Set(behind.values());
  for (const { tokens } of base.pages.values()) for (const token of tokens) before.add(token);
  before.delete(ZERO_TOKEN);
  return (bytes) => tokensOf(bytes).some((token) => before.has(token));
}

/** The files once all entries are done. */
export function filesAfter(base: PageFiles, entries: readonly LogEntry[]): PageFiles {
  const files = base.clone();
  const log: Log = { operations: [], syncs: [], requests: [], events: 0 };
  for (const entry of entries) {
    if (entry.kind !== 'write' && entry.kind !== 'discard') continue;
    applyOperation(files, operationOf(entry, log, { purpose: 'data', copied: () => false }));
  }
  return files;
}

/** What each entry is for. */
async function purposes(
  subject: Subject,
  base: PageFiles,
  entries: readonly LogEntry[],
): Promise<(entry: LogEntry) => Purpose> {
  const before = await layoutOf(subject, base);
  const files = filesAfter(base, entries);
  const after = await layoutOf(subject, files).catch((error: unknown) => {
    // A log may end in the middle of a change.
    if (error instanceof Qcow2BenchError) return before;
    throw error;
  });
  return ({ kind, offset }) =>
    kind === 'discard' ? 'data' : (metadataIn(offset, { before, after }) ?? 'data');
}

function layoutOf({ format, files: [image] }: Subject, files: PageFiles): Promise<FileLayout> {
  const device = new StateDevice(new ScratchFiles(files, () => undefined), 0, image);
  return readFileLayout(device, format);
}
