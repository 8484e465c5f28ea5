/**
 * The verdict as a GitLab code quality report: an issue per cause, at the line of the baseline that
 * changed. The fields are those that GitLab requires.
 */

import { createHash } from 'node:crypto';

import type { Finding, GateRecord } from '../record.ts';

/** JSON, ended by a line feed; an empty list if nothing changed. */
export function gateCodeQuality({ problems, notes, baseline }: GateRecord): string {
  const issues = [
    ...problems.map((problem) => issue(problem, { severity: 'major', path: baseline })),
    ...notes
      .filter(({ kind }) => kind !== 'new')
      .map((note) => issue(note, { severity: 'info', path: baseline })),
  ];
  return `${JSON.stringify(issues, null, 2)}\n`;
}

function issue(
  { key, kind, sentence, baselineLine = 1 }: Finding,
  { severity, path }: { readonly severity: 'info' | 'major'; readonly path: string },
): object {
  return {
    description: sentence,
    check_name: `qcow2-bench/${key}`,
    // The same cause is the same issue in the next pipeline, whatever its figures.
    fingerprint: createHash('sha256').update(`${path}\0${key}\0${kind}`).digest('hex'),
    severity,
    location: { path: path.replace(/^(?:\.\/)+/, ''), lines: { begin: baselineLine } },
  };
}
