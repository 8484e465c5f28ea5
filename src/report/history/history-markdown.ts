/** A history as Markdown, below the limit of a comment. */

import { boundedMarkdown, escapeMarkdown, markdownRows } from '../../core/markdown.ts';
import { countOf } from '../../core/number-text.ts';
import { withVisibleText } from '../../core/visible-text.ts';
import type { HistoryRecord } from '../../history/record.ts';
import { HISTORY_MARKDOWN_HEAD } from './output-names.ts';
import {
  changeTitle,
  commitText,
  dayOf,
  eventNotes,
  historySummary,
  listed,
  timeChangeText,
  timeName,
} from './history-text.ts';

/** The newest commits first: a reader of a comment looks at the top. Ends with a line feed. */
export function historyMarkdown(history: HistoryRecord): string {
  const record = withVisibleText(history);
  const { events, times, gone } = record;
  const changes = times.flatMap((series) => series.changes.map((change) => ({ series, change })));
  return boundedMarkdown([
    HISTORY_MARKDOWN_HEAD.trimEnd(),
    '',
    escapeMarkdown(historySummary(record)),
    '',
    ...(gone.length === 0
      ? []
      : [`${countOf(gone.length, 'cell')} not counted by the newest: ${escapeMarkdown(listed(gone))}`, '']),
    ...(changes.length === 0
      ? []
      : [
          ...markdownRows(
            ['Time per request', 'Change', 'Date', 'Commit'],
            changes.map(({ series, change }) => [
              timeName(series, record),
              timeChangeText(change),
              dayOf(change.date),
              commitText(change.commit),
            ]),
          ),
          '',
        ]),
    ...events
      .toReversed()
      .flatMap((event) => [
        `**${dayOf(event.date)} ${escapeMarkdown(event.commit)}**`,
        '',
        ...eventNotes(event).map((note) => `- ${escapeMarkdown(note)}`),
        ...event.changes.flatMap((change) => [
          `- **${changeTitle(change)}** ${escapeMarkdown(change.sentence)}`,
          ...change.details.map((detail) => `  - with ${escapeMarkdown(detail)}`),
          ...(change.firstRequest === undefined ? [] : [`  - ${escapeMarkdown(change.firstRequest)}`]),
        ]),
        '',
      ]),
    ...(events.length === 0 ? ['No count changed.', ''] : []),
  ]);
}
