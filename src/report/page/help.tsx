/** The `?` of a chart, and the text that it shows: how the chart is read. */

import type { JSX } from 'preact';

import { CHART_HELP } from '../page-help.ts';

interface HelpButtonProps {
  /** Of the chart. */
  readonly title: string;
  /** The element of the text. */
  readonly id: string;
  readonly isOpen: boolean;
  readonly onOpen: (isOpen: boolean) => void;
}

export function HelpButton({ title, id, isOpen, onOpen }: HelpButtonProps): JSX.Element {
  return (
    <button
      type="button"
      aria-label={`How to read: ${title}`}
      title="How to read this"
      aria-expanded={isOpen}
      aria-controls={id}
      onClick={() => onOpen(!isOpen)}
    >
      ?
    </button>
  );
}

export function HelpText({
  of,
  id,
  isOpen,
}: Pick<HelpButtonProps, 'id' | 'isOpen'> & {
  /** In `page-help`. */
  readonly of: string;
}): JSX.Element {
  return (
    <p id={id} class="help" hidden={!isOpen}>
      {CHART_HELP[of]}
    </p>
  );
}
