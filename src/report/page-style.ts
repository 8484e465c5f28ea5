/**
 * The style sheet of the report page.
 *
 * Charts are drawn in the colours of a light page; the rules under `.chart svg` recolour their text
 * and lines from the page's variables, so that dark pages and prints need no second drawing. Marks
 * keep their colours.
 */
export const PAGE_STYLE = `
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1d2430; --muted: #5b6575; --line: #dfe3ea; --soft: #eef1f5;
  --accent: #2f78b7; --accent-ink: #1f5f98; --warm: #b64f00;
  --font: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161c; --card: #1a2029; --ink: #e7ebf1; --muted: #9aa5b5; --line: #2e3744; --soft: #232b36;
    --accent: #6fb1e0; --accent-ink: #8fc3ea; --warm: #f09a4f;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 var(--font); }
main, header.top, footer { max-width: 68rem; margin: 0 auto; padding: 0 1.25rem; }
header.top { padding-top: 3rem; }
.kicker { margin: 0; color: var(--muted); font-size: .875rem; letter-spacing: .01em; }
h1 { margin: .5rem 0 0; max-width: 58rem; font-size: clamp(1.25rem, 2.6vw, 1.75rem); line-height: 1.32; font-weight: 650;
  letter-spacing: -.012em; text-wrap: pretty; }
h2 { margin: 0; font-size: 1.25rem; line-height: 1.3; font-weight: 650; letter-spacing: -.008em; }
h3 { margin: 0; font-size: 1rem; line-height: 1.35; font-weight: 600; }
p { margin: 0; text-wrap: pretty; }
a { color: var(--accent-ink); }
code, .mono { font-family: var(--mono); font-size: .875em; overflow-wrap: anywhere; }
.sub { color: var(--muted); font-size: .875rem; }
figure { margin: 0; position: relative; }
section { margin-top: 3rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1.25rem; margin-top: 1rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .75rem; margin-top: 1.75rem; }
.tile { background: var(--card); border: 1px solid var(--line); border-top: 3px solid var(--mark, var(--line));
  border-radius: 8px; padding: .875rem 1rem 1rem; }
.tile .name { font-weight: 600; }
.tile .big { margin-top: .125rem; font-size: 2rem; line-height: 1.2; font-weight: 650; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums; }
.tile .sub { display: block; line-height: 1.4; }
dl.points { display: grid; grid-template-columns: 8.5rem 1fr; gap: .625rem 1.25rem; margin: 1.75rem 0 0; max-width: 56rem; }
dl.points dt { font-weight: 600; }
dl.points dd { margin: 0; text-wrap: pretty; }
.bar { display: flex; flex-wrap: wrap; gap: .75rem 1.5rem; align-items: end; justify-content: space-between; }
.bar > div { max-width: 42rem; }
.selectors { display: flex; flex-wrap: wrap; gap: .75rem; }
label { display: grid; gap: .2rem; color: var(--muted); font-size: .8125rem; }
select { min-width: 11rem; max-width: 100%; padding: .4rem .6rem; border: 1px solid var(--line); border-radius: 7px;
  background: var(--card); color: var(--ink); font: 500 .9375rem/1.4 var(--font); }
select:focus-visible, summary:focus-visible, a:focus-visible, .scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.125rem; margin: .75rem 0 0; padding: 0; list-style: none; font-size: .8125rem; }
.legend li { display: inline-flex; gap: .4rem; align-items: baseline; color: var(--muted); }
.legend b { color: var(--ink); font-weight: 500; }
.legend i { flex: none; width: .7rem; height: .7rem; border-radius: 2px; align-self: center; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
.chart { display: block; width: 100%; margin-top: 1rem; }
.chart.vega-embed, .chart.vega-embed.has-actions { position: static; padding-right: 0; }
.chart.vega-embed .vega-actions { top: 3.5rem; right: .5rem; }
.chart.vega-embed summary { top: .625rem; right: .625rem; margin: 0; opacity: .35;
  background: var(--card); border-color: var(--line); color: var(--muted); box-shadow: none; }
.card:hover .chart.vega-embed summary, .chart.vega-embed summary:focus { opacity: 1; }
figcaption { padding-right: 2.5rem; }
.chart svg { display: block; max-width: 100%; }
.chart svg .mark-text { pointer-events: none; }
.chart svg .role-row-header text, .chart svg .role-title text, .chart svg .mark-text.role-mark text { fill: var(--ink); }
.chart svg .mark-text.role-axis-label text, .chart svg .mark-text.role-axis-title text { fill: var(--muted); }
.chart svg .role-axis-grid line, .chart svg .role-axis-tick line, .chart svg .role-axis-domain line { stroke: var(--line); }
.empty { padding: 1rem 0; color: var(--muted); }
details.data { margin-top: .75rem; font-size: .875rem; }
details.data > summary, details.more > summary { cursor: pointer; color: var(--accent-ink); width: fit-content; }
.scroll { overflow-x: auto; margin-top: .75rem; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--muted); padding-bottom: .5rem; }
th, td { padding: .35rem .9rem .35rem 0; text-align: left; font-weight: 400; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { color: var(--muted); font-weight: 500; white-space: nowrap; }
.num { text-align: right; white-space: nowrap; }
.facts th { width: 12rem; color: var(--muted); }
ul.notes { margin: .75rem 0 0; padding-left: 1.2rem; max-width: 56rem; }
ul.notes li { margin-top: .4rem; }
ul.notes.card { margin-top: 1rem; padding: .9rem 1.25rem 1rem 2.2rem; max-width: none; }
ul.notes pre { margin: .4rem 0 0; overflow-x: auto; font: .8125rem/1.45 var(--mono); }
ul.notes .warning b { color: var(--warm); }
#page-error { background: var(--soft); border-left: 3px solid var(--warm); padding: .6rem .9rem; margin-top: 1rem; }
footer { margin-top: 3rem; padding-bottom: 3rem; color: var(--muted); font-size: .875rem; }
#vg-tooltip-element { position: fixed; z-index: 1000; visibility: hidden; padding: .5rem .7rem; border: 1px solid var(--line);
  border-radius: 7px; background: var(--card); color: var(--ink); box-shadow: 0 4px 16px rgb(0 0 0 / .16);
  font: .8125rem/1.45 var(--font); pointer-events: none; }
#vg-tooltip-element.visible { visibility: visible; }
#vg-tooltip-element table { width: auto; }
#vg-tooltip-element td { padding: 0 .5rem 0 0; border: 0; max-width: 18rem; }
#vg-tooltip-element td.key { color: var(--muted); text-align: right; }
@media (max-width: 40rem) {
  header.top { padding-top: 1.75rem; }
  main, header.top, footer { padding-left: .875rem; padding-right: .875rem; }
  .card { padding: 1rem .875rem; }
  .tiles { grid-template-columns: 1fr 1fr; }
  dl.points { grid-template-columns: 1fr; gap: .1rem; }
  dl.points dd { margin-bottom: .75rem; }
  label, select { width: 100%; }
  .selectors { width: 100%; }
  .facts th { width: 8.5rem; }
}
@media print {
  :root { --page: #fff; --card: #fff; --ink: #000; --muted: #444; --line: #ccc; --soft: #f4f4f4; --accent-ink: #000; }
  body { font-size: 11pt; }
  section { margin-top: 1.5rem; }
  .card, .tile { break-inside: avoid; }
  details.data, .vega-embed details { display: none; }
}
`;
