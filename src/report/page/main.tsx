/** The scripts of a page begin here. */

import { render, type ComponentChildren, type JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';

import type { PageComparisons, PageData, PageLogs } from '../page-format.ts';
import { ComparisonApp } from './comparison-app.tsx';
import { unpacked } from './data.ts';
import { followed } from './live.ts';
import { LogApp } from './log-app.tsx';
import { ReportApp } from './report-app.tsx';
import { fragmentOf, viewOf, type View } from './view.ts';

type Change = (changes: Partial<View>) => void;

/** What is drawn for a view; its changes go to the address. */
function Viewed({
  children,
}: {
  readonly children: (view: View, onView: Change) => ComponentChildren;
}): JSX.Element {
  const [view, setView] = useState<View>(() => viewOf(location.hash));
  useEffect(() => {
    const follow = (): void => setView(viewOf(location.hash));
    addEventListener('hashchange', follow);
    return () => removeEventListener('hashchange', follow);
  }, []);
  useEffect(() => {
    document.body.dataset['page'] = 'ready';
  }, []);
  const change: Change = (changes) =>
    setView((old) => {
      const next = { ...old, ...changes };
      const fragment = fragmentOf(next);
      history.replaceState(null, '', fragment === '' ? location.pathname + location.search : `#${fragment}`);
      return next;
    });
  return <>{children(view, change)}</>;
}

/** `/` goes to the filter, as in other tools; Escape leaves it. */
function listenToKeys(): void {
  addEventListener('keydown', (event) => {
    const filter = document.getElementById('filter');
    const isTyping = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
    if (event.key === '/' && !isTyping && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      filter?.focus();
    }
    if (event.key === 'Escape' && document.activeElement === filter) filter?.blur();
  });
}

/** On paper nothing is folded; afterwards it is as it was. */
function unfoldForPaper(): void {
  const folded = new Set<HTMLDetailsElement>();
  addEventListener('beforeprint', () => {
    for (const details of document.querySelectorAll<HTMLDetailsElement>('details:not([open])')) {
      folded.add(details);
      details.open = true;
    }
  });
  addEventListener('afterprint', () => {
    for (const details of folded) details.open = false;
    folded.clear();
  });
}

async function begin(): Promise<void> {
  const place = document.getElementById('app');
  const logs = document.getElementById('log-app');
  const compared = document.querySelectorAll<HTMLElement>('[data-comparison]');
  if (place !== null) {
    const draw = async (): Promise<void> => {
      // A run that has just begun has no cell yet.
      if (document.getElementById('report-data') === null) return;
      const data = await unpacked<PageData>('report-data');
      render(
        <Viewed>{(view, onView) => <ReportApp data={data} view={view} onView={onView} />}</Viewed>,
        place,
      );
    };
    await draw();
    followed(draw);
  } else if (logs !== null) {
    const data = await unpacked<PageLogs>('log-data');
    render(<Viewed>{(view, onView) => <LogApp data={data} view={view} onView={onView} />}</Viewed>, logs);
  } else if (compared.length > 0) {
    const data = await unpacked<PageComparisons>('comparison-data');
    for (const [index, element] of compared.entries()) {
      const comparison = data.comparisons[index];
      if (comparison === undefined) continue;
      render(
        <Viewed>
          {(view, onView) => (
            <ComparisonApp data={data} comparison={comparison} view={view} onView={onView} />
          )}
        </Viewed>,
        element,
      );
    }
  }
  listenToKeys();
  unfoldForPaper();
}

begin().catch((error: unknown) => {
  const place = document.getElementById('page-error');
  if (place === null) return;
  place.textContent = `This page could not be drawn: ${String(error)}. Use a newer browser, or the tables of report --markdown.`;
  place.hidden = false;
});
