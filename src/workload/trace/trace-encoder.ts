/** The formats that traces are written in, and how the requests of each are encoded. */

import type { Request } from '../request.ts';
import { encodeDmLogEntry, encodeDmLogHead } from './dm-log-writes.ts';
import { FioIologFormatter, formatFioHeader, type FioVersion } from './fio-iolog.ts';
import { formatNativeHeader, formatNativeRequest } from './native.ts';

export const WRITABLE_FORMATS = ['native', 'fio-v2', 'fio-v3', 'dm-log-writes'] as const;
export type WritableFormat = (typeof WRITABLE_FORMATS)[number];

/** Of a format of lines. */
export interface LineEncoder {
  readonly unit: 'line';
  readonly head: string;
  readonly line: (request: Request) => string;
  /** What follows the last request. */
  readonly tail: () => string;
}

/** Of a format of binary records. */
export interface RecordEncoder {
  readonly unit: 'record';
  readonly head: Uint8Array;
  /** A record, and how many bytes of data follow it, which are zeroes: traces hold no data. */
  readonly record: (request: Request) => { readonly sector: Uint8Array; readonly dataBytes: number };
}

export type TraceEncoder = LineEncoder | RecordEncoder;

export interface EncoderOptions {
  readonly virtualSize: number;
  readonly facts: readonly (readonly [string, string])[];
  /** How many requests there will be; only `dm-log-writes` has to know. */
  readonly count: number;
}

export function createEncoder(
  format: WritableFormat,
  { virtualSize, facts, count }: EncoderOptions,
): TraceEncoder {
  switch (format) {
    case 'native':
      return {
        unit: 'line',
        head: formatNativeHeader(virtualSize, facts),
        line: formatNativeRequest,
        tail: () => '',
      };
    case 'fio-v2':
      return fioEncoder(2);
    case 'fio-v3':
      return fioEncoder(3);
    case 'dm-log-writes':
      return { unit: 'record', head: encodeDmLogHead(count), record: encodeDmLogEntry };
  }
}

function fioEncoder(version: FioVersion): LineEncoder {
  const formatter = new FioIologFormatter(version);
  return {
    unit: 'line',
    head: formatFioHeader(version),
    line: (request) => formatter.lines(request),
    tail: () => formatter.end(),
  };
}
