/**
 * The lists that are run: those of every `npm test`, which are recorded too, and the many more of
 * the full run.
 */

import { featureRows, type Features } from './features.ts';
import { parityList, type ParityList } from './parity-list.ts';

/** Another seed is another cover with other requests; the recording has to be made again then. */
const SEED = 1;
const FULL_SEED = 1_000_000;

/** Each pair of features once. */
export function everydayLists(): readonly ParityList[] {
  return listsOf(featureRows(SEED, { qcow2: 1, qed: 1, raw: 1 }), SEED);
}

/** Covers upon covers, `count` lists at least, none of them an everyday one. */
export function fullLists(count: number): readonly ParityList[] {
  const qed = Math.floor(count / 8);
  const raw = Math.floor(count / 16);
  return listsOf(featureRows(FULL_SEED, { qcow2: count - qed - raw, qed, raw }), FULL_SEED);
}

function listsOf(rows: readonly Features[], seed: number): readonly ParityList[] {
  const numbers: Record<string, number> = {};
  return rows.map((features, index) => {
    const number = (numbers[features.format] = (numbers[features.format] ?? 0) + 1);
    return parityList(`${features.format}-${String(number).padStart(3, '0')}`, features, seed * 1000 + index);
  });
}
