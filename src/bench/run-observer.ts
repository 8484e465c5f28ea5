/**
 * What can be watched of a run while it goes on: for progress bars, logs and tests. An observer
 * only looks; what it does costs time between cells and never within a sample.
 */

import type { Cell } from '../result/schema.ts';

/**
 * Counting comes first, once over all cells; then rounds that warm up, and those that are samples.
 */
export type RunStage =
  | { readonly kind: 'count'; readonly cells: number }
  | {
      readonly kind: 'warm-up' | 'time';
      /** From 0. */
      readonly round: number;
      /** At most: sampling ends when enough is known. */
      readonly rounds: number;
      /** Passes of the round: the cells, and those of them again that are controls. */
      readonly cells: number;
    };

/** How a cell's part in a stage ended. */
export type CellOutcome =
  | { readonly kind: 'done' }
  /** A result that is resumed had it already. */
  | { readonly kind: 'kept' }
  | { readonly kind: 'skipped'; readonly reason: string };

export interface RunObserver {
  stageBegins?(stage: RunStage): void;
  cellBegins?(cell: Cell): void;
  /** Now and then within a cell; the total is not known beforehand. */
  requestsDone?(cell: Cell, requestsDone: number): void;
  cellEnds?(cell: Cell, outcome: CellOutcome): void;
  /** The last call, however the run ended. */
  runEnds?(): void;
}
