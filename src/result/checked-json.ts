/**
 * Reading a JSON file that must fit a schema, with errors a person can act on: which file, which
 * line or field, which rule.
 *
 * Invariant: the size is checked against its limit before anything is read.
 */

import { closeSync, fstatSync } from 'node:fs';

import type { z } from 'zod';

import { Qcow2BenchError, systemCode } from '../core/error.ts';
import { openSync, readFileSync } from '../core/host-fs.ts';
import { humanSize } from '../core/size.ts';

export interface CheckedJsonOptions<Schema extends z.ZodType> {
  readonly schema: Schema;
  /** What the file's `schema` field must say. */
  readonly schemaName: string;
  /** What the file is to a person, e.g. `result`; also the prefix of error codes. */
  readonly kind: string;
  /** Bytes above which the file is refused unread. */
  readonly sizeMax: number;
}

/**
 * The checked content of the file.
 *
 * @throws Qcow2BenchError `KIND-unreadable`, `KIND-too-large`, `KIND-not-json`,
 *   `KIND-schema-version` or `KIND-invalid`.
 */
export function readCheckedJson<Schema extends z.ZodType>(
  path: string,
  options: CheckedJsonOptions<Schema>,
): z.output<Schema> {
  return parseCheckedJson(readBoundedText(path, options), path, options);
}

/** As `readCheckedJson`, of a text already in memory; `path` names it in errors. */
export function parseCheckedJson<Schema extends z.ZodType>(
  text: string,
  path: string,
  options: CheckedJsonOptions<Schema>,
): z.output<Schema> {
  const { kind, schemaName } = options;
  const value = parseJson(text, path, kind);
  const found = typeof value === 'object' && value !== null && 'schema' in value ? value.schema : undefined;
  if (found !== schemaName) {
    const what = typeof found === 'string' ? `has schema '${found}'` : `has no field 'schema'`;
    const message = `${what}, but a ${kind} file of this version has '${schemaName}'`;
    throw new Qcow2BenchError(`${kind}-schema-version`, message, { path });
  }
  const checked = options.schema.safeParse(value);
  if (checked.success) return checked.data;
  throw new Qcow2BenchError(`${kind}-invalid`, describeIssues(checked.error), { path });
}

/** As `readBoundedBytes`, as text. */
export function readBoundedText(
  path: string,
  options: { readonly kind: string; readonly sizeMax: number },
): string {
  return readBoundedBytes(path, options).toString('utf8');
}

/**
 * The bytes of a file of at most `sizeMax` bytes.
 *
 * @throws Qcow2BenchError `KIND-unreadable` or `KIND-too-large`.
 */
export function readBoundedBytes(
  path: string,
  options: { readonly kind: string; readonly sizeMax: number },
): Buffer {
  const { kind, sizeMax } = options;
  let file: number | undefined;
  try {
    file = openSync(path, 'r');
    const { size } = fstatSync(file);
    if (size > sizeMax) {
      const message = `has ${humanSize(size)}, but a ${kind} file has at most ${humanSize(sizeMax)}`;
      throw new Qcow2BenchError(`${kind}-too-large`, message, { path });
    }
    return readFileSync(file);
  } catch (error) {
    if (error instanceof Qcow2BenchError) throw error;
    const code = systemCode(error);
    const reason = code === 'ENOENT' ? 'does not exist' : `cannot be read (${code ?? 'unknown error'})`;
    throw new Qcow2BenchError(`${kind}-unreadable`, `${reason}: name a ${kind} file`, { path }, error);
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

function parseJson(text: string, path: string, kind: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const detail = error instanceof Error ? error.message : '';
    // V8 gives the position in its message; a text that just ends carries none.
    const position = Number(/at position (\d+)/.exec(detail)?.[1] ?? text.length);
    const line = text.slice(0, position).split('\n').length;
    const reason = position >= text.length ? 'the text ends too early' : 'unexpected character';
    throw new Qcow2BenchError(`${kind}-not-json`, `is not valid JSON: ${reason}`, { path, line }, error);
  }
}

function describeIssues(error: z.ZodError): string {
  const [first, ...others] = error.issues;
  if (first === undefined) return 'does not match its schema';
  const rest = others.length === 0 ? '' : ` (and ${String(others.length)} more)`;
  return `field ${fieldPath(first.path)}: ${first.message}${rest}`;
}

/** `cells[3].counts.run` for a path of keys and indices. */
function fieldPath(path: readonly PropertyKey[]): string {
  let text = '';
  for (const step of path) {
    if (typeof step === 'number') text += `[${String(step)}]`;
    else text += text === '' ? String(step) : `.${String(step)}`;
  }
  return text === '' ? '(the whole file)' : text;
}
