/**
 * Reading the values of options: one of a closed set, a list of such, counts and sizes.
 *
 * Invariant: every refusal names the option, the value, and the values allowed.
 */

import type { Shard } from '../../bench/shard.ts';
import { isPowerOfTwo } from '../../core/alignment.ts';
import { Qcow2BenchError } from '../../core/error.ts';
import { LIMITS } from '../../core/limits.ts';
import { didYouMean } from '../../core/nearest-name.ts';
import { formatSize, parseSize } from '../../core/size.ts';
import { modelDevice, modelName } from '../../device/device-model.ts';
import { DEVICE_MODELS } from '../../device/device-models.ts';
import { badOption, badSize, oneOf } from '../terminal/usage-error.ts';

/** The least of qcow2, and the most of QED. */
const CLUSTER_SIZE_MIN = 512;
const CLUSTER_SIZE_MAX = 64 * 1024 * 1024;

/** Makes the value of an option from its text, or throws `UsageError`. */
export interface ReadValue<T> {
  (text: string): T;
  /** The values that it takes, where they are known beforehand; others may be allowed too. */
  readonly values?: readonly string[];
  /** Whether it takes several, separated by commas. */
  readonly isList?: boolean;
}

/** The values that a reader names; none of any other function. */
export function valuesOf(read: unknown): { readonly values: readonly string[]; readonly isList: boolean } {
  const { values = [], isList = false } = typeof read === 'function' ? (read as ReadValue<unknown>) : {};
  return { values, isList };
}

/** `read`, with values to suggest. */
export function suggesting<T>(values: readonly string[], read: ReadValue<T>): ReadValue<T> {
  return Object.assign((text: string) => read(text), { values });
}

export function choice<T extends string>(option: string, allowed: readonly T[]): ReadValue<T> {
  return suggesting(allowed, (text) => {
    const found = allowed.find((name) => name === text.trim());
    if (found === undefined) throw badOption(option, text, oneOf(allowed) + didYouMean(text, allowed));
    return found;
  });
}

/** `off` or `on`, as a boolean. */
export function onOff(option: string): ReadValue<boolean> {
  const read = choice(option, ['off', 'on']);
  return suggesting(['off', 'on'], (text) => read(text) === 'on');
}

/** One of a few numbers. */
export function numberOf<T extends number>(option: string, allowed: readonly T[]): ReadValue<T> {
  return suggesting(allowed.map(String), (text) => {
    const found = allowed.find((value) => String(value) === text.trim());
    if (found === undefined) throw badOption(option, text, oneOf(allowed.map(String)));
    return found;
  });
}

/** A list separated by commas; `read` reads each part. A value that occurs twice is kept once. */
export function listOf<T>(option: string, read: ReadValue<T>): ReadValue<readonly T[]> {
  const readList = (text: string): readonly T[] => {
    const parts = text.split(',').map((part) => part.trim());
    if (parts.includes('')) throw badOption(option, text, 'a comma-separated list without empty items');
    return [...new Set(parts.map(read))];
  };
  return Object.assign(readList, { values: read.values ?? [], isList: true });
}

/** A whole number from `min` to `max`. */
export function count(
  option: string,
  { min, max = Number.MAX_SAFE_INTEGER }: { readonly min: number; readonly max?: number },
): ReadValue<number> {
  return (text) => {
    const value = /^\d+$/.test(text.trim()) ? Number(text) : NaN;
    if (value >= min && value <= max) return value;
    const bound =
      max === Number.MAX_SAFE_INTEGER
        ? `of at least ${String(min)}`
        : `from ${String(min)} to ${String(max)}`;
    throw badOption(option, text, `a whole number ${bound}`);
  };
}

/** A part of several, such as `2/8`. */
export function shard(option: string): ReadValue<Shard> {
  return (text) => {
    const [, index, of] = (/^(\d{1,6})\/(\d{1,6})$/.exec(text.trim()) ?? []).map(Number);
    if (index !== undefined && of !== undefined && index >= 1 && index <= of && of <= LIMITS.shards) {
      return { index, of };
    }
    throw badOption(
      option,
      text,
      `I/N with I from 1 to N, and N up to ${String(LIMITS.shards)}, such as 2/8`,
    );
  };
}

/** A share such as `5%`, as a number: 0.05. More than none, at most the whole. */
export function percent(option: string): ReadValue<number> {
  return (text) => {
    const value = Number(/^(\d+(?:\.\d+)?)\s*%$/.exec(text.trim())?.[1]) / 100;
    if (value > 0 && value <= 1) return value;
    throw badOption(option, text, 'a percentage above 0 % and up to 100 %, such as 5%');
  };
}

/** Bytes of a size such as `64KiB`. */
export function size(option: string): ReadValue<number> {
  return (text) => {
    try {
      return parseSize(text);
    } catch (error) {
      if (!(error instanceof Qcow2BenchError)) throw error;
      throw badSize(option, error);
    }
  };
}

/** One of a few sizes. */
export function sizeOf<T extends number>(option: string, allowed: readonly T[]): ReadValue<T> {
  const read = size(option);
  const names = allowed.map(formatSize);
  return suggesting(names, (text) => {
    const bytes = read(text);
    const found = allowed.find((value) => value === bytes);
    if (found === undefined) throw badOption(option, text, oneOf(names));
    return found;
  });
}

/** Bytes of a cluster; what a format does not take of these is reported cell by cell. */
export function clusterSize(option: string): ReadValue<number> {
  const read = size(option);
  return (text) => {
    const bytes = read(text);
    if (isPowerOfTwo(bytes) && bytes >= CLUSTER_SIZE_MIN && bytes <= CLUSTER_SIZE_MAX) return bytes;
    throw badOption(
      option,
      text,
      `powers of two from ${formatSize(CLUSTER_SIZE_MIN)} to ${formatSize(CLUSTER_SIZE_MAX)}`,
    );
  };
}

/** One of `kinds`, or a model: `model:NAME`, `model:FILE.json`. */
export function device(option: string, kinds: readonly string[]): ReadValue<string> {
  return suggesting([...kinds, ...DEVICE_MODELS.map((model) => modelDevice(model.name))], (given) => {
    const name = given.trim();
    if (kinds.includes(name) || (modelName(name) ?? '') !== '') return name;
    throw badOption(option, given, oneOf([...kinds, 'model:NAME']) + didYouMean(name, kinds));
  });
}

/** A name that is not empty. */
export function text(option: string): ReadValue<string> {
  return (given) => {
    if (given.trim() === '') throw badOption(option, given, 'a name');
    return given;
  };
}

const DATE = /^\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)$/;

/** A date with time and zone, as ISO 8601 in UTC. */
export function isoDate(option: string): ReadValue<string> {
  return (given) => {
    const time = DATE.test(given.trim()) ? Date.parse(given.trim()) : NaN;
    if (!Number.isNaN(time)) return new Date(time).toISOString();
    throw badOption(option, given, 'a date with time and zone, such as 2026-01-31T12:00:00Z');
  };
}

const DURATION = /^(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)$/;
const DURATION_NS: Readonly<Record<string, number>> = {
  ns: 1,
  us: 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  h: 3600e9,
};

/** Nanoseconds of a time such as `90s`. */
export function duration(option: string): ReadValue<number> {
  return (given) => {
    const [, figure, unit = ''] = DURATION.exec(given.trim()) ?? [];
    const ns = Math.round(Number(figure) * (DURATION_NS[unit] ?? NaN));
    if (Number.isSafeInteger(ns)) return ns;
    throw badOption(option, given, 'a number with ns, us, ms, s, m or h, such as 90s');
  };
}
