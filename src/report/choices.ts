/**
 * What to choose, from the cells: in each cache mode whether refcounts should be lazy, or else the
 * cheapest value of each axis that varies.
 *
 * Invariant: a choice is named only where cells differ in it alone; what it costs is named with it.
 */

import { FORMAT_AXIS, CACHE_AXIS } from '../result/axes.ts';
import type { CacheMode } from '../result/vocabulary.ts';
import type { AnswerPoint } from './answer.ts';
import { axisComparisons, type AxisComparison } from './axis-comparison.ts';
import { bytesText, percentText, rateText } from './numbers.ts';
import { workloadsAfterCrash } from './opening.ts';
import { cellAt, type ReportCells } from './report-cells.ts';

/** A saving below this is none to a reader. */
const SAME = 0.005;

export function choicesOf(report: ReportCells): readonly AnswerPoint[] {
  const modes = refcountChoices(report);
  const axes = axisComparisons(report)
    .filter(({ axis }) => axis !== FORMAT_AXIS && axis !== CACHE_AXIS)
    .map(axisChoice);
  return [...modes, ...axes];
}

interface ModeSavings {
  readonly cache: CacheMode;
  /** Shares of the syncs that lazy refcounts save, of each workload. */
  readonly least: number;
  readonly most: number;
  readonly hasSyncs: boolean;
}

/** Cache modes that come to the same are one line. */
function refcountChoices(report: ReportCells): readonly AnswerPoint[] {
  const savings = report.caches.flatMap((cache) => savingsIn(report, cache) ?? []);
  const texts = savings.map((each) => ({ cache: each.cache, text: choiceText(each) }));
  const choices = [...Map.groupBy(texts, ({ text }) => text)].map(([text, modes]) => ({
    about: modes.map(({ cache }) => cache).join(', '),
    text,
  }));
  return savings.some(({ most }) => most >= SAME) ? [...choices, PRICE] : choices;
}

const PRICE: AnswerPoint = {
  about: 'The price',
  text: 'Of lazy refcounts: after a crash, opening the image reads all its tables and repairs refcounts.',
};

function savingsIn(report: ReportCells, cache: CacheMode): ModeSavings | undefined {
  const afterCrash = workloadsAfterCrash(report.cells.map(({ record }) => record));
  const pairs = report.workloads
    .filter((workload) => !afterCrash.has(workload))
    .flatMap((workload) => {
      const [eager, lazy] = ['qcow2 eager', 'qcow2 lazy'].map(
        (variant) => cellAt(report, { workload, cache, variant })?.figures?.syncsPerWrite,
      );
      if (eager === undefined || eager === null || lazy === undefined || lazy === null) return [];
      return [{ eager, lazy }];
    });
  if (pairs.length === 0) return undefined;
  const shares = pairs.map(({ eager, lazy }) => (eager === 0 ? 0 : (eager - lazy) / eager));
  return {
    cache,
    least: Math.min(...shares),
    most: Math.max(...shares),
    hasSyncs: pairs.some(({ eager }) => eager > 0),
  };
}

function choiceText({ least, most, hasSyncs }: ModeSavings): string {
  if (!hasSyncs) return 'Either: nothing is synced. A crash of the host can lose the image.';
  if (most < SAME) return 'Either: lazy refcounts save no sync.';
  const isOne = Math.abs(most - least) < SAME;
  const range = isOne
    ? percentText(most)
    : least < SAME
      ? `up to ${percentText(most)}`
      : `${percentText(least)} to ${percentText(most)}`;
  return `Lazy refcounts: ${range} fewer syncs${isOne ? '' : ', by workload'}.`;
}

function axisChoice({ axis, cells, place }: AxisComparison): AnswerPoint {
  const [cheapest, ...others] = cells.toSorted((a, b) => a.syncs - b.syncs || a.bytes - b.bytes);
  const leanest = cells.toSorted((a, b) => a.bytes - b.bytes || a.syncs - b.syncs)[0];
  if (cheapest === undefined || leanest === undefined) return { about: axis.title, text: 'Not known yet.' };
  const alike = others.every(({ syncs, bytes }) => syncs === cheapest.syncs && bytes === cheapest.bytes);
  if (alike) return { about: axis.title, text: `Any: a guest write costs the same (${place}).` };
  const costOf = ({ syncs, bytes }: { readonly syncs: number; readonly bytes: number }): string =>
    `${rateText(syncs)} syncs and ${bytesText(bytes)} bytes per write`;
  const text =
    cheapest === leanest
      ? `${cheapest.value}: ${costOf(cheapest)} (${place}).`
      : `${cheapest.value} for the fewest syncs (${costOf(cheapest)}), ${leanest.value} for the fewest bytes (${costOf(leanest)}); ${place}.`;
  return { about: axis.title, text };
}
