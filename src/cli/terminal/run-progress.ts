/**
 * The two ways in which a run shows how far it is: a bar on a terminal, else lines that logs keep
 * well: one for each tenth of the cells that are counted, each skipped cell, and each timing round.
 */

import { SingleBar } from 'cli-progress';

import { visibleText } from '../../core/visible-text.ts';
import { cellName } from '../../result/cell.ts';
import type { Cell } from '../../result/schema.ts';
import type { CellOutcome, RunObserver, RunStage } from '../../bench/run-observer.ts';

/** Redraws a second: few, as a redraw may fall into a sample. */
const REDRAWS_PER_SECOND = 4;

/** A stream such as `process.stderr`. */
export interface ProgressStream extends NodeJS.WritableStream {
  readonly isTTY?: boolean | undefined;
}

/** A bar on a terminal, plain lines elsewhere. */
export function progressOn(stream: ProgressStream): RunObserver {
  return stream.isTTY === true ? new ProgressBar(stream) : new ProgressLines(stream);
}

/** One bar a stage, with the name of the current cell. */
export class ProgressBar implements RunObserver {
  readonly #stream: ProgressStream;
  #bar: SingleBar | undefined;

  constructor(stream: ProgressStream) {
    this.#stream = stream;
  }

  stageBegins(stage: RunStage): void {
    this.#bar?.stop();
    this.#bar = new SingleBar({
      stream: this.#stream,
      format: '{stage} [{bar}] {value}/{total} {cell}',
      barsize: 24,
      fps: REDRAWS_PER_SECOND,
      hideCursor: true,
      // The session handles signals and ends the run, which stops the bar.
      gracefulExit: false,
      linewrap: true,
    });
    this.#bar.start(stage.cells, 0, { stage: stageName(stage), cell: '' });
  }

  cellBegins(cell: Cell): void {
    this.#bar?.update({ cell: visibleText(cellName(cell)) });
  }

  cellEnds(): void {
    this.#bar?.increment();
  }

  runEnds(): void {
    this.#bar?.update({ cell: '' });
    this.#bar?.stop();
    this.#bar = undefined;
  }
}

/** Lines of text: one per tenth of a stage, per skipped cell and per timing round. */
export class ProgressLines implements RunObserver {
  readonly #stream: ProgressStream;
  #stage: RunStage | undefined;
  #done = 0;
  /** Tenths that a line was written for. */
  #tenths = 0;

  constructor(stream: ProgressStream) {
    this.#stream = stream;
  }

  stageBegins(stage: RunStage): void {
    this.#stage = stage;
    this.#done = 0;
    this.#tenths = 0;
    if (stage.kind !== 'count') {
      this.#line(`${stageName(stage)}: ${stage.cells === 1 ? '1 pass' : `${String(stage.cells)} passes`}`);
    }
  }

  cellEnds(cell: Cell, outcome: CellOutcome): void {
    if (this.#stage?.kind !== 'count') return;
    this.#done++;
    const place = `${stageName(this.#stage)} ${String(this.#done)}/${String(this.#stage.cells)}`;
    const tenths = Math.floor((TENTHS * this.#done) / this.#stage.cells);
    if (tenths === this.#tenths && outcome.kind !== 'skipped') return;
    this.#tenths = tenths;
    this.#line(`${place} ${cellName(cell)}${outcomeText(outcome)}`);
  }

  #line(text: string): void {
    this.#stream.write(`${visibleText(text)}\n`);
  }
}

const TENTHS = 10;

function stageName(stage: RunStage): string {
  switch (stage.kind) {
    case 'count':
      return 'counting';
    case 'warm-up':
      return `warm-up, round ${String(stage.round + 1)}/${String(stage.rounds)}`;
    case 'time':
      return `timing, round ${String(stage.round + 1)}/${String(stage.rounds)}`;
  }
}

function outcomeText(outcome: CellOutcome): string {
  switch (outcome.kind) {
    case 'done':
      return '';
    case 'kept':
      return ' (kept)';
    case 'skipped':
      return ` skipped: ${outcome.reason}`;
  }
}
