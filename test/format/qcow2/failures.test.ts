/**
 * A full disk, or a bad one, at every single operation of a run: what was acknowledged is there,
 * and the image has lost clusters at most.
 */

import { describe, expect, it } from 'vitest';
import { openStack, type Stack } from '../../../src/bench/stack.ts';
import { Qcow2BenchError } from '../../../src/core/error.ts';
import { FaultDevice, type FaultEvent } from '../../../src/device/fault.ts';
import { MemoryStorage } from '../../../src/device/memory-storage.ts';
import type { RefcountMode } from '../../../src/format/image-options.ts';
import { Qcow2Image } from '../../../src/format/qcow2/qcow2-image.ts';
import { createImage } from '../../../src/format/registry.ts';
import { damageOf, newImage, openBytes } from './image-bytes.ts';
import { payload, performRequest, SECTOR, type GuestRequest, type Region } from '../guest-model.ts';

const KIB = 1024;
const CLUSTER = KIB;
/** One L2 table maps this much, one refcount block describes four times as much. */
const COVERAGE = 128 * CLUSTER;
const SIZE = 8 * COVERAGE + SECTOR;
/** Where every other cluster is there before the first request. */
const SCATTERED = 6 * COVERAGE + 32 * KIB;
/** The number of the write that fills the start of the disk before the first request. */
const PREFILL_INDEX = 99;

const write = (offset: number, length: number): GuestRequest => ({ op: 'write', offset, length, fua: false });
const zeroes = (offset: number, length: number, unmap: boolean): GuestRequest => {
  return { op: 'write-zeroes', offset, length, unmap, fua: false };
};
/**
 * Every kind of metadata event: new L2 tables, a new refcount block, frees, zero flags, overwrites,
 * and a write that goes to many places in the file, because every other of its clusters is there
 * already.
 */
const REQUESTS: readonly GuestRequest[] = [
  write(SCATTERED + 512, 24 * KIB),
  write(0, 4 * KIB),
  write(COVERAGE - KIB, 2 * KIB),
  { op: 'flush' },
  { op: 'discard', offset: KIB, length: KIB },
  write(2 * COVERAGE, COVERAGE),
  write(0, 512),
  zeroes(3 * KIB, KIB, false),
  { op: 'flush' },
  zeroes(2 * COVERAGE + 8 * KIB, 4 * KIB, true),
  write(3 * COVERAGE, 3 * COVERAGE),
  write(3 * KIB, 2 * KIB),
  { op: 'flush' },
  write(7 * COVERAGE, 512),
  { op: 'discard', offset: 3 * COVERAGE, length: COVERAGE },
  write(6 * COVERAGE, 16 * KIB),
  write(SCATTERED, 25 * KIB),
];

type Fault = 'one failed change' | 'a disk that stays full' | 'one failed read';

function ruleOf(fault: Fault, failing: number): (event: FaultEvent) => string | undefined {
  let count = 0;
  return ({ op }) => {
    switch (fault) {
      case 'one failed change':
        return op !== 'read' && count++ === failing ? 'EIO' : undefined;
      case 'one failed read':
        return op === 'read' && count++ === failing ? 'EIO' : undefined;
      case 'a disk that stays full':
        return op !== 'read' && op !== 'sync' && op !== 'punch-hole' && count++ >= failing
          ? 'ENOSPC'
          : undefined;
    }
  };
}

/** How a request ended. */
interface Ended {
  readonly request: GuestRequest;
  readonly index: number;
  readonly outcome: 'done' | 'failed';
}

interface Outcome {
  readonly storage: MemoryStorage;
  readonly prefill: readonly Region[];
  readonly ended: readonly Ended[];
  readonly closed: 'done' | 'failed';
}

/** What is written before. Where reads are to fail, there have to be tables to read. */
function prefillOf(fault: Fault): readonly Region[] {
  if (fault === 'one failed read') return [{ start: 0, length: SIZE }];
  const scattered = Array.from({ length: 12 }, (_, n) => ({ start: SCATTERED + 2 * n * KIB, length: KIB }));
  return [{ start: 0, length: 2 * COVERAGE }, ...scattered];
}

async function runWith(refcounts: RefcountMode, fault: Fault, failing: number): Promise<Outcome> {
  const storage = new MemoryStorage();
  const device = storage.create('disk');
  await createImage({ device, format: 'qcow2', virtualSize: SIZE, clusterSize: CLUSTER, refcounts });
  device.close();
  const before = await open(storage, () => undefined);
  const prefill = prefillOf(fault);
  for (const { start, length } of prefill) {
    await before.backend.write(start, payload(PREFILL_INDEX, start, length), { fua: false });
  }
  await before.close();

  const rule = ruleOf(fault, failing);
  let isArmed = false;
  const stack = await open(storage, (event) => (isArmed ? rule(event) : undefined));
  isArmed = true;
  const ended: Ended[] = [];
  for (const [index, request] of REQUESTS.entries()) {
    ended.push({
      request,
      index,
      outcome: await attempt(() => performRequest(stack.backend, request, index)),
    });
  }
  return { storage, prefill, ended, closed: await attempt(() => stack.close()) };
}

function open(storage: MemoryStorage, rule: (event: FaultEvent) => string | undefined): Promise<Stack> {
  return openStack({
    storage,
    imageName: 'disk',
    format: 'qcow2',
    cache: 'writeback',
    wrap: (inner) => new FaultDevice(inner, rule),
  });
}

async function attempt(work: () => unknown): Promise<'done' | 'failed'> {
  try {
    await work();
    return 'done';
  } catch (error) {
    if (error instanceof Qcow2BenchError) return 'failed';
    throw error;
  }
}

/** Holds what is read against what the outcomes allow; answers the first sector that is wrong. */
function firstLoss({ prefill, ended, closed }: Outcome, found: Uint8Array): string | undefined {
  const lastFlush = ended.findLastIndex(
    ({ request, outcome }) => request.op === 'flush' && outcome === 'done',
  );
  const durable = closed === 'done' ? ended.length : lastFlush;
  for (let at = 0; at < SIZE; at += SECTOR) {
    const isPrefilled = prefill.some(({ start, length }) => at >= start && at < start + length);
    let candidates: (Ended | 'prefill' | 'nothing')[] = [isPrefilled ? 'prefill' : 'nothing'];
    for (const each of ended) {
      const { request } = each;
      if (request.op === 'flush' || request.op === 'read') continue;
      if (at < request.offset || at >= request.offset + request.length) continue;
      if (each.outcome === 'done' && each.index < durable) candidates = [each];
      else candidates.push(each);
    }
    const sector = found.subarray(at, at + SECTOR);
    if (candidates.some((each) => mayHaveLeft(each, at, sector, durable))) continue;
    const numbers = candidates.map((each) => (typeof each === 'string' ? each : String(each.index)));
    return `guest offset ${String(at)} holds ${Buffer.from(sector.subarray(0, 4)).toString('hex')}, last written by ${numbers.join(' or ')}`;
  }
  return undefined;
}

function mayHaveLeft(
  ended: Ended | 'prefill' | 'nothing',
  at: number,
  sector: Uint8Array,
  durable: number,
): boolean {
  if (ended === 'nothing') return isZero(sector);
  if (ended === 'prefill') return Buffer.compare(sector, payload(PREFILL_INDEX, at, SECTOR)) === 0;
  const { request, index, outcome } = ended;
  if (request.op === 'write') return Buffer.compare(sector, payload(index, at, SECTOR)) === 0;
  // Clusters that are given back, but not durably, may be another's already.
  const releases = request.op === 'discard' || (request.op === 'write-zeroes' && request.unmap);
  return (releases && (outcome === 'failed' || index >= durable)) || isZero(sector);
}

const ZEROES = new Uint8Array(SECTOR);

function isZero(sector: Uint8Array): boolean {
  return Buffer.compare(sector, ZEROES) === 0;
}

const FAULTS: readonly Fault[] = ['one failed change', 'a disk that stays full', 'one failed read'];

describe('after a failure at any operation nothing acknowledged is lost, and clusters leak at most', () => {
  const cases = (['eager', 'lazy'] as const).flatMap((refcounts) =>
    FAULTS.map((fault) => ({ refcounts, fault })),
  );
  for (const { refcounts, fault } of cases) {
    it(`${refcounts} refcounts, ${fault}`, async () => {
      let failures = 0;
      for (let failing = 0; ; failing++) {
        const outcome = await runWith(refcounts, fault, failing);
        const when = `operation ${String(failing)}`;
        const stack = await open(outcome.storage, () => undefined);
        if (!(stack.image instanceof Qcow2Image)) throw new Error('not a qcow2 image');
        const { corruptions, checkErrors, messages } = await stack.image.check();
        expect({ corruptions, checkErrors }, `${when}: ${messages.join('\n')}`).toEqual({
          corruptions: 0,
          checkErrors: 0,
        });
        const found = new Uint8Array(SIZE);
        await stack.backend.read(0, found);
        expect(firstLoss(outcome, found), when).toBeUndefined();
        await stack.close();
        if (outcome.closed === 'failed' || outcome.ended.some((each) => each.outcome === 'failed')) {
          failures++;
        }
        // Past the last operation nothing fails any more.
        else if (failing > failures + 20) break;
      }
      expect(failures).toBeGreaterThan(fault === 'one failed read' ? 4 : 25);
    });
  }
});

describe('a new L2 table whose last sync fails', () => {
  it('keeps its cluster: the file points to it, durable or not', async () => {
    const created = await newImage({ virtualSize: SIZE, clusterSize: CLUSTER });
    const first = await openBytes(created);
    await first.image.write(0, payload(0, 0, KIB));
    await first.image.close();

    let left = 3;
    const { image, device } = await openBytes(first.device.contents(), {
      // Refcounts, the table, and then the L1 entry are made durable.
      wrap: (inner) =>
        new FaultDevice(inner, ({ cause }) =>
          cause === 'l2-table-growth' && --left === 0 ? 'EIO' : undefined,
        ),
    });
    expect(await attempt(() => image.write(COVERAGE, payload(1, COVERAGE, KIB)))).toBe('failed');
    expect(left).toBe(0);
    // The first table is there; whatever is allocated for it must not be the second table's
    // cluster.
    await attempt(() => image.write(4 * KIB, payload(2, 4 * KIB, 32 * KIB)));
    await image.abandon();
    const again = await openBytes(device.contents(), { readOnly: true, forCheck: true });
    expect(await damageOf(again.image)).toMatchObject({ corruptions: 0, checkErrors: 0 });
    await again.image.close();
  });
});
