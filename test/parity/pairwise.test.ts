/**
 * Our engines do what QEMU does, over all pairs of features: the same host operations in the same order, the same
 * bytes in every file, the same bytes for the guest.
 *
 * Live where QEMU is installed; against the recording of QEMU 7.2 everywhere. Both are the same lists, so the
 * recording is held against the live run as well.
 *
 * PARITY_FULL=N (`npm run parity:full`) runs N other lists, live only, and writes down what came out.
 * PARITY_RECORD=1 (`npm run parity:record`) makes the recording anew.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { findQemuTools } from '../../src/peer/qemu-tools.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { writeFullReport, type ListResult } from './full-report.ts';
import { differencesFromGolden } from './golden-list.ts';
import {
  goldenOf,
  hasGoldenStart,
  listHash,
  operationsOf,
  readGoldens,
  writeGoldens,
  type Golden,
  type Goldens,
} from './goldens.ts';
import { everydayLists, fullLists } from './lists.ts';
import { runLive, type LiveOutcome } from './live-list.ts';
import type { ParityList } from './parity-list.ts';
import { compareWithout } from '../../src/peer/varying-order.ts';

const full = Number(process.env['PARITY_FULL'] ?? 0);
const records = process.env['PARITY_RECORD'] !== undefined;
const lists = full > 0 ? fullLists(full) : everydayLists();
const goldens: Goldens | undefined = full > 0 || records ? undefined : readGoldens();
const recorded = new Map(goldens?.lists.map((golden) => [golden.name, golden]));

const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');
if (skip !== undefined) process.stderr.write(`parity is held against the recording alone: ${skip}\n`);

let directory = '';
const results: ListResult[] = [];
let comparedWithRecording = 0;
const made: Golden[] = [];
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'qcow2-bench-parity-'));
});
afterAll(async () => {
  rmSync(directory, { recursive: true, force: true });
  const { version } = skip === undefined ? await findQemuTools() : { version: 'none' };
  if (full > 0) writeFullReport({ qemu: version, results });
  if (records) writeGoldens({ qemu: version, lists: made.sort((a, b) => (a.name < b.name ? -1 : 1)) });
});

describe.skipIf(skip !== undefined).concurrent('as a live QEMU does', () => {
  it.each(lists)('$name $features', async (list) => {
    const folder = mkdtempSync(join(directory, `${list.name}-`));
    try {
      const isRecorded = goldens !== undefined && (await hasRecordedVersion(goldens));
      const outcome = await runLive(list, folder, async (start) =>
        isRecorded && (await hasGoldenStart(goldenFor(list), start))
          ? operationsOf(goldenFor(list))
          : undefined,
      );
      results.push({ list, outcome });
      if (records) made.push(await goldenOf(list, outcome));
      expect(outcome.differences.join('\n')).toBe('');
      if (isRecorded && (await hasGoldenStart(goldenFor(list), outcome.start))) {
        expect(differenceOfRecording(list, outcome)).toBe('');
        comparedWithRecording++;
      }
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

it.skipIf(skip !== undefined || goldens === undefined)(
  'nearly every recording is held against the live run',
  async () => {
    // Few begin with files whose making varies.
    if (goldens !== undefined && (await hasRecordedVersion(goldens))) {
      expect(comparedWithRecording).toBeGreaterThan(0.8 * lists.length);
    }
  },
);

describe.skipIf(goldens === undefined)('as QEMU did when it was recorded', () => {
  it.each(lists)('$name $features', async (list) => {
    expect((await differencesFromGolden(list, goldenFor(list))).join('\n')).toBe('');
  });
});

function goldenFor(list: ParityList): Golden {
  const golden = recorded.get(list.name);
  if (golden?.list !== listHash(list)) {
    throw new Error(`the recording has another list ${list.name}: npm run parity:record`);
  }
  return golden;
}

/** Others may do other things. */
async function hasRecordedVersion({ qemu }: Goldens): Promise<boolean> {
  const minor = (version: string): string => version.split('.').slice(0, 2).join('.');
  return minor((await findQemuTools()).version) === minor(qemu);
}

/** How the recorded run differs from the live one, which ours equals; empty if it does not. */
function differenceOfRecording(list: ParityList, { ours }: LiveOutcome): string {
  const golden = goldenFor(list);
  const comparison = compareWithout(ours.records, operationsOf(golden), golden.leftOut);
  return comparison.identical ? '' : `the recording: ${comparison.text}`;
}
