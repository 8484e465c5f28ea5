/**
 * The outputs of the gate against the rules of what reads them: XML and the Ant schema of JUnit,
 * the grammar of OpenMetrics, the fields of GitLab's code quality, the runner's workflow commands.
 */

import { describe, expect, test } from 'vitest';

import { acceptBaseline, baselineText, type Baseline } from '../../src/gate/baseline.ts';
import { compareCounts } from '../../src/gate/compare.ts';
import { gateRecord, type GateRecord } from '../../src/gate/record.ts';
import { gateCodeQuality } from '../../src/gate/render/code-quality.ts';
import { gateAnnotations } from '../../src/gate/render/github.ts';
import { gateJunit } from '../../src/gate/render/junit.ts';
import { gateMarkdown } from '../../src/gate/render/markdown.ts';
import { gateMetrics } from '../../src/gate/render/open-metrics.ts';
import { verdictText } from '../../src/gate/render/terminal.ts';
import type { ResultRecord } from '../../src/result/schema.ts';
import { syntheticResult } from '../report/synthetic-result.ts';

const HOSTILE = `<w>&"'\n\u0001]]>%:,\\ \`\`\` @x`;
const plain = syntheticResult();
const hostile: ResultRecord = {
  ...plain,
  cells: plain.cells.map((record) => ({
    ...record,
    cell: { ...record.cell, workload: record.cell.workload === 'stride' ? HOSTILE : record.cell.workload },
  })),
};

/** One sync less than the result has in all lazy cells of writethrough, and a cell that is gone. */
function older(result: ResultRecord): Baseline {
  const accepted = acceptBaseline(result);
  const cells = accepted.cells.map((cell) => {
    const leaf = 'run.syncs.byCause.writethrough';
    const value = cell.counts[leaf] ?? 0;
    if (cell.cell.refcounts !== 'lazy' || value === 0) return cell;
    return { ...cell, counts: { ...cell.counts, [leaf]: value - 1 } };
  });
  const [first] = cells;
  if (first === undefined) throw new Error('the fixture has cells');
  return { ...accepted, cells: [...cells, { ...first, cell: { ...first.cell, workload: 'gone' } }] };
}

function recordOf(result: ResultRecord, baseline = older(result)): GateRecord {
  return gateRecord({
    verdict: compareCounts(result, baseline),
    result,
    baseline,
    paths: { result: 'r.json', baseline: './results/baseline.json' },
    acceptCommand: 'qcow2-bench gate r.json --accept',
    commandOf: ({ workload }) => `qcow2-bench run --workload '${workload}'`,
  });
}

const record = recordOf(hostile);

test('one cause is one problem, with its cells and the line of the baseline', () => {
  expect(record.problems.map(({ key }) => key.split('/')[0])).toEqual(['missing', 'syncs']);
  const [, syncs] = record.problems;
  expect(syncs?.sentence).toMatch(
    /^\+1\.00 sync per run, writethrough \(ends a guest write\), in 18 of 181 cells; first: /,
  );
  const line = baselineText(older(hostile)).split('\n')[(syncs?.baselineLine ?? 0) - 1];
  expect(line).toContain('"run.syncs.byCause.writethrough": ');
});

test('the terminal lists every problem, and with --quiet nothing else', () => {
  expect(verdictText(record)).toContain('gate failed: cells 18 worse, 1 missing, 162 as in the baseline');
  const passed = recordOf(plain, acceptBaseline(plain));
  expect(verdictText(passed, { quiet: true })).toBe('gate passed: cells 180 as in the baseline');
});

test('Markdown has no markup of names and stays below the limit of a comment', () => {
  const text = gateMarkdown(record);
  expect(Buffer.byteLength(text)).toBeLessThanOrEqual(60_000);
  expect(text).toMatch(/^## ❌ qcow2-bench gate failed\n/);
  // In a fence nothing is markup.
  expect(text.replaceAll(/^(`{3,})sh\n[^]*?^\1$/gm, '')).not.toContain('<w>');
  const many = acceptBaseline(plain).cells.flatMap((cell) =>
    Array.from({ length: 8 }, (_, index) => ({
      ...cell,
      cell: { ...cell.cell, workload: `${cell.cell.workload}-${String(index)}` },
    })),
  );
  expect(
    Buffer.byteLength(gateMarkdown(recordOf(plain, { ...acceptBaseline(plain), cells: many }))),
  ).toBeLessThanOrEqual(60_000);
});

describe('JUnit', () => {
  const text = gateJunit(record);

  test('is well-formed XML with what the Ant schema requires', () => {
    const elements = wellFormedElements(text);
    const suite = elements.find(({ name }) => name === 'testsuite');
    // JUnit.xsd (Windy Road): required attributes, and elements in this order.
    for (const required of [
      'name',
      'package',
      'id',
      'timestamp',
      'hostname',
      'tests',
      'failures',
      'errors',
      'time',
    ]) {
      expect(suite?.attributes.has(required), required).toBe(true);
    }
    expect(suite?.attributes.get('timestamp')).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$/);
    const children = elements.filter(({ parent }) => parent === 'testsuite').map(({ name }) => name);
    expect([...new Set(children)]).toEqual(['properties', 'testcase', 'system-out', 'system-err']);
    for (const { name, attributes } of elements) {
      if (name === 'testcase') expect([...attributes.keys()]).toEqual(['classname', 'name', 'time']);
      if (name === 'failure') expect([...attributes.keys()]).toEqual(['message', 'type']);
    }
  });

  test('has a case per cell, and counts them', () => {
    const elements = wellFormedElements(text);
    const suite = elements.find(({ name }) => name === 'testsuite');
    expect(suite?.attributes.get('tests')).toBe('181');
    expect(suite?.attributes.get('failures')).toBe('19');
    expect(elements.filter(({ name }) => name === 'testcase')).toHaveLength(181);
    expect(elements.filter(({ name }) => name === 'failure')).toHaveLength(19);
  });
});

test('metrics follow the grammar of OpenMetrics: families together, unique labels, EOF at the end', () => {
  const text = gateMetrics(record);
  expect(text.endsWith('# EOF\n')).toBe(true);
  const families = new Set<string>();
  const seen = new Set<string>();
  let family = '';
  for (const line of text.trimEnd().split('\n').slice(0, -1)) {
    const type = /^# TYPE ([a-z_:][a-z0-9_:]*) gauge$/.exec(line)?.[1];
    if (type !== undefined) {
      expect(families.has(type)).toBe(false);
      families.add(type);
      family = type;
      continue;
    }
    if (line.startsWith('# HELP ')) {
      expect(line.startsWith(`# HELP ${family} `)).toBe(true);
      continue;
    }
    expect(line).toMatch(
      /^[a-z0-9_]+(\{[a-z_]+="(?:[^"\\\n]|\\[\\"n])*"(?:,[a-z_]+="(?:[^"\\\n]|\\[\\"n])*")*\})? -?[\d.e+-]+$/,
    );
    expect(line.startsWith(family)).toBe(true);
    const sample = line.slice(0, line.lastIndexOf(' '));
    expect(seen.has(sample), sample).toBe(false);
    seen.add(sample);
  }
});

test('code quality has the fields that GitLab requires, and a stable fingerprint per cause', () => {
  const issues = JSON.parse(gateCodeQuality(record)) as readonly Readonly<Record<string, unknown>>[];
  expect(issues).toHaveLength(record.problems.length + record.notes.length);
  for (const issue of issues) {
    expect(issue).toMatchObject({
      description: expect.any(String) as string,
      check_name: expect.stringMatching(/^qcow2-bench\//) as string,
      fingerprint: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
      severity: expect.stringMatching(/^(?:info|minor|major|critical|blocker)$/) as string,
      location: { path: 'results/baseline.json', lines: { begin: expect.any(Number) as number } },
    });
  }
  const prints = issues.map((issue) => issue['fingerprint']);
  expect(new Set(prints).size).toBe(prints.length);
  expect(JSON.parse(gateCodeQuality(recordOf(plain, acceptBaseline(plain))))).toEqual([]);
});

test('annotations are one command per line, with values that the runner decodes', () => {
  const lines = gateAnnotations(record).split('\n');
  expect(lines).toHaveLength(record.problems.length);
  for (const line of lines) {
    expect(line).toMatch(/^::error file=\.\/results\/baseline\.json(?:,line=\d+)?,title=[^:,]+::./);
    // A percent sign of a name is encoded: the runner would decode it.
    expect(line.replaceAll(/%(?:25|0A|0D|3A|2C)/g, '')).not.toContain('%');
  }
});

interface XmlElement {
  readonly name: string;
  readonly parent: string | undefined;
  readonly attributes: ReadonlyMap<string, string>;
}

/** The elements of a document; throws where it is not well-formed XML 1.0 of the kind used here. */
function wellFormedElements(text: string): readonly XmlElement[] {
  const body = text.replace(/^<\?xml version="1\.0" encoding="UTF-8"\?>\n/, '');
  expect(body).not.toBe(text);
  // XML 1.0 has no other control characters, not even escaped ones.
  expect(body.replaceAll(/[\t\n\r]/g, '')).not.toMatch(/[\p{Cc}\ufffe\uffff]/u);
  const elements: XmlElement[] = [];
  const open: string[] = [];
  const tag = /<(\/?)([a-z-]+)((?: [a-z]+="[^"<]*")*)(\/?)>|([^<]+)|(<)/g;
  for (const [all, end, name = '', attributes = '', empty, content, stray] of body.matchAll(tag)) {
    expect(stray, all).toBeUndefined();
    for (const part of [attributes, content ?? '']) {
      expect(part.replaceAll(/&(?:amp|lt|gt|quot|#\d+);/g, '')).not.toContain('&');
    }
    if (content !== undefined) continue;
    if (end === '/') {
      expect(open.pop()).toBe(name);
      continue;
    }
    const own = new Map(
      [...attributes.matchAll(/ ([a-z]+)="([^"]*)"/g)].map(([, key = '', value = '']) => [key, value]),
    );
    elements.push({ name, parent: open.at(-1), attributes: own });
    if (empty !== '/') open.push(name);
  }
  expect(open).toEqual([]);
  return elements;
}
