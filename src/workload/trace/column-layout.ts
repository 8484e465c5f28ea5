/**
 * Which columns of a line hold a request, and in which units: of the formats that are nothing but
 * columns, and of files that the user describes with `--columns`.
 *
 *     time=5:s,op=4,offset=2:sectors,length=3,volume=1
 *     time=Timestamp:100ns,op=Type:Read=read/Write=write,offset=Offset,length=Size
 *     time=1:s,only=2:D,op=3,offset=4:sectors,length=5:sectors
 *
 * Columns count from 1, from the end of the line as −1, −2 …; or have the names of the file's first
 * line.
 */

import { Qcow2BenchError } from '../../core/error.ts';
import { SECTOR_SIZE, type RequestOp } from '../request.ts';

/** From 1, from the end as −1, −2 …; or a name of the first line. */
export type Column = number | string;

/** Decimal digits of a second that a whole unit has. */
export const TIME_UNITS = { s: 0, ms: 3, us: 6, '100ns': 7, ns: 9 } as const;
export type TimeUnit = keyof typeof TIME_UNITS;

export const PLACE_UNITS = { bytes: 1, sectors: SECTOR_SIZE, KiB: 1024, pages: 4096 } as const;
export type PlaceUnit = keyof typeof PLACE_UNITS;

/** `rwbs`: the letters of the kernel's tracing, also `Read`, `write` …, where no words are given. */
export type OpWords = ReadonlyMap<string, RequestOp | 'skip'> | 'rwbs';

export interface ColumnLayout {
  /** A byte between two columns, or `blanks`: any number of spaces and tabs. */
  readonly separator: string | undefined;
  readonly time: { readonly column: Column; readonly unit: TimeUnit } | undefined;
  readonly op: { readonly column: Column; readonly words: OpWords };
  readonly offset: { readonly column: Column; readonly unit: PlaceUnit };
  readonly length: { readonly column: Column; readonly unit: PlaceUnit };
  readonly volume: Column | undefined;
  /** Lines with another word there are passed over. */
  readonly only: readonly { readonly column: Column; readonly word: string }[];
  /** The line of column names that the format always has; what is before it is passed over. */
  readonly header?: RegExp;
}

export const BLANKS = 'blanks';
const SEPARATORS: Readonly<Record<string, string>> = {
  tab: '\t',
  comma: ',',
  semicolon: ';',
  blanks: BLANKS,
};
const OPS: readonly (RequestOp | 'skip')[] = ['read', 'write', 'flush', 'discard', 'write-zeroes', 'skip'];
const COLUMNS_MAX = 256;
/** What two simulators have alike. */
const SIMULATED = 'volume=2,offset=3:sectors,length=4:sectors,op=5:0=write/1=read,separator=blanks';
const EXAMPLE = 'time=5:s,op=4,offset=2:sectors,length=3:bytes,volume=1';

/**
 * Reads the value of `--columns`.
 *
 * @throws Qcow2BenchError `bad-columns`, with the part that is wrong.
 */
export function parseColumns(text: string): ColumnLayout {
  const parts = new Map<string, string>();
  const only: { column: Column; word: string }[] = [];
  for (const part of text.split(',')) {
    const [, key = '', value = ''] = /^([a-z]+)=(.+)$/.exec(part) ?? [];
    if (key === 'only') {
      const { column, rest } = columnOf(part, value);
      if (rest === undefined) throw bad(part, 'expected only=COLUMN:WORD');
      only.push({ column, word: rest });
    } else if (!KEYS.includes(key)) {
      throw bad(part, `expected ${KEYS.join('=, ')}= or only=, as in ${EXAMPLE}`);
    } else if (parts.has(key)) throw bad(part, `${key} is given twice`);
    else parts.set(key, value);
  }
  const [op, offset, length] = (['op', 'offset', 'length'] as const).map((key) => {
    const value = parts.get(key);
    if (value === undefined) throw bad(text, `${key}= is missing, as in ${EXAMPLE}`);
    return columnOf(`${key}=${value}`, value);
  }) as [Part, Part, Part];
  const time = parts.get('time');
  const volume = parts.get('volume');
  return {
    separator: separatorOf(parts.get('separator')),
    time: time === undefined ? undefined : timeOf(time),
    op: {
      column: op.column,
      words: op.rest === undefined ? 'rwbs' : wordsOf(`op=${parts.get('op') ?? ''}`, op.rest),
    },
    offset: { column: offset.column, unit: unitOf('offset', offset.rest) },
    length: { column: length.column, unit: unitOf('length', length.rest) },
    volume: volume === undefined ? undefined : columnOf(`volume=${volume}`, volume).column,
    only,
  };
}

const KEYS: readonly string[] = ['time', 'op', 'offset', 'length', 'volume', 'separator'];

interface Part {
  readonly column: Column;
  readonly rest: string | undefined;
}

function columnOf(part: string, value: string): Part {
  const colon = value.indexOf(':');
  const name = colon < 0 ? value : value.slice(0, colon);
  const rest = colon < 0 ? undefined : value.slice(colon + 1);
  if (name === '' || rest === '') throw bad(part, 'expected COLUMN or COLUMN:UNIT');
  if (!/^-?\d+$/.test(name)) return { column: name, rest };
  const column = Number(name);
  if (column === 0 || Math.abs(column) > COLUMNS_MAX) {
    throw bad(part, `columns count from 1 to ${String(COLUMNS_MAX)}, or from the end: -1, -2 …`);
  }
  return { column, rest };
}

function timeOf(value: string): { readonly column: Column; readonly unit: TimeUnit } {
  const { column, rest } = columnOf(`time=${value}`, value);
  if (rest === undefined || !(rest in TIME_UNITS)) {
    throw bad(
      `time=${value}`,
      `the unit of times is missing: ${Object.keys(TIME_UNITS).join(', ')}, as in time=1:us`,
    );
  }
  return { column, unit: rest as TimeUnit };
}

function unitOf(key: string, rest: string | undefined): PlaceUnit {
  if (rest === undefined) return 'bytes';
  if (!(rest in PLACE_UNITS)) {
    throw bad(`${key}=…:${rest}`, `expected one of ${Object.keys(PLACE_UNITS).join(', ')}`);
  }
  return rest as PlaceUnit;
}

function wordsOf(part: string, text: string): OpWords {
  const words = new Map<string, RequestOp | 'skip'>();
  for (const pair of text.split('/')) {
    const equals = pair.lastIndexOf('=');
    const op = OPS.find((each) => each === pair.slice(equals + 1));
    if (equals < 1 || op === undefined) {
      throw bad(
        part,
        `expected WORD=OPERATION/…, operations are ${OPS.join(', ')}, as in op=5:0=read/1=write`,
      );
    }
    words.set(pair.slice(0, equals), op);
  }
  return words;
}

function separatorOf(given: string | undefined): string | undefined {
  if (given === undefined) return undefined;
  const separator = SEPARATORS[given];
  if (separator === undefined) {
    throw bad(`separator=${given}`, `expected one of ${Object.keys(SEPARATORS).join(', ')}`);
  }
  return separator;
}

function bad(part: string, rule: string): Qcow2BenchError {
  return new Qcow2BenchError('bad-columns', `--columns: '${part}': ${rule}`);
}

/** Published formats that are columns. */
export const LAYOUTS = {
  /** UMass trace repository (Storage Performance Council). */
  spc: parseColumns('volume=1,offset=2:sectors,length=3,op=4,time=5:s,separator=comma'),
  k5cloud: parseColumns('volume=1,time=2:s,op=3,offset=4,length=5,separator=comma'),
  disksim: parseColumns(`time=1:ms,${SIMULATED}`),
  mqsim: parseColumns(`time=1:ns,${SIMULATED}`),
} as const;

/** Printed by a program that names its columns first; a group is there in a variant of it. */
const SNOOP_HEADERS = {
  /** Of bcc and libbpf-tools. */
  biosnoop: /^TIME\(s\) +COMM +PID +DISK +T +SECTOR +BYTES( +QUE\(ms\))? +LAT\(ms\)$/,
  /** Of perf-tools; times only with `-t` or `-s`. */
  iosnoop: /^(STARTs +)?(?:ENDs +)?COMM +PID +TYPE +DEV +BLOCK +BYTES +LATms$/,
} as const;
export type Snoop = keyof typeof SNOOP_HEADERS;

/** Whether one of the lines has the column names of the program. */
export function isSnoop(program: Snoop, lines: readonly string[]): boolean {
  return lines.some((line) => SNOOP_HEADERS[program].test(line.trimEnd()));
}

/** The columns of the variant that the lines name. */
export function snoopLayout(program: Snoop, lines: readonly string[]): ColumnLayout {
  const header = SNOOP_HEADERS[program];
  const isVariant = lines.some((line) => header.exec(line.trimEnd())?.[1] !== undefined);
  // From the end, since names of programs have blanks: latencies come last.
  const size = program === 'biosnoop' && isVariant ? -3 : -2;
  const [op, volume] = program === 'biosnoop' ? [size - 2, size - 3] : [size - 3, size - 2];
  const time = program === 'iosnoop' && !isVariant ? '' : 'time=1:s,';
  const place = `offset=${String(size - 1)}:sectors,length=${String(size)}`;
  const columns = `${time}op=${String(op)},volume=${String(volume)},${place},separator=blanks`;
  return { ...parseColumns(columns), header };
}
