/**
 * The verdict as annotations of GitHub Actions: workflow commands on standard output, one per
 * cause, at the line of the baseline that changed.
 */

import type { Finding, GateRecord } from '../record.ts';
import { FINDING_TITLES } from './terminal.ts';

/** Lines joined by line feeds; `''` if there is nothing to annotate. */
export function gateAnnotations({ problems, notes, baseline }: GateRecord): string {
  const lines = [
    ...problems.map((problem) => annotation('error', problem, baseline)),
    ...notes.filter(({ kind }) => kind !== 'new').map((note) => annotation('notice', note, baseline)),
  ];
  return lines.join('\n');
}

function annotation(
  command: 'error' | 'notice',
  { kind, sentence, firstRequest, baselineLine, command: shown }: Finding,
  path: string,
): string {
  const line = baselineLine === undefined ? '' : `,line=${String(baselineLine)}`;
  const title = property(`qcow2-bench gate: ${FINDING_TITLES[kind].toLowerCase()}`);
  const text = [sentence, firstRequest, shown].filter((part) => part !== undefined).join('\n');
  return `::${command} file=${property(path)}${line},title=${title}::${data(text)}`;
}

/** As the runner decodes messages. */
function data(text: string): string {
  return text.replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A');
}

/** Properties end at a comma or colon too. */
function property(text: string): string {
  return data(text).replaceAll(':', '%3A').replaceAll(',', '%2C');
}
