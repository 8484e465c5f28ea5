/**
 * Reads a workload file and says what is wrong with a broken one: the line and column if it is no
 * JSON, else the field, the rule and what is allowed there.
 *
 * Invariant: every error is a `Qcow2BenchError` with the code `bad-workload` and the file's path.
 * The file's size is checked before it is read.
 */

import { closeSync, fstatSync } from 'node:fs';

import type { z } from 'zod';

import { Qcow2BenchError, systemCode } from '../core/error.ts';
import { openSync, readFileSync } from '../core/host-fs.ts';
import { LIMITS } from '../core/limits.ts';
import { humanSize } from '../core/size.ts';
import { findJsonFault } from '../core/json-fault.ts';
import { workloadSchema } from './schema.ts';
import type { Workload } from './schema.ts';

/** Complaints shown at once; a file with more is usually broken in one way. */
const ISSUES_SHOWN = 5;

/** @throws Qcow2BenchError `bad-workload` */
export function readWorkload(path: string): Workload {
  return parseWorkload(readText(path), path);
}

/**
 * @param path only named in errors.
 * @throws Qcow2BenchError `bad-workload`
 */
export function parseWorkload(text: string, path: string): Workload {
  // Some editors begin a file with a byte order mark, which JSON does not allow.
  const json = parseJson(text.replace(/^\ufeff/, ''), path);
  refuseDeepChain(json, path);
  const parsed = workloadSchema.safeParse(json);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.flatMap((issue) => flatten(issue, []));
  const shown = issues.slice(0, ISSUES_SHOWN).map(({ field, rule }) => `${field}: ${rule}`);
  if (issues.length > shown.length) shown.push(`and ${String(issues.length - shown.length)} more`);
  throw new Qcow2BenchError(
    'bad-workload',
    `${shown.join('; ')} (see docs/workloads.md)`,
    { path },
    parsed.error,
  );
}

function readText(path: string): string {
  try {
    const descriptor = openSync(path, 'r');
    try {
      const { size } = fstatSync(descriptor);
      if (size > LIMITS.workloadFileBytes) {
        const limit = humanSize(LIMITS.workloadFileBytes);
        throw new Qcow2BenchError('bad-workload', `has ${humanSize(size)}; a workload has at most ${limit}`, {
          path,
        });
      }
      return readFileSync(descriptor, 'utf8');
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    if (error instanceof Qcow2BenchError) throw error;
    const reason = systemCode(error) ?? 'unknown error';
    throw new Qcow2BenchError('bad-workload', `cannot be read (${reason})`, { path }, error);
  }
}

function parseJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const { line, column, expected, found } = findJsonFault(text) ?? {
      line: 1,
      column: 1,
      expected: 'JSON',
      found: 'none',
    };
    const rule = `column ${String(column)}: not JSON: expected ${expected}, found ${found}`;
    throw new Qcow2BenchError('bad-workload', rule, { path, line }, error);
  }
}

/** The schema descends into each layer: a chain of any length would end its stack. */
function refuseDeepChain(json: unknown, path: string): void {
  const inner = (value: unknown, name: string): unknown =>
    typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined;
  let files = 0;
  for (
    let layer = inner(inner(json, 'image'), 'backing');
    layer !== undefined;
    layer = inner(layer, 'backing')
  ) {
    if (++files <= LIMITS.backingChainDepth) continue;
    const rule = `image.backing: a chain has at most ${String(LIMITS.backingChainDepth)} files`;
    throw new Qcow2BenchError('bad-workload', rule, { path });
  }
}

interface Complaint {
  readonly field: string;
  readonly rule: string;
}

/** An issue in words. Of a union's branches, the one that got furthest says what was meant. */
function flatten(issue: z.core.$ZodIssue, base: readonly PropertyKey[]): Complaint[] {
  const path = [...base, ...issue.path];
  if (issue.code === 'invalid_union') {
    const branch = likeliestBranch(issue.errors);
    if (branch !== undefined) return branch.flatMap((inner) => flatten(inner, path));
  }
  return [{ field: fieldName(path), rule: ruleOf(issue) }];
}

/**
 * The branch of a union to explain: the one where no field is unknown, if exactly one is so (a
 * phase or a repeat that has one mistake), else none: then the union's own message is clearer.
 */
function likeliestBranch(branches: readonly z.core.$ZodIssue[][]): z.core.$ZodIssue[] | undefined {
  const atTop = (issue: z.core.$ZodIssue) => issue.path.length === 0;
  const fitting = branches.filter((issues) => !issues.some(atTop));
  if (fitting.length === 1) return fitting[0];
  // One field is misspelt: the branch with the fewest complaints is the one that was meant.
  const objects = branches.filter(
    (issues) => !issues.some((issue) => atTop(issue) && issue.code !== 'unrecognized_keys'),
  );
  return objects.toSorted((a, b) => strangeness(a) - strangeness(b))[0];
}

function strangeness(issues: readonly z.core.$ZodIssue[]): number {
  return issues.reduce((sum, issue) => sum + (issue.code === 'unrecognized_keys' ? issue.keys.length : 1), 0);
}

function ruleOf(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return issue.message.includes('received undefined')
        ? `is missing; must be ${article(issue.expected)}`
        : `must be ${article(issue.expected)}`;
    case 'invalid_value':
      return `must be ${issue.values.map((value) => JSON.stringify(value)).join(' or ')}`;
    case 'too_small':
      return `must be ${issue.inclusive === false ? 'more than' : 'at least'} ${String(issue.minimum)}${unitOf(issue.origin)}`;
    case 'too_big':
      return `must be ${issue.inclusive === false ? 'less than' : 'at most'} ${String(issue.maximum)}${unitOf(issue.origin)}`;
    default:
      return issue.message;
  }
}

function unitOf(origin: string): string {
  if (origin === 'string') return ' characters long';
  return origin === 'array' ? ' in number' : '';
}

function article(type: string): string {
  const name = type === 'int' ? 'integer' : type;
  return /^[aeiou]/.test(name) ? `an ${name}` : `a ${name}`;
}

/** `phases[0].pattern.stride`, or `the file` for the top. */
function fieldName(path: readonly PropertyKey[]): string {
  if (path.length === 0) return 'the file';
  return path
    .map((key) => (typeof key === 'number' ? `[${String(key)}]` : `.${String(key)}`))
    .join('')
    .replace(/^\./, '');
}
