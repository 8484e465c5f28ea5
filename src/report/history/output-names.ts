/** By what outputs of a history are known; apart from their making, which needs large libraries. */

/** What a history as Markdown begins with. */
export const HISTORY_MARKDOWN_HEAD = '## History of costs\n';

/** Names of the pictures. */
export const HISTORY_CHARTS = ['history-times', 'history-counts'] as const;
export type HistoryChart = (typeof HISTORY_CHARTS)[number];
