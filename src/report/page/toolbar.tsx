/** What is shown: the filter, the axes of rows, columns and panels, and the measures. */

import type { JSX } from 'preact';
import { useState } from 'preact/hooks';

import type { PageData } from '../page-format.ts';
import { hasTerm, toggled, type Filter } from './filter.ts';
import type { Measure } from './measures.ts';
import type { Dimensions, HeldAxis } from './pivot.ts';
import type { View } from './view.ts';

type Change = (change: Partial<View>) => void;

interface FilterBarProps {
  readonly data: PageData;
  readonly text: string;
  readonly filter: Filter;
  readonly matching: number;
  readonly onView: Change;
}

/** Values of an axis that are offered; others are typed. */
const CHIPS_MAX = 40;

export function FilterBar({ data, text, filter, matching, onView }: FilterBarProps): JSX.Element {
  const [isOpen, setIsOpen] = useState(false);
  const all = data.names.length;
  return (
    <div class="filter-bar" role="search">
      <div class="filter-line">
        <label class="filter-field">
          <span class="hidden">Filter cells</span>
          <input
            id="filter"
            type="search"
            value={text}
            placeholder="Filter: cache:none format:qcow2 !unsafe"
            autocomplete="off"
            spellcheck={false}
            aria-describedby="filter-state"
            onInput={(event) => onView({ filter: event.currentTarget.value })}
          />
          <kbd aria-hidden="true">/</kbd>
        </label>
        <output id="filter-state" aria-live="polite">
          {matching === all
            ? `${all.toLocaleString('en-US')} cells`
            : `${matching.toLocaleString('en-US')} of ${all.toLocaleString('en-US')} cells`}
        </output>
        <button type="button" aria-expanded={isOpen} aria-controls="axes" onClick={() => setIsOpen(!isOpen)}>
          Axes
        </button>
        {text !== '' && (
          <button type="button" onClick={() => onView({ filter: '' })}>
            Clear
          </button>
        )}
      </div>
      {filter.problems.map((problem) => (
        <p key={problem} class="problem" role="alert">
          {problem}
        </p>
      ))}
      {isOpen && (
        <div id="axes" class="axes">
          {data.axes.map(({ name, values }) => (
            <div key={name} role="group" aria-label={name}>
              <span class="axis-name">{name}</span>
              {values.slice(0, CHIPS_MAX).map((value) => (
                <button
                  key={value}
                  type="button"
                  class="chip"
                  aria-pressed={hasTerm(text, name, value)}
                  onClick={() => onView({ filter: toggled(text, name, value) })}
                >
                  {value}
                </button>
              ))}
              {values.length > CHIPS_MAX && <span class="sub">and {values.length - CHIPS_MAX} more</span>}
            </div>
          ))}
          <p class="sub">
            <code>axis:value</code> keeps, <code>!</code> excludes, a word searches everywhere; several values
            of one axis keep each.
          </p>
        </div>
      )}
    </div>
  );
}

interface PivotBarProps {
  readonly data: PageData;
  readonly dimensions: Dimensions;
  readonly held: readonly HeldAxis[];
  readonly view: View;
  readonly onView: Change;
}

const DIMENSIONS = [
  ['rows', 'Rows'],
  ['columns', 'Columns'],
  ['panels', 'Panels'],
] as const;

export function PivotBar({ data, dimensions, held, view, onView }: PivotBarProps): JSX.Element {
  const axes = data.axes.filter(({ isHidden }) => !isHidden);
  const choose = (dimension: keyof Dimensions, name: string): void => {
    // An axis is in one place: the other takes what this one had.
    const own = dimensions[dimension];
    const swapped = DIMENSIONS.map(([other]) => other).find(
      (other) => other !== dimension && dimensions[other] === name && name !== '',
    );
    onView({ ...dimensions, [dimension]: name, ...(swapped === undefined ? {} : { [swapped]: own }) });
  };
  return (
    <div class="pivot-bar">
      {DIMENSIONS.map(([dimension, title]) => (
        <label key={dimension}>
          {title}
          <select
            data-select={dimension}
            value={dimensions[dimension]}
            onChange={(event) => choose(dimension, event.currentTarget.value)}
          >
            {dimension !== 'rows' && <option value="">none</option>}
            {axes.map(({ name, title: axis }) => (
              <option key={name} value={name}>
                {axis}
              </option>
            ))}
          </select>
        </label>
      ))}
      {held.map(({ axis, choices, value }) => (
        <label key={axis.name} class="held">
          {axis.title}
          <select
            data-select={axis.name}
            value={value}
            onChange={(event) => onView({ hold: { ...view.hold, [axis.name]: event.currentTarget.value } })}
          >
            {choices.map((choice) => (
              <option key={choice} value={choice}>
                {choice}
              </option>
            ))}
          </select>
        </label>
      ))}
    </div>
  );
}

interface MeasureBarProps {
  readonly measures: readonly Measure[];
  readonly shown: readonly string[];
  readonly as: View['as'];
  readonly onView: Change;
}

const SHORT_TITLES: Readonly<Record<string, string>> = {
  syncs: 'Syncs',
  bytes: 'Bytes',
  amplification: 'Amplification',
  reads: 'Reads',
  times: 'Times',
  ratios: 'Time ratios',
  split: 'Time split',
  p99: 'p99',
};

export function MeasureBar({ measures, shown, as, onView }: MeasureBarProps): JSX.Element {
  return (
    <div class="measure-bar">
      <div role="group" aria-label="Charts">
        {measures.map(({ id }) => (
          <button
            key={id}
            type="button"
            class="chip"
            aria-pressed={shown.includes(id)}
            onClick={() =>
              onView({
                show: measures
                  .map((measure) => measure.id)
                  .filter((each) => (each === id ? !shown.includes(id) : shown.includes(each))),
              })
            }
          >
            {SHORT_TITLES[id] ?? id}
          </button>
        ))}
      </div>
      <div role="group" aria-label="Drawn as" class="segments">
        {(['bars', 'grid'] as const).map((way) => (
          <button key={way} type="button" aria-pressed={as === way} onClick={() => onView({ as: way })}>
            {way === 'bars' ? 'Bars' : 'Numbers'}
          </button>
        ))}
      </div>
    </div>
  );
}
