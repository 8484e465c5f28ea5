/** Scales of charts: values to pixels, with round numbers to mark. */

export interface Scale {
  readonly at: (value: number) => number;
  readonly ticks: readonly number[];
}

const STEPS: readonly number[] = [1, 2, 2.5, 5, 10];

/** From 0 to at least `max`, over `pixels`. */
export function linearScale(max: number, pixels: number, ticks: number): Scale {
  const most = max > 0 ? max : 1;
  const step = roundStep(most / Math.max(1, ticks));
  const marks = Array.from({ length: Math.floor(most / step + 1e-9) + 1 }, (_, index) => index * step);
  return { at: (value) => (value / most) * pixels, ticks: marks };
}

/** From 0 to `max` bytes, marked at round binary sizes. */
export function byteScale(max: number, pixels: number, ticks: number): Scale {
  const step = 2 ** Math.ceil(Math.log2(Math.max(1, max / Math.max(1, ticks))));
  return {
    at: (value) => (value / Math.max(1, max)) * pixels,
    ticks: Array.from({ length: Math.floor(max / step) + 1 }, (_, index) => index * step),
  };
}

/** From `min` to `max`, both above 0. */
export function logScale(min: number, most: number, pixels: number, ticks: number): Scale {
  const max = Math.max(most, min * 1.01);
  const [low, high] = [Math.log10(min), Math.log10(max)];
  const at = (value: number): number => ((Math.log10(value) - low) / (high - low)) * pixels;
  const decades = high - low;
  const factors = decades < 1 ? [1, 1.5, 2, 3, 5, 7] : decades < 2.5 ? [1, 2, 5] : [1];
  const all: number[] = [];
  for (let power = Math.floor(low); power <= Math.ceil(high); power++) {
    for (const factor of factors) {
      const value = factor * 10 ** power;
      if (value >= min && value <= max) all.push(value);
    }
  }
  const every = Math.max(1, Math.ceil(all.length / Math.max(2, ticks)));
  return { at, ticks: all.filter((_, index) => index % every === 0) };
}

function roundStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least));
  return power * (STEPS.find((step) => step * power >= least * (1 - 1e-9)) ?? 10);
}
