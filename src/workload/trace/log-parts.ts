/**
 * The logs in a file to which several were appended, as fio does for jobs with one `write_iolog`:
 * each begins with the same line.
 */

import { createReadStream, existsSync, statSync } from '../../core/host-fs.ts';
import { STANDARD_INPUT } from './trace-files.ts';

/** One of the logs in a file. */
export interface LogPart {
  readonly path: string;
  /** Its bytes: the first and the last one. */
  readonly start: number;
  readonly end: number;
  /** Lines of the file before it. */
  readonly linesBefore: number;
}

/** Logs that are read side by side; each has a buffer. */
export const PARTS_MAX = 4096;
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;

/**
 * The logs in the file, each of which begins with the line `firstLine`. Of a stream or a compressed
 * file, nothing: it is read in one piece.
 */
export async function logParts(path: string, firstLine: string): Promise<readonly LogPart[]> {
  if (path === STANDARD_INPUT || !existsSync(path) || !statSync(path).isFile()) return [];
  const starts = await startsOf(path, firstLine);
  if (starts[0] !== 0 || starts.length === 1) return [];
  const linesBefore = await linesUpTo(path, starts);
  const ends = [...starts.slice(1), statSync(path).size];
  return starts.map((start, index) => ({
    path,
    start,
    end: (ends[index] ?? 0) - 1,
    linesBefore: linesBefore[index] ?? 0,
  }));
}

/** Where lines of the file are `firstLine`; if the first one is not, nothing else is looked at. */
async function startsOf(path: string, firstLine: string): Promise<number[]> {
  const starts: number[] = [];
  let line = Buffer.from(`${firstLine}\n`, 'latin1');
  // The end of the chunk before, in which a line may begin, with the line feed in front of it.
  let rest = Buffer.from('\n', 'latin1');
  let restAt = -1;
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    // All lines end as the first one does.
    if (restAt < 0 && chunk[firstLine.length] === CARRIAGE_RETURN) {
      line = Buffer.from(`${firstLine}\r\n`, 'latin1');
    }
    const bytes = Buffer.concat([rest, chunk]);
    for (let at = bytes.indexOf(line); at >= 0; at = bytes.indexOf(line, at + 1)) {
      if (bytes[at - 1] === LINE_FEED) starts.push(restAt + at);
    }
    if (starts[0] !== 0 || starts.length > PARTS_MAX) break;
    const kept = Math.min(bytes.length, line.length);
    rest = Buffer.from(bytes.subarray(bytes.length - kept));
    restAt += bytes.length - kept;
  }
  return starts;
}

/** How many line feeds are before each of the places, which are in order. */
async function linesUpTo(path: string, places: readonly number[]): Promise<number[]> {
  const counts: number[] = [];
  let lines = 0;
  let at = 0;
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    for (let index = 0; index < chunk.length && counts.length < places.length; index++, at++) {
      if (at === places[counts.length]) counts.push(lines);
      if (chunk[index] === LINE_FEED) lines++;
    }
    if (counts.length === places.length) break;
  }
  return counts;
}
