/** The page of host logs: their time lines below each other, and the place of each operation. */

import type { JSX } from 'preact';

import type { PageLogs } from '../page-format.ts';
import { ImageMap } from './image-map.tsx';
import { TimelineChart } from './timeline-chart.tsx';
import type { View } from './view.ts';

interface LogAppProps {
  readonly data: PageLogs;
  readonly view: View;
  readonly onView: (change: Partial<View>) => void;
}

export function LogApp({ data, view, onView }: LogAppProps): JSX.Element {
  const { logs } = data;
  const sides = logs.flatMap(({ name, requests }) => (requests === null ? [] : [{ name, requests }]));
  const mapped = logs.filter(({ operations }) => operations.some(([, file]) => file === 'image'));
  return (
    <section id="operations" aria-labelledby="operations-title">
      <h2 id="operations-title">Host operations</h2>
      {sides.length === 0 ? (
        <p class="sub note">The log names no guest requests: it has counts and places alone.</p>
      ) : (
        <TimelineChart details={data} sides={sides} view={view} onView={onView} />
      )}
      <div class="pair">
        {mapped.map(({ name, operations }, index) => (
          <ImageMap key={index} id={`image-map-${String(index)}`} name={name} operations={operations} />
        ))}
      </div>
    </section>
  );
}
