/**
 * What every `BlockDevice` promises, run for each of them. A device declares how it is made; the
 * suite holds it against a plain growing array.
 */

import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { alignDown, alignUp } from '../../src/core/alignment.ts';
import { allocatePages } from '../../src/core/page-memory.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';

export interface DeviceUnderTest {
  readonly name: string;
  /** An empty, writable device; called afresh for every run. */
  readonly make: () => BlockDevice;
  /** Undoes `make`, after the device was closed. */
  readonly cleanUp?: () => void;
  readonly skip?: boolean;
  /** Bytes; a write makes the file end at a multiple of this. Default 1. */
  readonly endMultiple?: number;
}

/** Offsets of the random runs are below this: a few chunks of the memory device. */
const SPAN = 200_000;

type Step =
  | { readonly op: 'write' | 'zero' | 'punch' | 'read'; readonly offset: number; readonly length: number }
  | { readonly op: 'merged'; readonly offset: number; readonly lengths: readonly number[] }
  | { readonly op: 'truncate'; readonly size: number }
  | { readonly op: 'sync' };

const offset = fc.oneof(
  fc.nat(SPAN),
  fc.integer({ min: 0, max: 3 }).map((chunk) => chunk * 65_536),
);
const length = fc.oneof(fc.integer({ min: 1, max: 600 }), fc.integer({ min: 1, max: 150_000 }));
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ op: fc.constantFrom('write', 'zero', 'punch', 'read'), offset, length }),
  fc.record({
    op: fc.constant('merged' as const),
    offset,
    lengths: fc.array(fc.integer({ min: 1, max: 40_000 }), { minLength: 1, maxLength: 4 }),
  }),
  fc.record({ op: fc.constant('truncate' as const), size: fc.nat(SPAN) }),
  fc.constant({ op: 'sync' as const }),
);

export function describeBlockDevice(subject: DeviceUnderTest): void {
  describe.skipIf(subject.skip === true)(`${subject.name} keeps the promises of a block device`, async () => {
    let device: BlockDevice | undefined;
    const make = (): BlockDevice => (device = subject.make());
    const finish = async (): Promise<void> => {
      await device?.close();
      device = undefined;
      subject.cleanUp?.();
    };
    afterEach(finish);

    test('a new file is empty and reads as zeroes past its end', async () => {
      const made = make();
      expect(made.size()).toBe(0);
      const target = allocatePages(4096).fill(7);
      await made.read(8192, target, 'data');
      expect(target.every((byte) => byte === 0)).toBe(true);
      expect(made.size()).toBe(0);
    });

    test('a buffer that was written belongs to the caller again', async () => {
      const made = make();
      const bytes = allocatePages(4096).fill(5);
      await made.write(0, bytes, 'data');
      expect(bytes.every((byte) => byte === 5)).toBe(true);
      bytes.fill(9);
      const target = allocatePages(4096);
      await made.read(0, target, 'data');
      expect(target.every((byte) => byte === 5)).toBe(true);
    });

    test('closing twice is closing once', async () => {
      const made = make();
      await made.close();
      await made.close();
    });

    test('random operations leave what they leave in a plain array', async () => {
      const runs = fc.asyncProperty(
        fc.array(step, { minLength: 1, maxLength: 25 }),
        fc.boolean(),
        async (steps, pages) => {
          await finish();
          const made = make();
          const model = new ArrayModel(subject.endMultiple ?? 1);
          const buffer = (size: number): Uint8Array => (pages ? allocatePages(size) : new Uint8Array(size));
          for (const [index, each] of steps.entries()) await apply(made, model, each, { index, buffer });
          await expectSame(made, model, buffer);
        },
      );
      await fc.assert(runs, { numRuns: 60 });
    });
  });
}

interface StepContext {
  readonly index: number;
  readonly buffer: (length: number) => Uint8Array;
}

async function apply(
  device: BlockDevice,
  model: ArrayModel,
  step: Step,
  context: StepContext,
): Promise<void> {
  const { requestAlignment: unit } = device;
  const { index, buffer } = context;
  switch (step.op) {
    case 'sync':
      await device.sync('guest-flush');
      return;
    case 'truncate': {
      const size = alignDown(step.size, unit);
      await device.truncate(size, 'data');
      model.truncate(size);
      return;
    }
    case 'merged': {
      const start = alignDown(step.offset, unit);
      const parts = step.lengths.map((each, part) => ({
        purpose: part % 2 === 0 ? ('cow' as const) : ('data' as const),
        bytes: patterned(buffer(alignUp(each, unit)), index + part),
      }));
      await device.writeMerged(start, parts);
      let at = start;
      for (const { bytes } of parts) {
        model.write(at, bytes);
        at += bytes.byteLength;
      }
      return;
    }
    case 'write':
    case 'zero':
    case 'punch':
    case 'read': {
      const start = alignDown(step.offset, unit);
      const size = alignUp(step.length, unit);
      if (step.op === 'write') {
        const bytes = patterned(buffer(size), index);
        await device.write(start, bytes, 'data');
        model.write(start, bytes);
      } else if (step.op === 'read') {
        const target = buffer(size).fill(0xee);
        await device.read(start, target, 'data');
        expectEqual(target, model.read(start, size));
      } else if (device.canZeroRange && step.op === 'zero') {
        await device.zeroRange(start, size, 'cow');
        model.write(start, new Uint8Array(size));
      } else if (device.canPunchHole && step.op === 'punch') {
        await device.punchHole(start, size, 'data');
        model.clear(start, size);
      }
    }
  }
}

async function expectSame(
  device: BlockDevice,
  model: ArrayModel,
  buffer: (length: number) => Uint8Array,
): Promise<void> {
  expect(device.size()).toBe(model.size);
  const whole = buffer(alignUp(model.size, device.requestAlignment) + 4096).fill(0xee);
  await device.read(0, whole, 'data');
  expectEqual(whole, model.read(0, whole.byteLength));
}

function expectEqual(actual: Uint8Array, wanted: Uint8Array): void {
  // Compared as buffers: a matcher that walks 100 KB of elements takes longer than the test.
  if (Buffer.compare(actual, wanted) === 0) return;
  const at = wanted.findIndex((byte, index) => byte !== actual[index]);
  expect.fail(`byte ${String(at)} is ${String(actual[at])}, not ${String(wanted[at])}`);
}

/** Bytes that differ by place, so that a shift shows. */
function patterned(bytes: Uint8Array, seed: number): Uint8Array {
  for (let index = 0; index < bytes.byteLength; index++) bytes[index] = (index * 31 + seed * 17 + 1) % 251;
  return bytes;
}

class ArrayModel {
  readonly #endMultiple: number;
  #bytes = new Uint8Array(0);

  constructor(endMultiple: number) {
    this.#endMultiple = endMultiple;
  }

  get size(): number {
    return this.#bytes.byteLength;
  }

  read(start: number, length: number): Uint8Array {
    const out = new Uint8Array(length);
    out.set(this.#bytes.subarray(start, start + length));
    return out;
  }

  write(start: number, bytes: Uint8Array): void {
    const end = alignUp(start + bytes.byteLength, this.#endMultiple);
    if (end > this.size) this.truncate(end);
    this.#bytes.set(bytes, start);
  }

  clear(start: number, length: number): void {
    this.#bytes.subarray(start, start + length).fill(0);
  }

  truncate(size: number): void {
    const next = new Uint8Array(size);
    next.set(this.#bytes.subarray(0, size));
    this.#bytes = next;
  }
}
