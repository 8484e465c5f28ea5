/**
 * A run that another program logged: the image before it, the entries, and what its guest was promised.
 * A part of it that begins at a flush is such a run too: there all of the image is durable.
 */

import { CACHE_MODE_RULES } from '../format/cache-mode.ts';
import type { BaseImage } from './base-image.ts';
import { loggedRequests, momentsOf, type CrashAcks } from './log-acks.ts';
import { filesAfter, recordingOfLog } from './log-recording.ts';
import type { Recording } from './recording.ts';
import { contentsOfDisk } from './start.ts';
import type { LogEntry } from './write-log.ts';

/** What the guest was promised, if its requests are not known. */
export const SEEN_PROMISES = ['flushes', 'marks'] as const;
export type SeenPromise = (typeof SEEN_PROMISES)[number];

export interface LogRun {
  readonly image: BaseImage;
  /** Numbered from 0. */
  readonly entries: readonly LogEntry[];
  readonly promised: SeenPromise | CrashAcks;
}

/** @throws Qcow2BenchError of the image before the log, if it cannot be opened */
export function recordingOfRun({ image, entries, promised }: LogRun): Promise<Recording> {
  return recordingOfLog(
    image,
    entries,
    typeof promised === 'string'
      ? { from: promised }
      : { from: 'requests', requests: loggedRequests(promised) },
  );
}

/** Indices of the entries at which something is made durable, in their order: an epoch ends at each. */
export function syncsOf(entries: readonly LogEntry[]): readonly number[] {
  return entries.flatMap(({ kind, fua }, index) => (kind === 'flush' || fua ? [index] : []));
}

/**
 * The entries from `from`, which follows a flush or is 0, to before `end`.
 *
 * @throws Qcow2BenchError of the image as it is then, if it cannot be opened
 */
export async function partOf(
  { image, entries, promised }: LogRun,
  from: number,
  end: number,
): Promise<LogRun> {
  const kept = entries.slice(from, end);
  const first = kept[0]?.number ?? 0;
  const base = filesAfter(image.base, entries.slice(0, from));
  const { size } = await contentsOfDisk(image.subject, base);
  // At the end of the log all answers are there.
  const last = end >= entries.length ? Infinity : (kept.at(-1)?.number ?? first);
  return {
    image: { base, subject: { ...image.subject, virtualSize: size } },
    entries: kept.map((entry) => ({ ...entry, number: entry.number - first })),
    promised: typeof promised === 'string' ? promised : acksWithin(promised, first, last),
  };
}

/** Without what is durable before entry `first`, and what began after entry `last`. */
function acksWithin(acks: CrashAcks, first: number, last: number): CrashAcks {
  const { flushAfterWrite } = CACHE_MODE_RULES[acks.cache];
  const all = acks.requests.map((request, index) => ({ request, ...momentsOf(request, index) }));
  const isOver = ({ request: { done } }: (typeof all)[number]): boolean => done !== null && done <= first;
  const flushed = all
    .filter((each) => each.request.op === 'flush' && isOver(each))
    .reduce((latest, { beganAt }) => Math.max(latest, beganAt), -1);
  const isDurable = (each: (typeof all)[number]): boolean => {
    const { op, fua } = each.request;
    if (!isOver(each)) return false;
    if (op === 'flush' || op === 'read' || op === 'resize') return true;
    return (op !== 'discard' && (fua || flushAfterWrite)) || each.doneAt < flushed;
  };
  const shifted = (count: number): number => Math.max(0, count - first);
  const requests = all
    .filter((each) => each.request.began <= last && !isDurable(each))
    .map(({ request }) => {
      const { began, done } = request;
      if (done !== null && done <= last) return { ...request, began: shifted(began), done: shifted(done) };
      const { doneAt, ...rest } = request;
      return {
        ...rest,
        began: shifted(began),
        done: null,
        ...(doneAt === undefined ? {} : { doneAt: null }),
      };
    });
  return { ...acks, requests };
}
