/** What a crash costs, as a Markdown table: a line for each cell that is repaired after one. */

import { escapeMarkdown, markdownRows } from '../core/markdown.ts';
import { humanSize } from '../core/size.ts';
import { withVisibleText } from '../core/visible-text.ts';
import { cellKey, namesAmong } from '../result/cell.ts';
import type { ResultRecord } from '../result/schema.ts';
import { bytesText, rateText } from './numbers.ts';
import {
  breakEvenText,
  furtherData,
  REPAIR_HELP,
  repairReadBytes,
  type RepairPrice,
} from './repair-price.ts';

/**
 * @param prices by `cellKey`
 * @returns text that ends with a line feed; empty without a price
 */
export function repairMarkdown(record: ResultRecord, prices: ReadonlyMap<string, RepairPrice>): string {
  const result = withVisibleText(record);
  const nameOf = namesAmong(result.cells.map(({ cell }) => cell));
  const priced = record.cells.flatMap(({ cell }, index) => {
    const price = prices.get(cellKey(cell));
    const shown = result.cells[index];
    return price === undefined || shown === undefined ? [] : [{ name: nameOf(shown.cell), price }];
  });
  const [first] = priced;
  if (first === undefined) return '';
  const devices = first.price.onDevices.map(({ device }) => device);
  const rows = priced.flatMap(({ name, price }) => {
    const sizes = furtherData(price);
    // As it is, and as the largest is.
    return [...new Set([0, sizes.at(-1) ?? 0])].map((data) => [
      data === 0 ? name : `${name}, with ${humanSize(data)} more data`,
      rateText(Math.max(0, price.savedSyncs)),
      bytesText(repairReadBytes(price, data)),
      ...price.onDevices.map((each) => breakEvenText(each, data)),
    ]);
  });
  const head = ['Repaired after a crash', 'Syncs saved per write', 'Repair reads, B', ...devices];
  return `${[REPAIR_HELP, '', ...markdownRows(head.map(escapeMarkdown), rows)].join('\n')}\n`;
}
