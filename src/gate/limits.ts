/**
 * The limits of the gate, `gate.json`: how far a count may move before it fails.
 *
 * The grammar is Gungraun's: a percentage is a soft limit, relative to the baseline (`5%`: it may
 * rise by 5 %; `-5%`: it may fall by 5 %); a number is a hard limit, which the count may not exceed;
 * `off` gates nothing. Without a file everything is exact: no count may rise, no sync may be lost.
 *
 * Invariants:
 * - Of the limits that apply to a metric of a cell the last one counts, so general ones come first.
 * - A name that means nothing is an error: a misspelt limit must not gate nothing.
 */

import { z } from 'zod';

import { findJsonFault } from '../core/json-fault.ts';
import { lineOfField } from '../core/json-place.ts';
import { Qcow2BenchError } from '../core/error.ts';
import { LIMITS } from '../core/limits.ts';
import { didYouMean } from '../core/nearest-name.ts';
import { readBoundedText } from '../result/checked-json.ts';
import { COUNTED_COORDINATES } from '../result/coordinates.ts';
import { OPERATION_KINDS, type CountedCell } from '../result/schema.ts';
import { PHASES, PURPOSES, SYNC_CAUSES, METADATA_PURPOSES } from '../result/vocabulary.ts';

export const GATE_SCHEMA = 'qcow2-bench/gate@1';

/** How far one metric of one cell may move. */
export interface Limit {
  /** Share of the baseline by which it may rise; `undefined`: by any amount. */
  readonly rise: number | undefined;
  /** Share by which it may fall; `undefined`: by any amount. */
  readonly fall: number | undefined;
  /** The most that it may be; `undefined`: no hard limit. */
  readonly most: number | undefined;
  /** As it was written, for messages. */
  readonly text: string;
}

/** A metric that a limit may name. */
export type Metric =
  /** Operations or bytes of a purpose, or syncs of a cause, in a phase. */
  | {
      readonly of: 'count';
      readonly phase: string;
      readonly kind: string;
      readonly part: string;
      readonly unit: string;
      /** The limit of a sync that is gone; see `lost-syncs` of `change-groups`. */
      readonly isLostSync: boolean;
    }
  /** Derived from counts, or modelled: `figures.writeAmplification`, `modelled.elapsedNs`. */
  | { readonly of: 'figure'; readonly name: string };

/** Names of derived figures, and of modelled times; each is exact, as what it is derived from. */
export const FIGURE_NAMES = [
  'figures.syncsPerWrite',
  'figures.syncsPerAllocatingWrite',
  'figures.metadataBytesPerWrite',
  'figures.metadataWritesPerWrite',
  'figures.fillBytesPerWrite',
  'figures.bytesPerWrite',
  'figures.writeAmplification',
  'figures.zeroRangeAmplification',
] as const;
export type FigureName = (typeof FIGURE_NAMES)[number];

/**
 * CPU time of the process per request, in user mode and in the kernel: of the machine, so it is in
 * no baseline and takes hard limits only.
 */
export const CPU_METRIC = 'harness.cpuNsPerRequest';

/** Sets of metrics. */
export const METRIC_GROUPS = [
  '@all',
  '@ops',
  '@bytes',
  '@syncs',
  '@lost-syncs',
  '@reads',
  '@metadata',
  '@modelled',
  '@figures',
] as const;
type MetricGroup = (typeof METRIC_GROUPS)[number];

const limitText = z
  .union([
    z.number().nonnegative(),
    z.string().regex(/^\s*(?:off|-?\d+(?:\.\d+)?\s*%?(?:\s*,\s*-?\d+(?:\.\d+)?\s*%?)*)\s*$/),
  ])
  .describe(
    "'5%' may rise by 5 %, '-5%' may fall by 5 %, 1000 is the most it may be, 'off' gates nothing; joined by commas",
  );

const limitsSchema = z
  .record(z.string(), limitText)
  .describe(
    `Metric → limit. A metric is [PHASE.]KIND[.PURPOSE or CAUSE][.ops or .bytes], each part may be *, or one of ${METRIC_GROUPS.join(', ')}, figures.NAME, modelled.NAME, ${CPU_METRIC}`,
  );

const coordinateNames = Object.keys(COUNTED_COORDINATES);
const pattern = z.union([z.string(), z.number(), z.boolean()]);

const gateSchema = z
  .strictObject({
    $schema: z.string().optional(),
    schema: z.literal(GATE_SCHEMA),
    limits: limitsSchema.optional().describe('Of all cells'),
    cells: z
      .array(
        z.strictObject({
          match: z
            .partialRecord(z.enum(coordinateNames), z.union([pattern, z.array(pattern)]))
            .describe('Coordinate → value or values; * is any text') as z.ZodType<
            Record<string, string | number | boolean | (string | number | boolean)[]>
          >,
          limits: limitsSchema,
        }),
      )
      .optional()
      .describe('Of some cells; later ones override earlier ones'),
  })
  .meta({ title: 'Limits of qcow2-bench gate' });

/** `docs/gate.schema.json`: JSON Schema 2020-12. */
export function gateJsonSchema(): unknown {
  return z.toJSONSchema(gateSchema);
}

/** What the cells of a run may not exceed. */
export class GateLimits {
  readonly #rules: readonly Rule[];

  constructor(rules: readonly Rule[] = []) {
    this.#rules = [...DEFAULT_RULES, ...rules];
  }

  /** The limit of a metric of a cell. */
  limitOf(cell: CountedCell, metric: Metric): Limit | undefined {
    const rule = this.#rules.findLast(
      ({ matches, selects, limit }) => selects(metric) && matches(cell) && mayApply(metric, limit),
    );
    return rule?.limit;
  }

  /** Whether some cell has a hard limit. */
  get hasHardLimits(): boolean {
    return this.#rules.some(({ limit }) => limit?.most !== undefined);
  }

  /** Derived figures for which some cell has a limit. */
  get figures(): readonly FigureName[] {
    return FIGURE_NAMES.filter((name) =>
      this.#rules.some(({ selects, limit }) => limit !== undefined && selects({ of: 'figure', name })),
    );
  }
}

interface Rule {
  readonly selects: (metric: Metric) => boolean;
  readonly matches: (cell: CountedCell) => boolean;
  /** `undefined`: not gated. */
  readonly limit: Limit | undefined;
}

const EXACT: Limit = { rise: 0, fall: undefined, most: undefined, text: '0%' };
const KEPT: Limit = { rise: 0, fall: 0, most: undefined, text: '0%, -0%' };

const DEFAULT_RULES: readonly Rule[] = [
  { selects: (metric) => isInGroup(metric, '@all'), matches: always, limit: EXACT },
  { selects: (metric) => isInGroup(metric, '@modelled'), matches: always, limit: EXACT },
  { selects: (metric) => isInGroup(metric, '@lost-syncs'), matches: always, limit: KEPT },
];

/** Whether a change leaves the limit; hard limits hold for what did not change too, see `figures`. */
export function leavesLimit(
  { before, after }: { readonly before: number; readonly after: number },
  { rise, fall }: Limit,
): boolean {
  if (after > before) return rise !== undefined && after > before * (1 + rise);
  return fall !== undefined && after < before * (1 - fall);
}

/**
 * The limits in `path`.
 *
 * @throws Qcow2BenchError `gate-file-unreadable`, `gate-file-too-large`, `gate-file-invalid`, with
 *   the line.
 */
export function readGateLimits(path: string): GateLimits {
  const text = readBoundedText(path, { kind: 'gate-file', sizeMax: LIMITS.gateFileBytes });
  return parseGateLimits(text, path);
}

/** As `readGateLimits`, of a text; `path` names it in errors. */
export function parseGateLimits(text: string, path: string): GateLimits {
  const value = parsedJson(text, path);
  const checked = gateSchema.safeParse(value);
  if (!checked.success) {
    const [issue] = checked.error.issues;
    const field = issue?.path ?? [];
    const unknown = issue?.code === 'unrecognized_keys' ? [...field, issue.keys[0] ?? ''] : field;
    throw invalid(path, lineOfField(text, unknown), `${fieldText(unknown)}: ${ruleOf(issue)}`);
  }
  const { limits = {}, cells = [] } = checked.data;
  const rules: Rule[] = [];
  const add = (
    own: Readonly<Record<string, string | number>>,
    field: readonly PropertyKey[],
    matches: Rule['matches'],
  ) => {
    for (const [name, limit] of Object.entries(own)) {
      const place = [...field, name];
      const selects = metricSelector(name, (rule) =>
        invalid(path, lineOfField(text, place), `${fieldText(place)}: ${rule}`),
      );
      const read = limitFrom(limit);
      if (name === CPU_METRIC && (read?.rise !== undefined || read?.fall !== undefined)) {
        const rule = 'needs a number: CPU time is not in the baseline; gate --against compares times';
        throw invalid(path, lineOfField(text, place), `${fieldText(place)}: ${rule}`);
      }
      rules.push({ selects, matches, limit: read });
    }
  };
  add(limits, ['limits'], always);
  for (const [index, { match, limits: own }] of cells.entries()) {
    add(own, ['cells', index, 'limits'], cellMatcher(match));
  }
  return new GateLimits(rules);
}

function parsedJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    const fault = findJsonFault(text);
    const { line = 1, expected = 'JSON', found = 'something else' } = fault ?? {};
    throw invalid(path, line, `not JSON: expected ${expected}, found ${found}`);
  }
}

/** A limit of how far counts may rise does not allow that syncs are lost. */
function mayApply(metric: Metric, limit: Limit | undefined): boolean {
  return metric.of === 'figure' || !metric.isLostSync || limit === undefined || limit.fall !== undefined;
}

function limitFrom(given: string | number): Limit | undefined {
  if (typeof given === 'number') {
    return { rise: undefined, fall: undefined, most: given, text: String(given) };
  }
  const text = given.trim();
  if (text === 'off') return undefined;
  let rise: number | undefined;
  let fall: number | undefined;
  let most: number | undefined;
  for (const part of text.split(',').map((each) => each.trim())) {
    const value = Number(part.replace(/\s*%$/, ''));
    if (!part.endsWith('%')) most = value;
    else if (part.startsWith('-')) fall = -value / 100;
    else rise = value / 100;
  }
  return { rise, fall, most, text };
}

function metricSelector(name: string, broken: (rule: string) => Error): (metric: Metric) => boolean {
  if (name.startsWith('@')) {
    const group = METRIC_GROUPS.find((candidate) => candidate === name);
    if (group === undefined) {
      throw broken(`no such group; expected ${METRIC_GROUPS.join(', ')}${didYouMean(name, METRIC_GROUPS)}`);
    }
    return (metric) => isInGroup(metric, group);
  }
  if (name.startsWith('figures.') || name.startsWith('modelled.')) {
    const isKnown = name.startsWith('modelled.') || FIGURE_NAMES.some((figure) => matchesGlob(name, figure));
    if (!isKnown) {
      throw broken(`no such figure; expected ${FIGURE_NAMES.join(', ')}${didYouMean(name, FIGURE_NAMES)}`);
    }
    return (metric) => metric.of === 'figure' && matchesGlob(name, metric.name);
  }
  if (name === CPU_METRIC) return (metric) => metric.of === 'figure' && metric.name === CPU_METRIC;
  return countSelector(name, broken);
}

function countSelector(name: string, broken: (rule: string) => Error): (metric: Metric) => boolean {
  const words = name.split('.');
  const phase = isWord(words[0], PHASES) ? (words.shift() ?? '*') : '*';
  const [kind = '*', part = '*', unit = '*', ...rest] = words;
  const kinds = [...OPERATION_KINDS, 'syncs', 'elided'];
  const parts = [...PURPOSES, ...SYNC_CAUSES];
  if (rest.length > 0) throw broken('has too many parts; expected [PHASE.]KIND[.PURPOSE or CAUSE][.UNIT]');
  for (const [word, allowed] of [
    [kind, kinds],
    [part, parts],
    [unit, ['ops', 'bytes']],
  ] as const) {
    if (allowed.some((each) => matchesGlob(word, each))) continue;
    throw broken(`'${word}' is none of ${allowed.join(', ')}${didYouMean(word, allowed)}`);
  }
  return (metric) =>
    metric.of === 'count' &&
    matchesGlob(phase, metric.phase) &&
    matchesGlob(kind, metric.kind) &&
    matchesGlob(part, metric.part) &&
    matchesGlob(unit, metric.unit);
}

function isInGroup(metric: Metric, group: MetricGroup): boolean {
  if (metric.of === 'figure') {
    if (group === '@modelled') return metric.name.startsWith('modelled.');
    return group === '@figures' && metric.name.startsWith('figures.');
  }
  switch (group) {
    case '@all':
      // Elided flushes are neither better nor worse.
      return metric.kind !== 'elided';
    case '@ops':
      return metric.unit === 'ops';
    case '@bytes':
      return metric.unit === 'bytes';
    case '@syncs':
      return metric.kind === 'syncs';
    case '@lost-syncs':
      return metric.isLostSync;
    case '@reads':
      return metric.kind === 'reads';
    case '@metadata':
      return METADATA_PURPOSES.some((purpose) => purpose === metric.part);
    case '@modelled':
    case '@figures':
      return false;
  }
}

type Pattern = string | number | boolean;

function cellMatcher(
  match: Readonly<Record<string, Pattern | readonly Pattern[]>>,
): (cell: CountedCell) => boolean {
  const wanted = Object.entries(match).map(([name, value]) => ({
    name,
    patterns: (typeof value === 'object' ? value : [value]).map(String),
  }));
  return (cell) => {
    const values = new Map<string, unknown>(Object.entries(cell));
    return wanted.every(({ name, patterns }) => {
      const value = values.get(name) ?? (name === 'engine' ? 'builtin' : undefined);
      const text = typeof value === 'string' ? value : JSON.stringify(value ?? null);
      return patterns.some((each) => matchesGlob(each, text));
    });
  };
}

/** `*` is any text, of any length. */
function matchesGlob(glob: string, text: string): boolean {
  if (!glob.includes('*')) return glob === text;
  const escaped = glob.split('*').map((each) => each.replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${escaped.join('.*')}$`, 's').test(text);
}

function isWord(word: string | undefined, words: readonly string[]): boolean {
  return words.some((each) => each === word);
}

function always(): boolean {
  return true;
}

function ruleOf(issue: z.core.$ZodIssue | undefined): string {
  switch (issue?.code) {
    case 'unrecognized_keys':
      if (issue.path.at(-1) === 'match') return `no such coordinate; expected ${coordinateNames.join(', ')}`;
      return 'no such field; expected schema, limits, cells, and in a cell match, limits';
    case 'invalid_union':
    case 'invalid_format':
      return "expected '5%', '-5%', a number, 'off', or several of them joined by commas";
    default:
      return issue?.message ?? 'does not match the schema';
  }
}

function fieldText(path: readonly PropertyKey[]): string {
  if (path.length === 0) return 'the file';
  return path
    .map((step) => (typeof step === 'number' ? `[${String(step)}]` : `.${String(step)}`))
    .join('')
    .replace(/^\./, '');
}

function invalid(path: string, line: number, message: string): Qcow2BenchError {
  return new Qcow2BenchError('gate-file-invalid', `${message} (see docs/ci.md, Limits)`, { path, line });
}
