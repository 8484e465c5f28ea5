/**
 * What a chart as a picture is: a Vega-Lite specification as data, and its rows. The page draws its own
 * (`page/`).
 *
 * Invariants: a specification names its data set and holds no data; what is chosen (`workload`,
 * `cache`, `setup`) are parameters of the specification.
 */

import { groupedText } from '../../core/number-text.ts';
import type { Config, TopLevelSpec } from 'vega-lite';

import { OTHER_COLOUR, VARIANT_COLOURS } from '../palette.ts';
import type { ReportCells } from '../report-cells.ts';

/** What a reader can choose. */
export type Selection = 'workload' | 'cache' | 'setup';
export type Selected = Readonly<Record<Selection, string>>;

export type ChartRow = Readonly<Record<string, string | number | null>>;

export interface Chart {
  /** Identifier of the chart, and name of its data set. */
  readonly id: string;
  readonly title: string;
  /** What it shows, in a sentence. */
  readonly subtitle: string;
  readonly spec: TopLevelSpec;
  readonly rows: readonly ChartRow[];
  /** Selections on which it depends. */
  readonly selections: readonly Selection[];
}

export interface LegendEntry {
  readonly name: string;
  readonly colour: string;
}

export const FONT =
  'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif';
const INK = '#1d2430';
const MUTED = '#5b6575';
const LINE = '#d9dee6';

/** Pixels kept for the names of variants at the left of bars. */
const VARIANT_GUTTER = 92;

export const CHART_CONFIG: Config = {
  background: 'transparent',
  font: FONT,
  // The layout of panels is a few pixels short at the bottom.
  padding: { left: 0, top: 2, right: 0, bottom: 6 },
  view: { stroke: null },
  axis: {
    labelColor: MUTED,
    titleColor: MUTED,
    gridColor: LINE,
    domainColor: LINE,
    tickColor: LINE,
    labelFontSize: 12,
    titleFontSize: 12,
    titleFontWeight: 'normal',
    titlePadding: 8,
  },
  header: { labelColor: INK, labelFontSize: 13, labelFontWeight: 600, labelPadding: -8 },
  legend: { labelColor: MUTED, titleColor: MUTED, labelFontSize: 12, symbolType: 'square' },
  text: { color: INK, fontSize: 12 },
  title: { color: INK, fontSize: 15, fontWeight: 600, subtitleColor: MUTED, subtitleFontSize: 12 },
};

/** Parameters by which the page or a caller says what is chosen. */
export function selectionParams(
  selections: readonly Selection[],
  selected: Selected,
): { name: Selection; value: string }[] {
  return selections.map((name) => ({ name, value: selected[name] }));
}

/** The Vega expression that keeps the rows of what is chosen. */
export function selectionFilter(selections: readonly Selection[]): string {
  return selections.map((name) => `datum.${name} === ${name}`).join(' && ');
}

/**
 * The vertical axis of bars: a row a variant, with a gutter of fixed width so that panels can be
 * sized.
 */
export function variantAxis(report: ReportCells) {
  const domain = [...report.variants];
  return {
    field: 'variant',
    type: 'nominal' as const,
    scale: { domain },
    axis: { title: null, domain: false, ticks: false, minExtent: VARIANT_GUTTER, maxExtent: VARIANT_GUTTER },
  };
}

/** A colour a variant, the same in every chart; the rows of `variantAxis` are its legend. */
export function variantColour(report: ReportCells) {
  const domain = [...report.variants];
  const range = domain.map((variant) => VARIANT_COLOURS[variant] ?? OTHER_COLOUR);
  return { field: 'variant', type: 'nominal' as const, scale: { domain, range }, legend: null };
}

/** A specification of panels, and what each of them draws. */
type FacetSpec = Extract<TopLevelSpec, { readonly facet: unknown }>;
type LayerSpec = Extract<FacetSpec['spec'], { readonly layer: unknown }>;

export interface PanelledSpec {
  readonly dataset: string;
  /** What the picture shows, for those who cannot see it. */
  readonly description: string;
  readonly selections: readonly Selection[];
  /** Fields that follow from those of the rows. */
  readonly calculated?: readonly { readonly calculate: string; readonly as: string }[];
  /** What is drawn in each panel. */
  readonly layer: LayerSpec['layer'];
}

const PANEL_WIDTH = 560;
const ROW_STEP = 24;

/**
 * Panels one below another, a panel a cache mode, its name above it, a row a variant; all on one
 * scale.
 */
export function panelledSpec(report: ReportCells, selected: Selected, panels: PanelledSpec): FacetSpec {
  const { dataset, description, selections, calculated = [], layer } = panels;
  const header = { title: null, labelOrient: 'top', labelAnchor: 'start', labelAngle: 0 } as const;
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    description,
    config: CHART_CONFIG,
    data: { name: dataset },
    params: selectionParams(selections, selected),
    transform: [{ filter: selectionFilter(selections) }, ...calculated],
    facet: { row: { field: 'cache', type: 'nominal', sort: [...report.caches], header } },
    spacing: 14,
    spec: { width: PANEL_WIDTH, height: { step: ROW_STEP }, layer },
    resolve: { scale: { x: 'shared', y: 'shared' }, axis: { x: 'shared' } },
  };
}

/** A number as a table of the page shows it. */
export function exactText(value: number): string {
  return Number.isInteger(value) ? groupedText(value) : String(Number(value.toPrecision(6)));
}
