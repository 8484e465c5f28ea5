/**
 * The form of the data that a page holds, for those who write it (`page-data`) and the scripts that
 * read it (`page/`): columns, a number or text for each cell.
 *
 * Invariants:
 * - Cells are those of the result, each once, in its order. Column `i` of every list is cell `i`.
 * - What the first screen needs is in `PageData`; what a chart needs that is opened later is in
 *   `PageDetails`, which is unpacked when it is first used.
 * - A cell whose format does not have an axis has the position `NOT_APPLICABLE` on it, and is compared
 *   with every value: raw, which has no clusters, is next to each cluster size.
 */

import type { PathCosts } from '../result/vocabulary.ts';
import type { HostOperation } from './closer-look.ts';
import type { RepairPrice } from './repair-price.ts';

/** The position of a cell on an axis that its format does not have. */
export const NOT_APPLICABLE = -1;

export interface PageAxis {
  /** As filters write it: `cluster-size`. */
  readonly name: string;
  readonly title: string;
  readonly values: readonly string[];
  /** Only to filter by: another axis shows the same. */
  readonly isHidden?: true;
}

export type Column<T = number | null> = readonly T[];

/** Figures of a cell that are a number each; times in nanoseconds. */
export const FIGURES = [
  'syncsPerWrite',
  'syncsPerAllocatingWrite',
  'bytesPerWrite',
  'metadataBytesPerWrite',
  'fillBytesPerWrite',
  'writeAmplification',
  'zeroRangeAmplification',
  'readsPerRead',
  'readBytesPerRead',
  'timeNs',
  'timeLowNs',
  'timeHighNs',
  'p50Ns',
  'p99Ns',
  'p999Ns',
  'maxNs',
] as const;
export type FigureName = (typeof FIGURES)[number];

export interface PageRatio {
  readonly estimate: number;
  readonly low: number;
  readonly high: number;
  readonly control: readonly [low: number, high: number] | null;
  readonly detectable: number | null;
  readonly rounds: number;
  readonly cliffsDelta: number;
  readonly verdict: string;
}

export interface PageData {
  readonly axes: readonly PageAxis[];
  /** Of each axis, the positions of the cells among its values. */
  readonly places: readonly (readonly number[])[];
  readonly names: readonly string[];
  readonly figures: Readonly<Record<FigureName, Column>>;
  /** Syncs per guest write by cause; a cause that no cell has is absent. */
  readonly causes: Readonly<Record<string, Column<number>>>;
  /** Bytes per guest write by purpose, without guest data. */
  readonly purposes: Readonly<Record<string, Column<number>>>;
  /** Nanoseconds per guest request, by where they go. */
  readonly split: Readonly<Record<string, Column<number>>>;
  /** Nanoseconds per guest request of each sample. */
  readonly samples: readonly (readonly number[])[];
  readonly ratios: readonly (PageRatio | null)[];
  readonly remarks: readonly string[];
  /** The cells of which the headline speaks. */
  readonly quoted: readonly number[];
}

/** What the guest requests of a cell cost. */
export interface PageRequests {
  /** Positions in `PageDetails.costs`. */
  readonly costs: readonly number[];
  /** Of each of the first requests, its position in `costs` of the cell. */
  readonly sequence: readonly number[];
  /** Bytes of guest data in an operation, and of the fill around it. */
  readonly dataBytes: number;
  readonly fillBytes: number;
  readonly isDirect: boolean;
  /** Processor time of a request, on models without a figure of their own. */
  readonly requestNs: number;
}

export interface PageModel {
  readonly name: string;
  readonly description: string;
  readonly buffered: PathCosts;
  readonly direct: PathCosts;
}

/** Latency in nanoseconds of shares of the requests: `[0.99, 812_000]`. */
export type LatencyCurve = readonly (readonly [share: number, ns: number])[];

export interface PageDetails {
  /** Texts of `result/request-costs`. */
  readonly costs: readonly string[];
  readonly requests: readonly (PageRequests | null)[];
  readonly models: readonly PageModel[];
  /** By kind of request. */
  readonly latency: readonly (Readonly<Record<string, LatencyCurve>> | null)[];
  /** Host operations with their places, of some cells. */
  readonly operations: readonly (readonly HostOperation[] | null)[];
  /** Nanoseconds of virtual time per guest request by device model, of some cells. */
  readonly modelled: readonly (Readonly<Record<string, number>> | null)[];
  /** Of cells that are repaired after a crash. */
  readonly repairs: readonly PageRepair[];
}

export interface PageRepair extends Omit<RepairPrice, 'eager'> {
  readonly cell: number;
  /** The cell with eager refcounts that it is compared with. */
  readonly eager: number;
}

/** A cell of two results. */
export interface PageComparedCell {
  readonly name: string;
  readonly isChanged: boolean;
  /** Per guest write, before and after. */
  readonly syncs: readonly [number, number] | null;
  readonly bytes: readonly [number, number] | null;
  /** `null` where a side kept none. */
  readonly before: PageRequests | null;
  readonly after: PageRequests | null;
}

export interface PageComparison {
  readonly before: string;
  readonly after: string;
  /** The cells whose counts were compared: those that changed most first. */
  readonly cells: readonly PageComparedCell[];
}

/** Data of the page of compared results. */
export interface PageComparisons {
  /** Texts of `result/request-costs`. */
  readonly costs: readonly string[];
  readonly models: readonly PageModel[];
  readonly comparisons: readonly PageComparison[];
}

/** A host log. */
export interface PageLog {
  readonly name: string;
  /** `null` of a log that names no requests. */
  readonly requests: PageRequests | null;
  /** The first of them, without those of open. */
  readonly operations: readonly HostOperation[];
}

/** Data of the page of host logs. */
export interface PageLogs {
  /** Texts of `result/request-costs`. */
  readonly costs: readonly string[];
  readonly models: readonly PageModel[];
  readonly logs: readonly PageLog[];
}

/** Requests of each cell whose operations a timeline shows. */
export const TIMELINE_REQUESTS = 512;
