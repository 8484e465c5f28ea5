/**
 * The verdict as a JUnit report: a test case per cell, named by its workload and setup.
 *
 * The form is that of the Apache Ant task's schema (Windy Road, `JUnit.xsd`), which Jenkins, GitLab
 * and GitHub's actions read: one `testsuite` in `testsuites`, with all its required attributes.
 */

import type { GateRecord } from '../record.ts';

/** Ends with a line feed. */
export function gateJunit({ cells, problems, date, harness, baseline, result, passed }: GateRecord): string {
  const failed = cells.filter((cell) => cell.problems.length > 0);
  // A problem of no cell of the list is a failure all the same.
  const properties = [
    ['harness', harness],
    ['baseline', baseline],
    ['result', result],
  ] as const;
  const texts = new Map(
    problems.map((problem) => [problem.title, new Map(problem.cells.map((each) => [each.name, each.text]))]),
  );
  const cases = cells.map((cell) => {
    const [className, ...rest] = [cell.cell.workload, ...cell.name.split(' · ').slice(1)];
    const start = `    <testcase classname="${attribute(className)}" name="${attribute(rest.join(' · '))}" time="0"`;
    if (cell.problems.length === 0) return `${start}/>`;
    const [first = ''] = cell.problems;
    const text = cell.problems
      .flatMap((title) => {
        const own = problems.find((problem) => problem.title === title);
        const here = texts.get(title)?.get(cell.name);
        return [
          title,
          ...(here === undefined ? [] : [`  ${here}`]),
          ...(own?.firstRequest === undefined ? [] : [`  ${own.firstRequest}`]),
          ...(own?.command === undefined ? [] : [`  first: ${own.command}`]),
        ];
      })
      .join('\n');
    return [
      `${start}>`,
      `      <failure message="${attribute(first)}" type="${attribute(cell.outcome)}">${content(text)}</failure>`,
      '    </testcase>',
    ].join('\n');
  });
  const counts = `tests="${String(cells.length)}" failures="${String(failed.length)}" errors="0"`;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    '<testsuites>',
    `  <testsuite name="qcow2-bench gate" package="qcow2-bench" id="0" timestamp="${date.slice(0, 19)}" hostname="localhost" ${counts} time="0">`,
    '    <properties>',
    ...properties.map(([name, value]) => `      <property name="${name}" value="${attribute(value)}"/>`),
    '    </properties>',
    ...cases,
    `    <system-out>${passed ? 'gate passed' : 'gate failed'}</system-out>`,
    '    <system-err/>',
    '  </testsuite>',
    '</testsuites>',
    '',
  ].join('\n');
}

/** XML 1.0 has no control characters, not even escaped ones, and no lone surrogates. */
function content(text: string): string {
  return text
    .toWellFormed()
    .replaceAll(/[^\t\n\r -\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, '\ufffd')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;');
}

function attribute(text: string): string {
  return content(text).replaceAll('"', '&quot;').replaceAll('\n', '&#10;').replaceAll('\t', '&#9;');
}
