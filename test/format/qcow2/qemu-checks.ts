/**
 * Many runs of `qemu-img check`, one after the other in one shell: started from a test, each would
 * cost several times as much.
 */

import { spawn } from 'node:child_process';

import type { CheckReport, RepairScope } from '../../../src/format/check-report.ts';
import { CHECK } from '../qemu-directory.ts';

/** What a check or a repair came to. */
export interface Checked {
  readonly status: number;
  /** Undefined where qemu-img prints none: it did not open the image, or gave up. */
  readonly counts: Counts | undefined;
}

/** The counts of a report. */
export type Counts = Omit<CheckReport, 'messages' | 'messagesDropped'>;

export interface QemuCheck {
  /** A file of the directory. */
  readonly name: string;
  /** Default qcow2. */
  readonly format?: 'qed';
  readonly repair?: RepairScope;
}

/** Runs them in `directory`; answers what each came to, in their order. */
export async function qemuChecks(
  directory: string,
  checks: readonly QemuCheck[],
): Promise<readonly Checked[]> {
  const script = checks.map(({ name, format = 'qcow2', repair }) => {
    const words = repair === undefined ? '' : `-r ${repair} `;
    return `qemu-img check -f ${format} --output=json ${words}${name} 2>/dev/null; printf '\\036%d\\037' $?`;
  });
  const child = spawn('sh', ['-s'], { cwd: directory, stdio: ['pipe', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const ended = new Promise((resolve, reject) => child.once('close', resolve).once('error', reject));
  child.stdin.end(script.join('\n'));
  await ended;
  return output.split('\u001f', checks.length).map((part) => {
    const [json = '', status = ''] = part.split('\u001e');
    return { status: Number(status), counts: json.startsWith('{') ? countsOfJson(json) : undefined };
  });
}

/** What `qemu-img check` would say in the place of our report. */
export function checkedAs(report: CheckReport): Checked {
  const { corruptions, leaks, checkErrors, corruptionsFixed, leaksFixed, imageEndOffset } = report;
  const { allocatedClusters, fragmentedClusters, compressedClusters, totalClusters } = report;
  return {
    status: exitCodeOf(report),
    counts: {
      corruptions,
      leaks,
      checkErrors,
      corruptionsFixed,
      leaksFixed,
      imageEndOffset,
      allocatedClusters,
      fragmentedClusters,
      compressedClusters,
      totalClusters,
    },
  };
}

function exitCodeOf({ corruptions, leaks, checkErrors }: CheckReport): number {
  if (checkErrors > 0) return CHECK.failed;
  if (corruptions > 0) return CHECK.corrupt;
  return leaks > 0 ? CHECK.leaks : CHECK.clean;
}

/** The counts that `qemu-img check --output=json` printed. */
export function countsOfJson(text: string): Counts {
  const json = JSON.parse(text) as Record<string, number | undefined>;
  const count = (name: string): number => json[name] ?? 0;
  return {
    corruptions: count('corruptions'),
    leaks: count('leaks'),
    checkErrors: count('check-errors'),
    corruptionsFixed: count('corruptions-fixed'),
    leaksFixed: count('leaks-fixed'),
    imageEndOffset: count('image-end-offset'),
    allocatedClusters: count('allocated-clusters'),
    fragmentedClusters: count('fragmented-clusters'),
    compressedClusters: count('compressed-clusters'),
    totalClusters: count('total-clusters'),
  };
}
