/** The page of a result: charts, table and time lines of the cells that the reader chooses. */

import type { JSX } from 'preact';
import { useEffect, useMemo, useState } from 'preact/hooks';

import type { PageData, PageDetails } from '../page-format.ts';
import { OTHER_COLOUR, VARIANT_COLOURS } from '../palette.ts';
import { CellList } from './cell-list.tsx';
import { axisIndex, pageDetails, valueOn } from './data.ts';
import { DeviceTable } from './device-table.tsx';
import { matches, parseFilter } from './filter.ts';
import { ImageMap } from './image-map.tsx';
import { LatencyChart } from './latency-chart.tsx';
import { MeasureChart } from './measure-chart.tsx';
import { measuresOf } from './measures.ts';
import { firstDimensions, pivotOf, type Dimensions } from './pivot.ts';
import { TimelineChart } from './timeline-chart.tsx';
import { RepairChart } from './repair-chart.tsx';
import { FilterBar, MeasureBar, PivotBar } from './toolbar.tsx';
import type { View } from './view.ts';

interface ReportAppProps {
  readonly data: PageData;
  readonly view: View;
  readonly onView: (change: Partial<View>) => void;
}

/** Charts that are shown before the reader chooses. */
const FIRST_CHARTS: readonly string[] = ['syncs', 'bytes', 'times'];

export function ReportApp({ data, view, onView }: ReportAppProps): JSX.Element {
  const measures = useMemo(() => measuresOf(data), [data]);
  const filter = useMemo(() => parseFilter(view.filter, data.axes), [view.filter, data]);
  const cells = useMemo(() => {
    const all = [...data.names.keys()];
    const indices = new Map(data.axes.map((axis, index) => [axis.name, index]));
    return all.filter((cell) =>
      matches(filter, data.axes, (axis) => valueOn(data, indices.get(axis.name) ?? -1, cell)),
    );
  }, [filter, data]);
  const dimensions = useMemo(() => dimensionsOf(data, view), [data, view]);
  const pivot = useMemo(
    () => pivotOf(data, cells, dimensions, { hold: view.hold, preferred: data.quoted[0] }),
    [data, cells, dimensions, view.hold],
  );
  const variants = axisIndex(data, 'variant');
  const colourOf = (cell: number): string =>
    VARIANT_COLOURS[valueOn(data, variants, cell) ?? ''] ?? OTHER_COLOUR;
  const ids = measures.map(({ id }) => id);
  const first = ids.filter((id) => FIRST_CHARTS.includes(id));
  const shown = view.show ?? (first.length > 0 ? first : ids.slice(0, 1));
  const select = (cell: number): void => {
    onView({ cell: data.names[cell], other: undefined, from: undefined, to: undefined });
    document.getElementById('operations')?.scrollIntoView({ behavior: 'smooth' });
  };
  return (
    <>
      <section id="explore" aria-labelledby="explore-title">
        <h2 id="explore-title" class="hidden">
          Cells compared
        </h2>
        <div class="toolbar">
          <FilterBar data={data} text={view.filter} filter={filter} matching={cells.length} onView={onView} />
          <PivotBar data={data} dimensions={dimensions} held={pivot.held} view={view} onView={onView} />
        </div>
        {view.filter !== '' && <p class="sub on-paper">Cells that match the filter {view.filter}</p>}
        <MeasureBar measures={measures} shown={shown} as={view.as} onView={onView} />
        {cells.length === 0 ? (
          <p class="card empty">No cell matches the filter.</p>
        ) : (
          measures
            .filter(({ id }) => shown.includes(id))
            .map((measure) => (
              <MeasureChart
                key={measure.id}
                data={data}
                measure={measure}
                pivot={pivot}
                as={view.as}
                colourOf={colourOf}
                onSelect={select}
              />
            ))
        )}
      </section>
      <section id="table" aria-labelledby="table-title">
        <h2 id="table-title">All cells</h2>
        <p class="sub">
          Counts per guest write, close included.{' '}
          <span class="on-screen">Click a heading to sort, a row to see its host operations.</span>
        </p>
        <CellList
          data={data}
          cells={cells}
          sort={view.sort}
          onSort={(sort) => onView({ sort })}
          onSelect={select}
        />
      </section>
      <Details data={data} shown={pivot.cells} colourOf={colourOf} view={view} onView={onView} />
    </>
  );
}

interface DetailsProps extends ReportAppProps {
  readonly shown: readonly number[];
  readonly colourOf: (cell: number) => string;
}

/** What needs the details of the page, which are unpacked after the first screen. */
function Details({ data, shown, colourOf, view, onView }: DetailsProps): JSX.Element | null {
  const [details, setDetails] = useState<PageDetails | undefined>(undefined);
  useEffect(() => {
    // After the first screen is drawn.
    let isPresent = true;
    const later = setTimeout(() => {
      void pageDetails().then((unpacked) => {
        if (isPresent) setDetails(unpacked);
      });
    }, 50);
    return () => {
      isPresent = false;
      clearTimeout(later);
    };
  }, [data]);
  // While a result grows, those of before belong to fewer cells.
  if (details?.requests.length !== data.names.length) return <p class="sub">Unpacking host operations …</p>;
  return (
    <>
      <Operations
        data={data}
        details={details}
        shown={shown}
        colourOf={colourOf}
        view={view}
        onView={onView}
      />
      <section id="devices" aria-labelledby="devices-title">
        <h2 id="devices-title">Devices and latency</h2>
        <DeviceTable details={details} names={data.names} cells={shown} colourOf={colourOf} />
        <LatencyChart details={details} names={data.names} cells={shown} colourOf={colourOf} />
      </section>
      {details.repairs.length > 0 && (
        <section id="crash" aria-labelledby="crash-title">
          <h2 id="crash-title">After a crash</h2>
          <RepairChart details={details} names={data.names} colourOf={colourOf} />
        </section>
      )}
    </>
  );
}

function Operations({
  data,
  details,
  shown,
  view,
  onView,
}: DetailsProps & { readonly details: PageDetails }): JSX.Element | null {
  const withRequests = [...new Set([...shown, ...data.quoted])].filter((cell) => details.requests[cell]);
  const named = (name: string | undefined): number | undefined => {
    const cell = name === undefined ? -1 : data.names.indexOf(name);
    return cell >= 0 && details.requests[cell] ? cell : undefined;
  };
  const [eager, lazy] = pairOf(data, withRequests);
  const a = named(view.cell) ?? eager;
  const b =
    view.other === '' ? undefined : (named(view.other) ?? (view.cell === undefined ? lazy : undefined));
  if (a === undefined) {
    return (
      <section id="operations">
        <h2>Host operations</h2>
        <p class="card empty">
          This result kept no request costs. Run its cells again, or write one cell’s operations to a file:{' '}
          <code>qcow2-bench run … --host-log ops.jsonl</code>
        </p>
      </section>
    );
  }
  const choices = [...new Set([a, ...(b === undefined ? [] : [b]), ...withRequests])];
  const sides = [a, b].flatMap((cell) => {
    const requests = cell === undefined ? undefined : details.requests[cell];
    return cell === undefined || !requests ? [] : [{ name: data.names[cell] ?? '', requests }];
  });
  const mapped = [a, b].filter((cell) => cell !== undefined && details.operations[cell]);
  return (
    <section id="operations" aria-labelledby="operations-title">
      <h2 id="operations-title">Host operations</h2>
      <p class="sub">
        What each guest request makes the host do, by purpose and cause. The first{' '}
        {sides[0]?.requests.sequence.length ?? 0} requests are kept for this.
      </p>
      <TimelineChart details={details} sides={sides} view={view} onView={onView}>
        <CellChoice
          label="Cell"
          data={data}
          choices={choices}
          value={a}
          onChoose={(cell) => onView({ cell })}
        />
        <CellChoice
          label="Compared with"
          data={data}
          choices={choices.filter((cell) => cell !== a)}
          value={b}
          onChoose={(other) => onView({ cell: data.names[a], other })}
          none
        />
      </TimelineChart>
      <div class="pair">
        {mapped.map((cell, index) =>
          cell === undefined ? null : (
            <ImageMap
              key={cell}
              id={`image-map-${String(index)}`}
              name={data.names[cell] ?? ''}
              operations={details.operations[cell] ?? []}
            />
          ),
        )}
      </div>
      {mapped.length === 0 && (
        <p class="sub note">
          A map of the image needs the places of the operations, which a result keeps of the quoted cells
          alone. For another: <code>qcow2-bench run … --host-log ops.jsonl</code>
        </p>
      )}
    </section>
  );
}

function CellChoice({
  label,
  data,
  choices,
  value,
  onChoose,
  none = false,
}: {
  readonly label: string;
  readonly data: PageData;
  readonly choices: readonly number[];
  readonly value: number | undefined;
  readonly onChoose: (name: string) => void;
  readonly none?: boolean;
}): JSX.Element {
  return (
    <label class="wide">
      {label}
      <select
        value={value === undefined ? '' : (data.names[value] ?? '')}
        onChange={(event) => onChoose(event.currentTarget.value)}
      >
        {none && <option value="">nothing</option>}
        {choices.map((cell) => (
          <option key={cell} value={data.names[cell]}>
            {data.names[cell]}
          </option>
        ))}
      </select>
    </label>
  );
}

/** Eager and lazy of the quoted cells, else the first two. */
function pairOf(data: PageData, cells: readonly number[]): readonly (number | undefined)[] {
  const variants = axisIndex(data, 'variant');
  const quoted = data.quoted.filter((cell) => cells.includes(cell));
  const among = quoted.length > 0 ? quoted : cells;
  const having = (word: string): number | undefined =>
    among.find((cell) => valueOn(data, variants, cell)?.includes(word) === true);
  const [eager, lazy] = [having('eager'), having('lazy')];
  return eager === undefined || lazy === undefined ? among.slice(0, 2) : [eager, lazy];
}

/** As chosen, as far as the page has such axes. */
function dimensionsOf(data: PageData, view: View): Dimensions {
  const first = firstDimensions(data);
  const known = (name: string | undefined, other: string): string =>
    name !== undefined && (name === '' || axisIndex(data, name) >= 0) ? name : other;
  const rows = known(view.rows === '' ? undefined : view.rows, first.rows);
  const columns = known(view.columns, first.columns);
  const panels = known(view.panels, first.panels);
  return {
    rows,
    columns: columns === rows ? '' : columns,
    panels: panels === rows || panels === columns ? '' : panels,
  };
}
