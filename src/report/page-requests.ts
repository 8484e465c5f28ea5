/** What guest requests cost, as a time line of a page needs it. */

import { costSequence, type RequestCosts } from '../result/request-costs.ts';
import type { CountedCell } from '../result/schema.ts';
import { CACHE_MODE_RULES, DEVICE_MODELS, FORMAT_FACTS, type DeviceModel } from '../result/vocabulary.ts';
import { TIMELINE_REQUESTS, type PageModel, type PageRequests } from './page-format.ts';

/** Texts of costs, each kept once. */
export class CostTexts {
  readonly #positions = new Map<string, number>();

  get texts(): readonly string[] {
    return [...this.#positions.keys()];
  }

  positionOf(text: string): number {
    const position = this.#positions.get(text) ?? this.#positions.size;
    this.#positions.set(text, position);
    return position;
  }
}

/** `null` if no request was kept. */
export function pageRequests(
  kept: RequestCosts,
  costs: CostTexts,
  {
    cell,
    dataBytes,
    fillBytes,
  }: Pick<PageRequests, 'dataBytes' | 'fillBytes'> & { readonly cell: CountedCell },
): PageRequests | null {
  const all = costSequence(kept);
  if (all.length === 0) return null;
  const own = new Map<string, number>();
  const sequence = all.slice(0, TIMELINE_REQUESTS).map((cost) => {
    const index = own.get(cost) ?? own.size;
    own.set(cost, index);
    return index;
  });
  return {
    costs: [...own.keys()].map((cost) => costs.positionOf(cost)),
    sequence,
    dataBytes: Math.round(dataBytes),
    fillBytes: Math.round(fillBytes),
    isDirect: CACHE_MODE_RULES[cell.cache].direct,
    requestNs: FORMAT_FACTS[cell.format].requestNs,
  };
}

/** Those that ship, and those of a result. */
export function pageModels(own: readonly DeviceModel[] = []): readonly PageModel[] {
  const all = [...new Map([...DEVICE_MODELS, ...own].map((model) => [model.name, model])).values()];
  return all.map(({ name, description, buffered, direct }) => ({ name, description, buffered, direct }));
}
