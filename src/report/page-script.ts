/**
 * The script of the report page: draws the charts, keeps them as wide as the page, and follows the
 * selectors.
 *
 * Invariants:
 * - `runPage` becomes part of the page by its own source text, so it refers to nothing outside
 *   itself. It is written here as a function so that it is type-checked and linted like the rest.
 * - It asks the network for nothing and evaluates no text: charts run in the interpreter of
 *   vega-embed.
 */

/** What the page's script reads from its JSON element. */
export interface PageData {
  readonly charts: readonly PageChart[];
  /** What is chosen at first. */
  readonly selected: Readonly<Record<string, string>>;
}

export interface PageChart {
  readonly id: string;
  readonly spec: object;
  readonly rows: readonly Readonly<Record<string, string | number | null>>[];
  readonly selections: readonly string[];
  readonly columns: readonly { readonly field: string; readonly title: string }[];
  /** Pixels kept for axis labels beside panels; 0 where the chart sizes itself. */
  readonly gutter: number;
}

/** The source text of `runPage`, called with the browser's window. */
export function pageScript(): string {
  return `(${runPage.toString()})(window);`;
}

interface PageElement {
  textContent: string | null;
  value: string;
  scope: string;
  hidden: boolean;
  readonly clientWidth: number;
  readonly dataset: Record<string, string | undefined>;
  append(...children: PageElement[]): void;
  replaceChildren(...children: PageElement[]): void;
  addEventListener(type: string, listener: () => void): void;
}

interface PageView {
  signal(name: string, value: unknown): PageView;
  resize(): PageView;
  runAsync(): Promise<unknown>;
}

interface PageWindow {
  readonly document: {
    readonly body: PageElement;
    getElementById(id: string): PageElement | null;
    querySelectorAll(selector: string): Iterable<PageElement>;
    createElement(name: string): PageElement;
  };
  readonly vegaEmbed: (target: PageElement, spec: object, options: object) => Promise<{ view: PageView }>;
  addEventListener(type: string, listener: () => void): void;
  requestAnimationFrame(callback: () => void): number;
}

function runPage(page: PageWindow): void {
  const { document } = page;
  const data = JSON.parse(document.getElementById('report-data')?.textContent ?? '') as PageData;
  const selected: Record<string, string> = { ...data.selected };
  const views = new Map<string, PageView>();
  const embedOptions = {
    mode: 'vega-lite',
    renderer: 'svg',
    ast: true,
    actions: { export: true, source: false, compiled: false, editor: false },
    tooltip: { disableDefaultStyle: true },
  };

  const panelWidth = (chart: PageChart, box: PageElement): number =>
    Math.max(160, box.clientWidth - chart.gutter - 12);

  const draw = async (chart: PageChart): Promise<void> => {
    const box = document.getElementById(`chart-${chart.id}`);
    if (box === null) return;
    const { view } = await page.vegaEmbed(
      box,
      { ...chart.spec, datasets: { [chart.id]: chart.rows } },
      embedOptions,
    );
    views.set(chart.id, view);
    for (const name of chart.selections) view.signal(name, selected[name]);
    if (chart.gutter > 0) view.signal('child_width', panelWidth(chart, box));
    await view.resize().runAsync();
  };

  const fillTable = (chart: PageChart): void => {
    const body = document.getElementById(`rows-${chart.id}`);
    if (body === null) return;
    const seen = new Set<string>();
    const rows: PageElement[] = [];
    for (const row of chart.rows) {
      if (chart.selections.some((name) => row[name] !== selected[name])) continue;
      const texts = chart.columns.map(({ field }) => String(row[field] ?? '–'));
      const key = JSON.stringify(texts);
      // A row a sample would repeat what the table says once.
      if (seen.has(key)) continue;
      seen.add(key);
      const line = document.createElement('tr');
      for (const [index, text] of texts.entries()) {
        const cell = document.createElement(index === 0 ? 'th' : 'td');
        if (index === 0) cell.scope = 'row';
        cell.textContent = text;
        line.append(cell);
      }
      rows.push(line);
    }
    body.replaceChildren(...rows);
    const empty = document.getElementById(`empty-${chart.id}`);
    if (empty !== null) empty.hidden = rows.length > 0;
  };

  const follow = async (name: string, value: string): Promise<void> => {
    selected[name] = value;
    for (const select of document.querySelectorAll(`[data-select="${name}"]`)) select.value = value;
    for (const output of document.querySelectorAll(`[data-selected="${name}"]`)) output.textContent = value;
    for (const chart of data.charts) {
      if (!chart.selections.includes(name)) continue;
      fillTable(chart);
      await views.get(chart.id)?.signal(name, value).resize().runAsync();
    }
  };

  const fit = async (): Promise<void> => {
    for (const chart of data.charts) {
      const box = document.getElementById(`chart-${chart.id}`);
      if (box === null || chart.gutter === 0) continue;
      await views.get(chart.id)?.signal('child_width', panelWidth(chart, box)).resize().runAsync();
    }
  };

  const report = (error: unknown): void => {
    const box = document.getElementById('page-error');
    if (box === null) return;
    box.hidden = false;
    box.textContent = `A chart could not be drawn; the tables below have all figures. ${String(error)}`;
  };

  const begin = async (): Promise<void> => {
    for (const name of Object.keys(selected)) {
      for (const select of document.querySelectorAll(`[data-select="${name}"]`)) {
        select.value = selected[name] ?? '';
        select.addEventListener('change', () => void follow(name, select.value).catch(report));
      }
    }
    for (const chart of data.charts) {
      fillTable(chart);
      await draw(chart);
    }
    // For tests that wait for the page: all charts are drawn.
    document.body.dataset['charts'] = 'drawn';
    let waiting = false;
    const refit = (): void => {
      if (waiting) return;
      waiting = true;
      page.requestAnimationFrame(() => {
        waiting = false;
        void fit().catch(report);
      });
    };
    page.addEventListener('resize', refit);
    page.addEventListener('beforeprint', refit);
  };

  void begin().catch(report);
}
