/** The card of a chart: title, legend, the drawing, the same as a table, and pictures to save. */

import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';

import { csvOf } from './csv.ts';
import { HelpButton, HelpText } from './help.tsx';
import { pngOf, saved, svgTextOf } from './picture.ts';

export interface LegendItem {
  readonly name: string;
  readonly colour: string;
  readonly meaning: string;
}

export interface ChartTable {
  readonly columns: readonly string[];
  /** The first text of a row is its heading. */
  readonly rows: readonly (readonly string[])[];
}

/** Pixels of a drawing on paper, which the style fits to the sheet. */
const PAPER_WIDTH = 760;

interface FrameProps {
  readonly id: string;
  readonly title: string;
  readonly subtitle: string;
  readonly legend: readonly LegendItem[];
  readonly table: ChartTable | undefined;
  /** Draws for a width in pixels. */
  readonly children: (width: number) => ComponentChildren;
  /** Its text in `page-help`. */
  readonly help: string;
  /** Whether it is drawn as a picture, which can be saved. Default true. */
  readonly isPicture?: boolean;
  /** Choices that belong to this chart. */
  readonly controls?: ComponentChildren;
}

export function ChartFrame({
  id,
  title,
  subtitle,
  legend,
  table,
  children,
  controls,
  help,
  isPicture = true,
}: FrameProps): JSX.Element {
  const place = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  const [showsHelp, setShowsHelp] = useState(false);
  const [showsTable, setShowsTable] = useState(false);
  useEffect(() => {
    const element = place.current;
    if (element === null) return;
    const measure = (): void => setWidth(Math.floor(element.clientWidth));
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    // A print is laid out without a turn for the observer.
    const drawForPaper = (): void => setWidth(PAPER_WIDTH);
    addEventListener('beforeprint', drawForPaper);
    addEventListener('afterprint', measure);
    return () => {
      observer.disconnect();
      removeEventListener('beforeprint', drawForPaper);
      removeEventListener('afterprint', measure);
    };
  }, []);
  const picture = (): SVGSVGElement | null => place.current?.querySelector('svg') ?? null;
  return (
    <figure class="card chart-card" aria-labelledby={`title-${id}`}>
      <figcaption>
        <div>
          <h3 id={`title-${id}`}>{title}</h3>
          <p class="sub">{subtitle}</p>
        </div>
        <div class="actions">
          <HelpButton title={title} id={`help-${id}`} isOpen={showsHelp} onOpen={setShowsHelp} />
          {table && (
            <button type="button" aria-pressed={showsTable} onClick={() => setShowsTable(!showsTable)}>
              Table
            </button>
          )}
          {table && (
            <button
              type="button"
              aria-label={`Save ${title} as CSV`}
              onClick={() =>
                saved(`${id}.csv`, new Blob([csvOf(table.columns, table.rows)], { type: 'text/csv' }))
              }
            >
              CSV
            </button>
          )}
          {isPicture && <SaveButtons name={id} title={title} picture={picture} />}
        </div>
      </figcaption>
      <HelpText of={help} id={`help-${id}`} isOpen={showsHelp} />
      {controls}
      {legend.length > 0 && (
        <ul class="legend">
          {legend.map((item) => (
            <li key={item.name} title={item.meaning}>
              <i style={{ background: item.colour }} />
              <span>
                <b>{item.name}</b> <span class="meaning">{item.meaning}</span>
              </span>
            </li>
          ))}
        </ul>
      )}
      <div class="chart" id={`chart-${id}`} ref={place}>
        {width > 0 && children(width)}
      </div>
      {table && showsTable && <DataTable id={id} title={title} table={table} />}
    </figure>
  );
}

function DataTable({
  id,
  title,
  table,
}: {
  readonly id: string;
  readonly title: string;
  readonly table: ChartTable;
}): JSX.Element {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={`${title}, as a table`}>
      <table id={`rows-${id}`}>
        <thead>
          <tr>
            {table.columns.map((column, index) => (
              <th key={column} scope="col" class={index === 0 ? '' : 'num'}>
                {column}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {table.rows.map((row, index) => (
            <tr key={index}>
              {row.map((text, column) =>
                column === 0 ? (
                  <th key={column} scope="row">
                    {text}
                  </th>
                ) : (
                  <td key={column} class="num">
                    {text}
                  </td>
                ),
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function SaveButtons({
  name,
  title,
  picture,
}: {
  readonly name: string;
  readonly title: string;
  readonly picture: () => SVGSVGElement | null;
}): JSX.Element {
  const saveSvg = (): void => {
    const svg = picture();
    if (svg !== null) saved(`${name}.svg`, new Blob([svgTextOf(svg, title)], { type: 'image/svg+xml' }));
  };
  const savePng = async (): Promise<void> => {
    const svg = picture();
    if (svg !== null) saved(`${name}.png`, await pngOf(svg, title));
  };
  return (
    <>
      <button type="button" aria-label={`Save ${title} as SVG`} onClick={saveSvg}>
        SVG
      </button>
      <button type="button" aria-label={`Save ${title} as PNG`} onClick={() => void savePng()}>
        PNG
      </button>
    </>
  );
}
