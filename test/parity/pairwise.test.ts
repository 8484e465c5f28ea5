/**
 * Our engines do what the QEMU of this machine does, over all pairs of features: the same host
 * operations in the same order, the same bytes in every file, the same bytes for the guest. Without
 * QEMU, `recorded.test.ts` holds them against recordings of the same lists; a recording of the
 * version that is here is held against the live run as well.
 *
 * PARITY_FULL=N (`npm run parity:full`) runs N other lists, live only, and writes down what came
 * out. PARITY_RECORD=1 (`npm run parity:record`) makes the recording again.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, describe, expect, it } from 'vitest';

import { findQemuTools } from '../../src/peer/qemu-tools.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { writeFullReport, type ListResult } from './full-report.ts';
import {
  goldenFor,
  goldenOf,
  hasGoldenStart,
  operationsOf,
  readGoldens,
  writeGoldens,
  type Golden,
  type Goldens,
} from './goldens.ts';
import { everydayLists, fullLists } from './lists.ts';
import { runLive, type LiveOutcome } from './live-list.ts';
import { peerProfile } from './peer-stack.ts';
import { compareWithout } from '../../src/peer/varying-order.ts';
import { someOf } from '../amount.ts';

const full = Number(process.env['PARITY_FULL'] ?? 0);
const records = process.env['PARITY_RECORD'] !== undefined;
const lists = full > 0 ? fullLists(full) : records ? everydayLists() : someOf(everydayLists(), 24);
const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');
if (skip !== undefined) process.stderr.write(`parity is held against recordings alone: ${skip}\n`);
const goldens: Goldens | undefined =
  full > 0 || records || skip !== undefined ? undefined : readGoldens(peerProfile());

const directory = testDirectory();
const results: ListResult[] = [];
let comparedWithRecording = 0;
const made: Golden[] = [];
afterAll(async () => {
  if (skip !== undefined || !(full > 0 || records)) return;
  const { version } = await findQemuTools();
  const like = peerProfile();
  const byName = made.sort((left, right) => (left.name < right.name ? -1 : 1));
  if (full > 0) writeFullReport({ like, qemu: version, results });
  else writeGoldens(like, { qemu: version, lists: byName });
});

describe.skipIf(skip !== undefined).concurrent('as a live QEMU does', () => {
  it.each(lists)('$name $features', async (list) => {
    const folder = mkdtempSync(join(directory, `${list.name}-`));
    try {
      const golden =
        goldens !== undefined && (await hasRecordedVersion(goldens)) ? goldenFor(list, goldens) : undefined;
      const outcome = await runLive(list, folder, async (start) =>
        golden !== undefined && (await hasGoldenStart(golden, start)) ? operationsOf(golden) : undefined,
      );
      results.push({ list, outcome });
      if (records) made.push(await goldenOf(list, outcome));
      expect(outcome.differences.join('\n')).toBe('');
      if (golden !== undefined && (await hasGoldenStart(golden, outcome.start))) {
        expect(differenceOfRecording(golden, outcome)).toBe('');
        comparedWithRecording++;
      }
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

it.skipIf(goldens === undefined)('nearly every recording is held against the live run', async () => {
  // Few begin with files whose making varies.
  if (goldens !== undefined && (await hasRecordedVersion(goldens))) {
    expect(comparedWithRecording).toBeGreaterThan(0.8 * lists.length);
  }
});

/** Others may do other things. */
async function hasRecordedVersion({ qemu }: Goldens): Promise<boolean> {
  const minor = (version: string): string => version.split('.').slice(0, 2).join('.');
  return minor((await findQemuTools()).version) === minor(qemu);
}

/** How the recorded run differs from the live one, which ours equals; empty if it does not. */
function differenceOfRecording(golden: Golden, { ours }: LiveOutcome): string {
  const comparison = compareWithout(ours.records, operationsOf(golden), golden.leftOut);
  return comparison.identical ? '' : `the recording: ${comparison.text}`;
}
