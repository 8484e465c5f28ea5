/**
 * The kinds of files that commands write, and which existing file each may replace without being
 * asked to.
 *
 * What a measurement makes again each time (a result, its table and page, the host log, the
 * baseline) replaces a file of its own kind. Everything else (an image, a trace, a device model,
 * Markdown) replaces only an empty file.
 */

import { closeSync, readSync } from 'node:fs';

import { openSync } from '../../core/host-fs.ts';
import { BASELINE_SCHEMA } from '../../gate/baseline.ts';
import { HISTORY_MARKDOWN_HEAD } from '../../report/history/output-names.ts';
import { PNG_MARK } from '../../report/png-mark.ts';
import { PAGE_TITLE } from '../../report/page-title.ts';
import { csvHeader } from '../../result/csv.ts';
import { RESULT_SCHEMA } from '../../result/schema.ts';
import { STUDY_COLUMN } from '../../study/flat-table.ts';
import { STUDY_DOCUMENT_HEAD } from '../../study/study-text.ts';

interface KindRule {
  /** The kind of file that it replaces, as named in "is not …". */
  readonly replaces?: string;
  readonly recognises?: (head: string) => boolean;
}

const RULES = {
  result: { replaces: 'a result', recognises: (head) => hasSchema(head, RESULT_SCHEMA) },
  baseline: { replaces: 'a baseline', recognises: (head) => hasSchema(head, BASELINE_SCHEMA) },
  table: {
    replaces: 'a table of results',
    recognises: (head) => head.startsWith(`${csvHeader().slice(0, 4).join(',')},`),
  },
  page: { replaces: 'a report page', recognises: (head) => head.includes(`<title>${PAGE_TITLE}</title>`) },
  'host log': {
    replaces: 'a host log',
    recognises: (head) => /^\{"phase":"\w+","op":"[\w-]+","file":/.test(head),
  },
  markdown: {},
  'study answer': {
    replaces: 'the answer of a study',
    recognises: (head) => head.startsWith(STUDY_DOCUMENT_HEAD),
  },
  'study table': {
    replaces: 'the table of a study',
    recognises: (head) => head.startsWith(`${STUDY_COLUMN},`),
  },
  chart: { replaces: 'a chart', recognises: (head) => /^<svg [^>]*class="marks"/.test(head) },
  'chart picture': { replaces: 'a chart', recognises: (head) => head.includes(PNG_MARK) },
  'comparison markdown': {
    replaces: 'a comparison',
    recognises: (head) => head.startsWith('## Comparison\n'),
  },
  'gate markdown': {
    replaces: 'a verdict of the gate',
    recognises: (head) => /^## \S+ qcow2-bench gate (?:passed|failed)/.test(head),
  },
  'history markdown': {
    replaces: 'a history as Markdown',
    recognises: (head) => head.startsWith(HISTORY_MARKDOWN_HEAD),
  },
  'JUnit report': {
    replaces: 'a JUnit report of the gate',
    recognises: (head) => head.includes('<testsuite name="qcow2-bench gate"'),
  },
  metrics: {
    replaces: 'metrics of the gate',
    recognises: (head) => head.startsWith('# TYPE qcow2_bench_'),
  },
  'code quality report': {
    replaces: 'a code quality report of the gate',
    recognises: (head) => head === '[]\n' || head.includes('"check_name": "qcow2-bench/'),
  },
  'device model': {},
  trace: {},
  image: {},
  socket: {},
} as const satisfies Readonly<Record<string, KindRule>>;

export type OutputKind = keyof typeof RULES;
export const OUTPUT_KINDS: Readonly<Record<OutputKind, KindRule>> = RULES;

/** Bytes in which each kind is recognised. */
const HEAD_BYTES = 8192;

/** Whether a regular file is empty, or of the kind itself where that is replaced. */
export function isReplaceable(path: string, kind: OutputKind): boolean {
  const head = headOf(path);
  if (head === undefined) return false;
  return head === '' || OUTPUT_KINDS[kind].recognises?.(head) === true;
}

/** Of any version: an older result is a result. */
function hasSchema(head: string, schema: string): boolean {
  const name = schema.replace(/@.*$/, '@');
  return head.replace(/^\s*\{\s*"schema"\s*:\s*"/, '').startsWith(name);
}

/** `undefined` where it cannot be read. */
function headOf(path: string): string | undefined {
  try {
    const file = openSync(path, 'r');
    try {
      const bytes = Buffer.alloc(HEAD_BYTES);
      return bytes.toString('utf8', 0, readSync(file, bytes, 0, HEAD_BYTES, 0));
    } finally {
      closeSync(file);
    }
  } catch {
    return undefined;
  }
}
