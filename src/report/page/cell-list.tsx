/** All cells that the filter keeps, a row each; columns sort. */

import type { JSX } from 'preact';
import { useEffect, useMemo, useState } from 'preact/hooks';

import { bytesText, factorText, microsecondsText, rateText } from '../numbers.ts';
import type { FigureName, PageData } from '../page-format.ts';
import { csvOf } from './csv.ts';
import { valueOn } from './data.ts';
import { saved } from './picture.ts';

interface CellListProps {
  readonly data: PageData;
  readonly cells: readonly number[];
  readonly sort: string;
  readonly onSort: (sort: string) => void;
  readonly onSelect: (cell: number) => void;
}

interface Column {
  readonly id: string;
  readonly title: string;
  readonly isNumber: boolean;
  readonly text: (cell: number) => string;
  readonly key: (cell: number) => number | string | undefined;
}

/** Rows at first: more are drawn when the reader asks, or prints. */
const ROWS_FIRST = 60;

const NUMBERS: readonly (readonly [FigureName, string, (value: number | undefined) => string])[] = [
  ['syncsPerWrite', 'Syncs/write', rateText],
  ['syncsPerAllocatingWrite', 'Syncs/alloc. write', rateText],
  ['metadataBytesPerWrite', 'Meta. B/write', bytesText],
  ['fillBytesPerWrite', 'Fill B/write', bytesText],
  ['writeAmplification', 'Amplif.', factorText],
  ['zeroRangeAmplification', 'Zeroed', factorText],
  ['readsPerRead', 'Host reads/read', rateText],
  ['readBytesPerRead', 'Host B/read', bytesText],
  ['timeNs', 'Median/req.', microsecondsText],
  ['p50Ns', 'p50 write', microsecondsText],
  ['p99Ns', 'p99 write', microsecondsText],
  ['p999Ns', 'p99.9 write', microsecondsText],
  ['maxNs', 'Max write', microsecondsText],
];

export function CellList({ data, cells, sort, onSort, onSelect }: CellListProps): JSX.Element {
  const [most, setMost] = useState(ROWS_FIRST);
  const columns = useMemo(() => columnsOf(data), [data]);
  const ordered = useMemo(() => sorted(cells, columns, sort), [cells, columns, sort]);
  useEffect(() => {
    const all = (): void => setMost(Infinity);
    addEventListener('beforeprint', all);
    return () => removeEventListener('beforeprint', all);
  }, []);
  const shown = ordered.slice(0, most);
  const left = ordered.length - shown.length;
  return (
    <>
      <div class="scroll table-scroll card" tabIndex={0} role="region" aria-label="All cells">
        <table id="cells" class="cells">
          <caption class="hidden">Counts per guest write, close included; sort by a heading.</caption>
          <thead>
            <tr>
              {columns.map(({ id, title, isNumber }) => (
                <th key={id} scope="col" class={isNumber ? 'num' : ''} aria-sort={orderOf(sort, id)}>
                  <button type="button" onClick={() => onSort(nextSort(sort, id))}>
                    {title}
                    <span aria-hidden="true">
                      {{ ascending: ' ↑', descending: ' ↓', none: '' }[orderOf(sort, id)]}
                    </span>
                  </button>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {shown.map((cell) => (
              <tr key={cell} data-cell={cell}>
                {columns.map(({ id, isNumber, text }, index) =>
                  index === 0 ? (
                    <th key={id} scope="row">
                      <button
                        type="button"
                        class="link"
                        title="Show its host operations"
                        onClick={() => onSelect(cell)}
                      >
                        {text(cell)}
                      </button>
                    </th>
                  ) : (
                    <td key={id} class={isNumber ? 'num' : ''}>
                      {text(cell)}
                    </td>
                  ),
                )}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <p class="more">
        {left > 0 && (
          <button type="button" onClick={() => setMost(Infinity)}>
            Show {left.toLocaleString('en-US')} more
          </button>
        )}{' '}
        <button
          type="button"
          onClick={() => saved('cells.csv', new Blob([csvText(columns, ordered)], { type: 'text/csv' }))}
        >
          Save as CSV
        </button>
      </p>
    </>
  );
}

/** All cells of the filter, also those that are not drawn. */
function csvText(columns: readonly Column[], cells: readonly number[]): string {
  return csvOf(
    columns.map(({ title }) => title),
    cells.map((cell) => columns.map(({ text }) => text(cell))),
  );
}

function columnsOf(data: PageData): readonly Column[] {
  const cells = [...data.names.keys()];
  const axes = [...data.axes.entries()].filter(([, { isHidden }]) => !isHidden);
  const figures = NUMBERS.filter(([name]) => data.figures[name].some((value) => value !== null));
  const hasRemarks = data.remarks.some((text) => text !== '');
  return [
    ...axes.map(([index, { name, title }]) => ({
      id: name,
      title,
      isNumber: false,
      text: (cell: number) => valueOn(data, index, cell) ?? '–',
      key: (cell: number) => data.places[index]?.[cell],
    })),
    ...figures.map(([name, title, text]) => ({
      id: name,
      title,
      isNumber: true,
      text: (cell: number) => text(data.figures[name][cell] ?? undefined),
      key: (cell: number) => data.figures[name][cell] ?? undefined,
    })),
    ...(cells.some((cell) => data.ratios[cell])
      ? [
          {
            id: 'ratio',
            title: 'Time ratio',
            isNumber: true,
            text: (cell: number) => ratioText(data, cell),
            key: (cell: number) => data.ratios[cell]?.estimate,
          },
        ]
      : []),
    ...(hasRemarks
      ? [
          {
            id: 'remarks',
            title: 'Remarks',
            isNumber: false,
            text: (cell: number) => data.remarks[cell] ?? '',
            key: (cell: number) => data.remarks[cell],
          },
        ]
      : []),
  ];
}

/** `≈` where the samples show no difference. */
function ratioText(data: PageData, cell: number): string {
  const ratio = data.ratios[cell];
  if (ratio === null || ratio === undefined) return '';
  return `${ratio.verdict === 'no difference shown' ? '≈ ' : ''}${factorText(ratio.estimate)}`;
}

function orderOf(sort: string, id: string): 'ascending' | 'descending' | 'none' {
  return sort === id ? 'ascending' : sort === `-${id}` ? 'descending' : 'none';
}

/** Up, down, as the result has them. */
function nextSort(sort: string, id: string): string {
  return sort === id ? `-${id}` : sort === `-${id}` ? '' : id;
}

/** Cells without a value come last, whichever way. */
function sorted(cells: readonly number[], columns: readonly Column[], sort: string): readonly number[] {
  const column = columns.find(({ id }) => id === sort.replace(/^-/, ''));
  if (column === undefined) return cells;
  const way = sort.startsWith('-') ? -1 : 1;
  const keyed = cells.map((cell) => ({ cell, key: column.key(cell) }));
  return keyed
    .toSorted((a, b) => {
      if (a.key === undefined || b.key === undefined) {
        return Number(a.key === undefined) - Number(b.key === undefined);
      }
      return way * (a.key < b.key ? -1 : a.key > b.key ? 1 : 0);
    })
    .map(({ cell }) => cell);
}
