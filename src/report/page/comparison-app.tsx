/** Compared results: the cells that changed, ranked; those that did not, folded; a cell's time lines. */

import type { JSX } from 'preact';
import { useState } from 'preact/hooks';

import { signedPercentText, bytesText, rateText } from '../numbers.ts';
import type { PageComparedCell, PageComparison, PageComparisons } from '../page-format.ts';
import { TimelineChart } from './timeline-chart.tsx';
import type { View } from './view.ts';

interface ComparisonAppProps {
  readonly data: PageComparisons;
  readonly comparison: PageComparison;
  readonly view: View;
  readonly onView: (change: Partial<View>) => void;
}

export function ComparisonApp({ data, comparison, view, onView }: ComparisonAppProps): JSX.Element {
  const words = view.filter
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== '');
  const isShown = ({ name }: PageComparedCell): boolean =>
    words.every((word) =>
      word.startsWith('!') ? !name.toLowerCase().includes(word.slice(1)) : name.toLowerCase().includes(word),
    );
  const cells = comparison.cells.filter(isShown);
  const changed = cells.filter((cell) => cell.isChanged);
  const unchanged = cells.filter((cell) => !cell.isChanged);
  const [isOpen, setIsOpen] = useState(false);
  const chosen =
    comparison.cells.find(({ name }) => name === view.cell) ??
    comparison.cells.find(({ isChanged, before, after }) => isChanged && before !== null && after !== null);
  const choose = (name: string): void => onView({ cell: name, from: undefined, to: undefined });
  return (
    <>
      <section aria-label="Compared cells">
        <h2>Cells, the largest change first</h2>
        <div class="filter-line comparison-filter">
          <label class="filter-field">
            <span class="hidden">Filter cells</span>
            <input
              id="filter"
              type="search"
              value={view.filter}
              placeholder="Filter: stride lazy !none"
              autocomplete="off"
              spellcheck={false}
              onInput={(event) => onView({ filter: event.currentTarget.value })}
            />
          </label>
          <output aria-live="polite" id="filter-state">
            {changed.length} changed, {unchanged.length} unchanged
          </output>
        </div>
        {changed.length > 0 && (
          <Cells cells={changed} chosen={chosen} onChoose={choose} title="Changed cells" />
        )}
        {unchanged.length > 0 && (
          <p class="more">
            <button type="button" aria-expanded={isOpen} onClick={() => setIsOpen(!isOpen)}>
              {isOpen ? 'Hide' : 'Show'} {unchanged.length.toLocaleString('en-US')} unchanged
            </button>
          </p>
        )}
        {isOpen && <Cells cells={unchanged} chosen={chosen} onChoose={choose} title="Unchanged cells" />}
      </section>
      <Line data={data} cell={chosen} comparison={comparison} view={view} onView={onView} />
    </>
  );
}

function Line({
  data,
  cell,
  comparison,
  view,
  onView,
}: ComparisonAppProps & { readonly cell: PageComparedCell | undefined }): JSX.Element | null {
  if (cell === undefined) return null;
  const { before, after, name } = cell;
  if (before === null || after === null) {
    return <p class="sub note">{name}: a side kept no request costs, so its requests cannot be compared.</p>;
  }
  const sides = [
    { name: `${name} — ${comparison.before}`, requests: before },
    { name: `${name} — ${comparison.after}`, requests: after },
  ];
  return (
    <section aria-label="Host operations of both sides">
      <h2>Host operations, A above B</h2>
      <TimelineChart details={data} sides={sides} view={view} onView={onView} />
    </section>
  );
}

function Cells({
  cells,
  chosen,
  onChoose,
  title,
}: {
  readonly cells: readonly PageComparedCell[];
  readonly chosen: PageComparedCell | undefined;
  readonly onChoose: (name: string) => void;
  readonly title: string;
}): JSX.Element {
  return (
    <div class="scroll table-scroll card" tabIndex={0} role="region" aria-label={title}>
      <table class="cells compared">
        <thead>
          <tr>
            <th scope="col">Cell</th>
            <th scope="col" class="num">
              Syncs/write A → B
            </th>
            <th scope="col">Change</th>
            <th scope="col" class="num">
              Bytes/write A → B
            </th>
            <th scope="col">Change</th>
          </tr>
        </thead>
        <tbody>
          {cells.map((cell) => (
            <tr key={cell.name} aria-current={cell === chosen ? 'true' : undefined}>
              <th scope="row">
                <button
                  type="button"
                  class="link"
                  title="Show its host operations"
                  onClick={() => onChoose(cell.name)}
                >
                  {cell.name}
                </button>
              </th>
              <td class="num">{pairText(cell.syncs, rateText)}</td>
              <td>
                <Change pair={cell.syncs} />
              </td>
              <td class="num">{pairText(cell.bytes, bytesText)}</td>
              <td>
                <Change pair={cell.bytes} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function pairText(pair: readonly [number, number] | null, text: (value: number) => string): string {
  if (pair === null) return '–';
  const [before, after] = pair;
  if (before === after) return text(before);
  const [old, own] = [text(before), text(after)];
  if (old !== own) return `${old} → ${own}`;
  return `${String(Number(before.toPrecision(4)))} → ${String(Number(after.toPrecision(4)))}`;
}

/** A change that rounds to nothing is one. */
function percentOf(difference: number): string {
  if (Math.abs(difference) >= 0.005) return signedPercentText(difference);
  return difference > 0 ? '< +1 %' : '> −1 %';
}

/** Widest bar: twice as much, or nothing. */
const FULL = 1;

/** A bar to the right for more, to the left for less. */
function Change({ pair }: { readonly pair: readonly [number, number] | null }): JSX.Element {
  const [before, after] = pair ?? [0, 0];
  const isNew = before === 0 && after > 0;
  const difference = before === 0 ? (isNew ? FULL : 0) : after / before - 1;
  if (difference === 0) return <span class="change-text">=</span>;
  const width = Math.min(1, Math.abs(difference) / FULL) * 50;
  return (
    <span class="change-cell">
      <span class="change-bar" aria-hidden="true">
        <i
          class={difference > 0 ? 'up' : 'down'}
          style={{ width: `${String(width)}%`, left: `${String(difference > 0 ? 50 : 50 - width)}%` }}
        />
      </span>
      <span class="change-text">{isNew ? 'new' : percentOf(difference)}</span>
    </span>
  );
}
