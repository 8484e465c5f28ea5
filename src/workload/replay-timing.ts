/**
 * When the requests of a replay are due: at once, at the recorded times, or faster or slower than
 * those.
 */

/** How many times as fast as recorded; 1 is as recorded. */
export interface ReplayTiming {
  readonly scale: number;
}

const SCALE_MIN = 0.001;
const SCALE_MAX = 1_000_000;

/**
 * `asap` is a closed loop: each request as soon as the queue has room. `recorded` and `scale=4`
 * (four times as fast) are an open loop: each at its time, however long others take, as far as the
 * queue depth allows.
 *
 * @returns `undefined` of anything else.
 */
export function parseReplayTiming(text: string): ReplayTiming | 'asap' | undefined {
  if (text === 'asap') return 'asap';
  if (text === 'recorded') return { scale: 1 };
  const digits = /^scale=(\d+(?:\.\d+)?)$/.exec(text)?.[1];
  const scale = Number(digits);
  return scale >= SCALE_MIN && scale <= SCALE_MAX ? { scale } : undefined;
}

/** As it was given: `recorded` or `scale=4`. */
export function replayTimingName({ scale }: ReplayTiming): string {
  return scale === 1 ? 'recorded' : `scale=${String(scale)}`;
}
