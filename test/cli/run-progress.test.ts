import { PassThrough } from 'node:stream';

import { describe, expect, it } from 'vitest';

import { StepProgress } from '../../src/cli/terminal/step-progress.ts';
import { ProgressBar, ProgressLines, progressOn } from '../../src/cli/terminal/run-progress.ts';
import type { RunObserver } from '../../src/bench/run-observer.ts';
import { smallMatrix } from '../bench/small-run.ts';

class Screen extends PassThrough {
  readonly isTTY: boolean;
  readonly columns = 200;

  constructor(isTTY: boolean) {
    super();
    this.isTTY = isTTY;
  }

  text(): string {
    return String(this.read() ?? '');
  }

  // What cli-progress asks of a terminal.
  cursorTo(): boolean {
    return true;
  }
  moveCursor(): boolean {
    return true;
  }
  clearLine(): boolean {
    return true;
  }
}

const cells = smallMatrix().map(({ cell }) => cell);

function play(observer: RunObserver): void {
  const [first, second, third] = cells;
  if (first === undefined || second === undefined || third === undefined) throw new Error('too few cells');
  observer.stageBegins?.({ kind: 'count', cells: 3 });
  observer.cellBegins?.(first);
  observer.cellEnds?.(first, { kind: 'done' });
  observer.cellBegins?.(second);
  observer.cellEnds?.(second, { kind: 'skipped', reason: 'nfs has no O_DIRECT' });
  observer.cellBegins?.(third);
  observer.cellEnds?.(third, { kind: 'kept' });
  for (const round of [0, 1]) {
    observer.stageBegins?.({ kind: 'time', round, rounds: 2, cells: 1 });
    observer.cellBegins?.(first);
    observer.cellEnds?.(first, { kind: 'done' });
  }
  observer.runEnds?.();
}

describe('progress', () => {
  it('is plain text without a terminal: a line per cell, then a line per round, no control characters', () => {
    const log = new Screen(false);
    play(progressOn(log));
    expect(log.text()).toBe(
      [
        'counting 1/3 small · raw · writethrough · depth 1',
        'counting 2/3 small · qcow2 eager · writethrough · 64KiB · depth 1 skipped: nfs has no O_DIRECT',
        'counting 3/3 small · qcow2 lazy · writethrough · 64KiB · depth 1 (kept)',
        'timing, round 1/2: 1 pass',
        'timing, round 2/2: 1 pass',
        '',
      ].join('\n'),
    );
  });

  it('is a bar on a terminal, which gives the cursor back at the end', () => {
    const terminal = new Screen(true);
    const bar = progressOn(terminal);
    expect(bar).toBeInstanceOf(ProgressBar);
    play(bar);
    const text = terminal.text();
    expect(text).toContain('3/3');
    expect(text).toContain('timing, round 2/2');
    expect(text.lastIndexOf('\u001b[?25h')).toBeGreaterThan(text.lastIndexOf('\u001b[?25l'));
  });

  it('survives an end before any stage', () => {
    new ProgressBar(new Screen(true)).runEnds();
    expect(new ProgressLines(new Screen(false))).not.toHaveProperty('runEnds');
  });
});

describe('progress of a few long steps', () => {
  function steps(isTTY: boolean): string {
    const screen = new Screen(isTTY);
    using progress = new StepProgress(screen);
    progress.begin('counting 1a2b (base)', 0);
    progress.begin('round 1 of 1', 0.5);
    progress.clear();
    return screen.text();
  }

  it('is a line per step without a terminal', () => {
    expect(steps(false)).toBe('counting 1a2b (base)\nround 1 of 1\n');
  });

  it('is a bar with the current step on a terminal, which leaves the cursor as it was', () => {
    const text = steps(true);
    expect(text).toContain('0 % counting 1a2b (base)');
    expect(text).toContain('50 % round 1 of 1');
    expect(text.lastIndexOf('\u001b[?25h')).toBeGreaterThan(text.lastIndexOf('\u001b[?25l'));
  });
});
