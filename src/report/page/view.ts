/**
 * What a reader sees of a page, as the fragment of its address: a link shows the same.
 *
 * Invariant: a fragment that is damaged, or of another page, shows what can be shown of it.
 */

export interface View {
  /** The filter, as it is typed. */
  readonly filter: string;
  /** Names of axes; `''` for none; `undefined` as the page begins. */
  readonly rows: string | undefined;
  readonly columns: string | undefined;
  readonly panels: string | undefined;
  /** Values of the axes that are held, by name. */
  readonly hold: Readonly<Record<string, string>>;
  /** Identifiers of measures; `undefined` as the page begins. */
  readonly show: readonly string[] | undefined;
  readonly as: 'bars' | 'grid';
  /** A column of the table, `-` before it: downwards. */
  readonly sort: string;
  /** Cells whose host operations are drawn: names. */
  readonly cell: string | undefined;
  readonly other: string | undefined;
  /** The requests that the timeline shows. */
  readonly from: number | undefined;
  readonly to: number | undefined;
  /** The clock of the timeline: `counted` or the name of a model. */
  readonly clock: string;
}

export const FIRST_VIEW: View = {
  filter: '',
  rows: undefined,
  columns: undefined,
  panels: undefined,
  hold: {},
  show: undefined,
  as: 'bars',
  sort: '',
  cell: undefined,
  other: undefined,
  from: undefined,
  to: undefined,
  clock: 'counted',
};

const TEXTS = ['rows', 'columns', 'panels', 'cell', 'other'] as const;
const HOLD = 'hold.';

/** Without `#`; only what is not as the page begins. */
export function fragmentOf(view: View): string {
  const words = new URLSearchParams();
  if (view.filter !== '') words.set('q', view.filter);
  for (const name of TEXTS) {
    const value = view[name];
    if (value !== undefined) words.set(name, value);
  }
  for (const [axis, value] of Object.entries(view.hold)) words.set(HOLD + axis, value);
  if (view.show !== undefined) words.set('show', view.show.join(','));
  if (view.as !== 'bars') words.set('as', view.as);
  if (view.sort !== '') words.set('sort', view.sort);
  if (view.from !== undefined) words.set('from', String(view.from));
  if (view.to !== undefined) words.set('to', String(view.to));
  if (view.clock !== FIRST_VIEW.clock) words.set('clock', view.clock);
  return words.toString();
}

export function viewOf(fragment: string): View {
  const words = new URLSearchParams(fragment.replace(/^#/, ''));
  const text = (name: string): string | undefined => words.get(name) ?? undefined;
  const hold = [...words].filter(([name]) => name.startsWith(HOLD));
  return {
    filter: text('q') ?? '',
    rows: text('rows'),
    columns: text('columns'),
    panels: text('panels'),
    hold: Object.fromEntries(hold.map(([name, value]) => [name.slice(HOLD.length), value])),
    show: text('show')
      ?.split(',')
      .filter((id) => id !== ''),
    as: text('as') === 'grid' ? 'grid' : 'bars',
    sort: text('sort') ?? '',
    cell: text('cell'),
    other: text('other'),
    from: numberOf(text('from')),
    to: numberOf(text('to')),
    clock: text('clock') ?? FIRST_VIEW.clock,
  };
}

function numberOf(text: string | undefined): number | undefined {
  return text === undefined || !/^\d{1,9}$/.test(text) ? undefined : Number(text);
}
