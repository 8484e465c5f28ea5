/**
 * A page that follows a result while it is written. The server says that there is another page; its
 * parts then replace those of this one, and what the reader has chosen stays.
 */

/** Parts that no script draws. */
const PARTS: readonly string[] = ['header.top', '#sections', '#report-data', '#report-details'];

/** Follows, if a server gave the page. */
export function followed(onChange: () => Promise<void>): void {
  const status = document.getElementById('live');
  if (status === null) return;
  const events = new EventSource('events');
  const say = (text: string): void => {
    // The header is replaced with the page.
    const place = document.getElementById('live');
    if (place !== null) place.textContent = text;
  };
  events.addEventListener('open', () => say('live'));
  events.addEventListener('error', () => say('not followed any more: the server has ended; the page stays'));
  let isBusy = false;
  let isStale = false;
  const renew = async (): Promise<void> => {
    isStale = true;
    if (isBusy) return;
    isBusy = true;
    while (isStale) {
      isStale = false;
      await replaced();
      await onChange();
      say('live');
    }
    isBusy = false;
  };
  events.addEventListener('changed', () => {
    renew().catch(() => {
      isBusy = false;
    });
  });
}

async function replaced(): Promise<void> {
  const response = await fetch('./', { cache: 'no-store' });
  const next = new DOMParser().parseFromString(await response.text(), 'text/html');
  for (const part of PARTS) {
    const [old, own] = [document.querySelector(part), next.querySelector(part)];
    if (old === null || own === null) continue;
    // What is open stays open.
    for (const [index, details] of [...old.querySelectorAll('details')].entries()) {
      own.querySelectorAll('details')[index]?.toggleAttribute('open', details.open);
    }
    old.replaceWith(document.adoptNode(own));
  }
}
