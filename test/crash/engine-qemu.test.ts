/** A real `qemu-io` over `blklogwrites`, as an engine of crash states. */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { explore } from '../../src/crash/explore.ts';
import { recordCell } from '../../src/crash/record-cell.ts';
import { recordLogged } from '../../src/crash/record-logged.ts';
import { spaceSize, STRONGEST_MODEL } from '../../src/crash/state-space.ts';
import type { Recording } from '../../src/crash/recording.ts';
import { loggedQemu } from '../../src/cli/sessions/logged-engine.ts';
import { callCli } from '../cli/call-cli.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { smallPlan, type SmallCell } from './small-recording.ts';

const SEED = 7;
const skip = reasonToSkip('qemu-io');
const REQUEST = { offset: 0, length: 4096, fua: false, unmap: false, timeNs: 0 };

async function withQemu(
  plan: Awaited<ReturnType<typeof smallPlan>>['plan'],
  requests: Parameters<typeof recordCell>[1]['requests'],
): Promise<Recording> {
  using qemu = await loggedQemu({});
  return await recordLogged(plan, { requests, engine: qemu.engine });
}

const cells: readonly SmallCell[] = [
  { format: 'qcow2', refcounts: 'eager', cache: 'writethrough', prefilled: true },
  { format: 'qcow2', refcounts: 'eager', cache: 'none', releases: true },
  { format: 'qcow2', refcounts: 'lazy', cache: 'writeback', backed: true },
  { format: 'qcow2', refcounts: 'lazy', cache: 'directsync', clusterSize: 512 },
  { format: 'qed', cache: 'writeback', backed: true },
  { format: 'raw', cache: 'writethrough', prefilled: true },
];

describe.skipIf(skip !== undefined)('QEMU as an engine', () => {
  test.each(cells)('$format $refcounts, $cache: no state loses what it acknowledged', async (cell) => {
    const { plan, requests } = await smallPlan({ ...cell, requests: 24 });
    const recording = await withQemu(plan, requests);
    expect(recording.requests.length).toBe(requests.filter(({ op }) => op !== 'read').length);
    const { bad, tried } = await explore(recording, { model: STRONGEST_MODEL, budget: 200, seed: SEED });
    expect(bad.slice(0, 3)).toEqual([]);
    expect(tried).toBeGreaterThan(60);
  });

  test.each<SmallCell>([
    { format: 'qed', cache: 'writeback' },
    { format: 'raw', cache: 'writeback' },
  ])('$format: as many states as of the builtin engine', async (cell) => {
    const { plan, requests } = await smallPlan({ ...cell, requests: 24 });
    const [ours, theirs] = [await recordCell(plan, { requests }), await withQemu(plan, requests)];
    // The log has no event at the end of the close.
    expect(spaceSize(theirs, STRONGEST_MODEL).whole).toBe(spaceSize(ours, STRONGEST_MODEL).whole);
  });

  test('a freed cluster that is used again: QEMU leaves the same states and the same hazards', async () => {
    const { plan } = await smallPlan({ format: 'qcow2', refcounts: 'lazy', cache: 'writeback' });
    const requests = [
      { ...REQUEST, op: 'write' },
      { ...REQUEST, op: 'flush', length: 0 },
      { ...REQUEST, op: 'write-zeroes', unmap: true },
      { ...REQUEST, op: 'write', offset: 524_288 },
    ] as const;
    const options = { model: STRONGEST_MODEL, budget: 300, seed: SEED };
    const ours = await explore(await recordCell(plan, { requests }), options);
    const { bad, hazards, space } = await explore(await withQemu(plan, requests), options);
    expect(bad).toEqual([]);
    expect(space.whole).toBe(ours.space.whole);
    expect([...hazards.keys()].toSorted()).toEqual(['early-reuse', 'unordered-data']);
    for (const [name, { states }] of hazards) expect(states, name).toBe(ours.hazards.get(name)?.states);
  });

  test('crash --engine qemu puts both engines side by side, and keeps what --log explores again', async () => {
    const folder = testDirectory();
    const kept = testDirectory();
    const cell = ['--format', 'qcow2', '--refcounts', 'lazy', '--cache', 'writeback', '--states', '150'];
    const run = [
      '--workload',
      'database-commit',
      '--requests',
      '12',
      '--engine',
      'qemu',
      '--keep-logs',
      kept,
    ];
    const { code, stdout } = await callCli(folder, 'crash', ...cell, ...run);
    expect(code).toBe(0);
    expect(stdout).toMatch(/Engine builtin: 150 states of 1 cell, 0 violations/);
    expect(stdout).toMatch(/Engine qemu: 150 states of 1 cell, 0 violations/);
    const [name = ''] = readdirSync(kept);
    const place = join(kept, name);
    const before = readFileSync(join(place, 'disk'));
    const log = ['--log', join(place, 'log'), '--base', join(place, 'disk'), '--format', 'qcow2'];
    const acks = ['--acks', join(place, 'acks.json'), '--states', '150', '--json'];
    const again = await callCli(folder, 'crash', ...log, ...acks);
    expect(again.code).toBe(0);
    const json = JSON.parse(
      (await callCli(folder, 'crash', ...cell, ...run.slice(0, 6), '--json')).stdout,
    ) as {
      readonly cells: readonly { readonly cell: { readonly engine: string }; readonly states: unknown }[];
    };
    const [explored] = (JSON.parse(again.stdout) as typeof json).cells;
    expect(explored?.states).toEqual(json.cells.find((each) => each.cell.engine === 'qemu')?.states);
    expect(readFileSync(join(place, 'disk')).equals(before)).toBe(true);
    expect(existsSync(join(folder, 'acks.json'))).toBe(false);
  });
});
