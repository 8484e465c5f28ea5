import { describe, expect, it } from 'vitest';

import { Payload } from '../../src/bench/payload.ts';
import { runRequests } from '../../src/bench/runner.ts';
import { openStack, type Stack, type WrapDevice } from '../../src/bench/stack.ts';
import { Qcow2BenchError } from '../../src/core/error.ts';
import { FaultDevice } from '../../src/device/fault.ts';
import { MemoryStorage } from '../../src/device/memory-storage.ts';
import type { Format } from '../../src/format/disk-image.ts';
import { createImage } from '../../src/format/registry.ts';
import type { Request } from '../../src/workload/request.ts';
import { SlowDevice } from '../device/slow-device.ts';
import { request } from './small-run.ts';

const MIB = 1024 * 1024;

async function open(format: Format, wrap?: WrapDevice): Promise<Stack> {
  const storage = new MemoryStorage();
  const device = storage.create('image');
  await createImage({ device, format, virtualSize: 64 * MIB });
  return openStack({ storage, imageName: 'image', format, cache: 'writeback', wrap });
}

function serve(
  stack: Stack,
  batches: readonly (readonly Request[])[],
  queueDepth = 1,
  more: {
    signal?: AbortSignal;
    isSlow?: boolean;
    progress?: (done: number) => void | Promise<void>;
  } = {},
) {
  const payload = new Payload('pattern', 1);
  return runRequests({ backend: stack.backend, batches, queueDepth, payload, ...more });
}

const strided = (count: number): Request[] =>
  Array.from({ length: count }, (_, index) => request('write', (index % 512) * 65_536));

describe.each([1, 4])('at depth %i', (queueDepth) => {
  it('counts guest requests by kind, and the writes that allocated', async () => {
    await using stack = await open('qcow2');
    // What came before this run is not of it.
    await serve(stack, [[request('write', 1024 * 1024)]], queueDepth);
    const batch = [
      request('write', 0),
      request('write', 4096, 8192),
      request('write', 65_536),
      request('read', 0),
      request('flush'),
      request('discard', 65_536, 65_536),
      request('write-zeroes', 0, 65_536),
    ];
    expect(await serve(stack, [batch.slice(0, 2), batch.slice(2)], queueDepth)).toEqual({
      reads: 1,
      writes: 3,
      flushes: 1,
      discards: 1,
      writeZeroes: 1,
      writeBytes: 4096 + 8192 + 4096,
      allocatingWrites: 2,
    });
  });

  it('fills the n-th write with n mod 255 + 1, counting writes only', async () => {
    await using stack = await open('raw');
    const batch = [request('write', 0), request('flush'), request('read', 0), request('write', 8192)];
    await serve(stack, [batch], queueDepth);
    const found = new Uint8Array(12_288);
    await stack.backend.read(0, found);
    expect([found[0], found[4095], found[4096], found[8192], found[12_287]]).toEqual([1, 1, 0, 2, 2]);
  });

  it('names the request that fails, and keeps the failure as the cause', async () => {
    await using stack = await open('raw');
    const batch = [request('write', 0), request('write', 64 * MIB), request('write', 4096)];
    const error = await serve(stack, [batch], queueDepth).catch((caught: unknown) => caught);
    expect(error).toMatchObject({
      code: 'request-failed',
      cause: { code: 'request-out-of-range' },
      message: expect.stringContaining(
        'request 1 (counted from 0), a write of 4096 bytes at guest offset 0x4000000',
      ) as string,
    });
  });

  it('stops issuing after a failure of the device, and keeps its system code', async () => {
    let issued = 0;
    await using stack = await open(
      'raw',
      (device) =>
        new FaultDevice(device, ({ op }) => {
          if (op === 'write') issued++;
          return op === 'write' && issued > 10 ? 'ENOSPC' : undefined;
        }),
    );
    const error = await serve(stack, [strided(100)], queueDepth).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(Qcow2BenchError);
    expect((error as Error).message).toMatch(/request 10 .*ENOSPC/);
    expect(issued).toBeLessThan(10 + 2 * queueDepth);
  });

  it('stops after few requests, where each may take as long as a sync', async () => {
    await using stack = await open('raw');
    const controller = new AbortController();
    let last = 0;
    // A turn is given each time: so much time has passed.
    const progress = async (done: number): Promise<void> => {
      await Promise.resolve();
      last = done;
      if (done >= 20) controller.abort(new Error('stop'));
    };
    const more = { signal: controller.signal, isSlow: true, progress };
    const error = await serve(stack, [strided(5000)], queueDepth, more).catch((caught: unknown) => caught);
    expect(error).toBe(controller.signal.reason);
    expect(last).toBeLessThan(100);
  });

  it('looks less often where requests are fast', async () => {
    await using stack = await open('raw');
    let looks = 0;
    const progress = (): void => {
      looks++;
    };
    await serve(stack, [strided(10_000)], queueDepth, { isSlow: true, progress });
    expect(looks).toBeLessThan(1000);
  });

  it('stops between chunks once the signal is given', async () => {
    await using stack = await open('raw');
    const controller = new AbortController();
    const seen: number[] = [];
    const progress = (done: number): void => {
      seen.push(done);
      controller.abort();
    };
    const run = serve(stack, [strided(20_000)], queueDepth, { signal: controller.signal, progress });
    const error: unknown = await run.catch((caught: unknown) => caught);
    expect(error).toBe(controller.signal.reason);
    expect(seen).toHaveLength(1);
    expect(seen[0]).toBeLessThan(20_000);
  });
});

it('keeps as many requests in flight as the depth says, and issues the next when one is done', async () => {
  let inFlight = 0;
  const seen: number[] = [];
  await using stack = await open('raw', (device) => {
    const slow = new SlowDevice(device);
    slow.gate = async () => {
      seen.push(++inFlight);
      await new Promise((resolve) => setImmediate(resolve));
      inFlight--;
    };
    return slow;
  });
  await serve(stack, [strided(3), strided(37)], 8);
  expect(Math.max(...seen)).toBe(8);
  // From the eighth request on the queue is full whenever a request begins.
  expect(seen.slice(7)).toEqual(Array.from({ length: 33 }, () => 8));
});

it('counts the same at any depth above 1 however the stream was cut into batches, and whenever they came', async () => {
  const requests = strided(6000).map((item, index) => (index % 7 === 6 ? request('flush') : item));
  const host = async (batches: AsyncIterable<readonly Request[]> | readonly (readonly Request[])[]) => {
    await using stack = await open('qcow2');
    const payload = new Payload('pattern', 1);
    await runRequests({ backend: stack.backend, batches, queueDepth: 16, payload });
    await stack.close();
    return [stack.meter.counts('run'), stack.meter.counts('close')];
  };
  async function* late(): AsyncGenerator<readonly Request[]> {
    for (let at = 0; at < requests.length; at += 333) {
      await new Promise((resolve) => setImmediate(resolve));
      yield requests.slice(at, at + 333);
    }
  }
  const whole = await host([requests]);
  expect(await host([requests.slice(0, 5), requests.slice(5)])).toEqual(whole);
  expect(await host(late())).toEqual(whole);
});

it('a window that ends with a lone slot leaves nothing behind', async () => {
  await using stack = await open('raw');
  const guest = await serve(stack, [strided(4097)], 64);
  expect(guest.writes).toBe(4097);
});

it('gives a slot the same memory for the same length again', () => {
  const payload = new Payload('pattern', 1);
  const first = payload.fill(0, 0, 4096);
  payload.fill(0, 1, 512);
  expect(payload.fill(0, 2, 4096)).toBe(first);
  expect(payload.buffer(1, 4096)).not.toBe(first);
});
