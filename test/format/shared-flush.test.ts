/** Group commit: flushes that wait for one in flight become one. */

import { expect, test } from 'vitest';

import { sharedFlush } from '../../src/format/shared-flush.ts';
import type { Pending } from '../../src/core/pending.ts';

/** Flushes that end one by one, and how many are in flight at once. */
class Flushes {
  readonly causes: string[] = [];
  readonly #ends: ((error?: Error) => void)[] = [];
  inFlight = 0;

  readonly flush = (cause: string): Pending => {
    this.causes.push(cause);
    this.inFlight++;
    return new Promise((resolve, reject) => {
      this.#ends.push((error) => {
        this.inFlight--;
        if (error === undefined) resolve();
        else reject(error);
      });
    });
  };

  async end(error?: Error): Promise<void> {
    this.#ends.shift()?.(error);
    // All that follows from it has happened when the queue of microtasks is empty.
    await new Promise(setImmediate);
  }
}

test('all that wait for a flush share the next one, which begins when it has ended', async () => {
  const flushes = new Flushes();
  const flush = sharedFlush(flushes.flush);
  const done: number[] = [];
  const asked = (number: number): void => {
    void Promise.resolve(flush(number === 0 ? 'guest-flush' : 'fua')).then(() => done.push(number));
  };
  for (const number of [0, 1, 2, 3]) asked(number);
  expect(flushes.causes).toEqual(['guest-flush']);
  await flushes.end();
  expect(done).toEqual([0]);
  expect(flushes).toMatchObject({ inFlight: 1, causes: ['guest-flush', 'fua'] });
  // This one came after the second flush began: what it has written may not be in it.
  asked(4);
  await flushes.end();
  expect(done).toEqual([0, 1, 2, 3]);
  expect(flushes).toMatchObject({ inFlight: 1, causes: ['guest-flush', 'fua', 'fua'] });
  await flushes.end();
  expect(done).toEqual([0, 1, 2, 3, 4]);
  expect(flushes.inFlight).toBe(0);
});

test('one that fails fails for all that share it, and the next one is tried', async () => {
  const flushes = new Flushes();
  const flush = sharedFlush(flushes.flush);
  const outcomes = Promise.allSettled([flush('fua'), flush('fua'), flush('fua')]);
  await flushes.end(new Error('first'));
  await flushes.end(new Error('second'));
  expect((await outcomes).map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
  const next = flush('fua');
  await flushes.end();
  await expect(next).resolves.toBeUndefined();
});

test('one that is done at once makes no promise', () => {
  expect(sharedFlush(() => undefined)('fua')).toBeUndefined();
});
