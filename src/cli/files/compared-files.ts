/**
 * The files that are compared: results and baselines, or host logs.
 *
 * Invariants: what a file is comes from its content. Results, baselines and host logs are each
 * checked whole or line by line; sizes are checked before anything is read.
 */

import { closeSync, fstatSync, readSync } from 'node:fs';

import { hostLogLines, type LogLine } from '../../compare/host-log-lines.ts';
import { resultSide, type Side } from '../../compare/compare-results.ts';
import { Qcow2BenchError } from '../../core/error.ts';
import { openSync, readFileSync } from '../../core/host-fs.ts';
import { LIMITS } from '../../core/limits.ts';
import { humanSize } from '../../core/size.ts';
import { visibleText } from '../../core/visible-text.ts';
import { BASELINE_SCHEMA, readBaseline } from '../../gate/baseline.ts';
import { readResult } from '../../result/store.ts';

export interface LogFile {
  readonly kind: 'host log';
  readonly path: string;
  readonly lines: () => Iterable<LogLine>;
}

export type ComparedFile =
  { readonly kind: 'result' | 'baseline'; readonly path: string; readonly side: Side } | LogFile;

/** Bytes in which a kind is recognised. */
const HEAD_BYTES = 512;

/** @throws Qcow2BenchError as reading a result, a baseline or a host log does. */
export function readCompared(path: string): ComparedFile {
  if (isHostLog(path)) return readHostLog(path);
  const head = headOf(path);
  const name = visibleText(path);
  if (new RegExp(`^\\s*\\{\\s*"schema"\\s*:\\s*"${BASELINE_SCHEMA.replace(/@.*$/, '@')}`).test(head)) {
    const { cells } = readBaseline(path);
    return { kind: 'baseline', path, side: { name, environment: undefined, records: [], counted: cells } };
  }
  return { kind: 'result', path, side: resultSide(name, readResult(path)) };
}

/** By its first field, which logs for `ingest` have too; `false` of what cannot be read. */
export function isHostLog(path: string): boolean {
  return /^\s*\{\s*"(?:phase|file|request|guest|op|offset|length|purpose|cause)"\s*:/.test(headOf(path));
}

/** @throws Qcow2BenchError `host-log-too-large`, or as reading the file does. */
export function readHostLog(path: string): LogFile {
  const bytes = readLog(path);
  return { kind: 'host log', path, lines: () => hostLogLines(bytes, path) };
}

function readLog(path: string): Buffer {
  const file = openSync(path, 'r');
  try {
    const { size } = fstatSync(file);
    if (size > LIMITS.hostLogBytes) {
      const message = `has ${humanSize(size)}, but a host log of at most ${humanSize(LIMITS.hostLogBytes)} is read`;
      throw new Qcow2BenchError('host-log-too-large', message, { path });
    }
    return readFileSync(file);
  } finally {
    closeSync(file);
  }
}

/** Empty of what cannot be read: reading it as a result gives the reason. */
function headOf(path: string): string {
  try {
    const file = openSync(path, 'r');
    try {
      if (!fstatSync(file).isFile()) return '';
      const bytes = Buffer.alloc(HEAD_BYTES);
      return bytes.toString('utf8', 0, readSync(file, bytes, 0, HEAD_BYTES, 0));
    } finally {
      closeSync(file);
    }
  } catch {
    return '';
  }
}
