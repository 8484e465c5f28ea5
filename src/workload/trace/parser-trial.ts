/**
 * Whether the parser of a format of lines takes the beginning of a file: so recognition and reading
 * share one grammar.
 */

import { LineScanner } from './line-scanner.ts';
import { RequestCollector } from './request-collector.ts';
import { headText, LINES_MAX, type TraceHead } from './trace-head.ts';
import type { TraceParser } from './trace-parser.ts';
import { LIMITS } from '../../core/limits.ts';

const LINE_FEED = Buffer.from('\n', 'latin1');

/**
 * A request that breaks a rule of all formats (not aligned, too long) still shows the format: the
 * error is then about that rule.
 */
class TrialCollector extends RequestCollector {
  hasRequest = false;

  constructor() {
    super({ orderWindow: Infinity, rebases: true, volume: undefined, size: undefined });
  }

  override brokenRule(): undefined {
    this.hasRequest = true;
  }
}

/** True from the first request, or line that only the format has, if no line before it is broken. */
export function parserTakes(
  parserOf: (collector: RequestCollector, head: Uint8Array) => TraceParser,
  head: TraceHead,
): boolean {
  const collector = new TrialCollector();
  const parser = parserOf(collector, head.bytes);
  if (parser.unit !== 'line') return false;
  const lines = new LineScanner({ lengthMax: LIMITS.traceLineBytes });
  // A file that is one line may have lost its end, which is another error.
  lines.push(Buffer.concat([headText(head), LINE_FEED]));
  while (lines.line < LINES_MAX && lines.advance()) {
    if (lines.tooLong || parser.line(lines.bytes, lines.start, lines.end) !== undefined) return false;
    if (collector.hasRequest || parser.isRecognised === true) return true;
  }
  return false;
}
