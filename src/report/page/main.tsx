/** The scripts of a page begin here. */

import { render, type JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';

import type { PageData } from '../page-format.ts';
import { unpacked } from './data.ts';
import { ReportApp } from './report-app.tsx';
import { fragmentOf, viewOf, type View } from './view.ts';

function Page({ data }: { readonly data: PageData }): JSX.Element {
  const [view, setView] = useState<View>(() => viewOf(location.hash));
  useEffect(() => {
    const follow = (): void => setView(viewOf(location.hash));
    addEventListener('hashchange', follow);
    return () => removeEventListener('hashchange', follow);
  }, []);
  useEffect(() => {
    document.body.dataset['page'] = 'ready';
  }, []);
  const change = (changes: Partial<View>): void =>
    setView((old) => {
      const next = { ...old, ...changes };
      const fragment = fragmentOf(next);
      history.replaceState(null, '', fragment === '' ? location.pathname + location.search : `#${fragment}`);
      return next;
    });
  return <ReportApp data={data} view={view} onView={change} />;
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

async function begin(): Promise<void> {
  const place = document.getElementById('app');
  if (place === null) return;
  const data = await unpacked<PageData>('report-data');
  render(<Page data={data} />, place);
  listenToKeys();
}

begin().catch((error: unknown) => {
  const place = document.getElementById('page-error');
  if (place === null) return;
  place.textContent = `This page could not be drawn: ${String(error)}. The table below has every figure.`;
  place.hidden = false;
  document.getElementById('all-cells')?.removeAttribute('hidden');
});
