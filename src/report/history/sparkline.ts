/** A series in a line of text: its course at a glance, not its values. */

const BARS = '▁▂▃▄▅▆▇█';

/** The least span of the scale, as a share of the greatest value: noise is not to look like news. */
const SPAN_MIN = 0.1;

/**
 * One character per value, from the least to the greatest of the series; a series without change is
 * a line at the bottom. Of more than `width` values several share a character: their median.
 *
 * @param values at least 0.
 */
export function sparkline(values: readonly number[], width: number): string {
  const shown = binned(values, width);
  const [low, high] = [Math.min(...shown), Math.max(...shown)];
  const span = Math.max(high - low, SPAN_MIN * high);
  const heights = shown.map((value) =>
    span === 0 ? 0 : Math.round(((value - low) / span) * (BARS.length - 1)),
  );
  return heights.map((height) => BARS[height] ?? '').join('');
}

function binned(values: readonly number[], width: number): readonly number[] {
  if (values.length <= width) return values;
  return Array.from({ length: width }, (_, at) => {
    const from = Math.floor((at * values.length) / width);
    const to = Math.floor(((at + 1) * values.length) / width);
    const own = values.slice(from, to).toSorted((a, b) => a - b);
    return own[own.length >> 1] ?? 0;
  });
}
