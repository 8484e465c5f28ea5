/** The same cells on every modelled device, next to each other. */

import type { JSX } from 'preact';
import { useState } from 'preact/hooks';

import { durationText } from '../numbers.ts';
import type { PageDetails } from '../page-format.ts';
import { HelpButton, HelpText } from './help.tsx';

const TITLE = 'Time per guest request on modelled devices';

interface DeviceTableProps {
  readonly details: PageDetails;
  readonly names: readonly string[];
  readonly cells: readonly number[];
  readonly colourOf: (cell: number) => string;
}

export function DeviceTable({ details, names, cells, colourOf }: DeviceTableProps): JSX.Element | null {
  const [showsHelp, setShowsHelp] = useState(false);
  const rows = cells.flatMap((cell) => {
    const times = details.modelled[cell];
    return times === null || times === undefined ? [] : [{ cell, times }];
  });
  if (rows.length === 0) return null;
  const models = details.models.filter(({ name }) => rows.some(({ times }) => times[name] !== undefined));
  const most = new Map(
    models.map(({ name }) => [name, Math.max(1, ...rows.map(({ times }) => times[name] ?? 0))]),
  );
  return (
    <figure class="card chart-card" aria-labelledby="title-devices">
      <figcaption>
        <div>
          <h3 id="title-devices">{TITLE}</h3>
          <p class="sub">
            Exact virtual time; the scale of each column is its own. Cells that the answer quotes were run on
            all models; for others use <code>--device model:NAME</code>.
          </p>
        </div>
        <div class="actions">
          <HelpButton title={TITLE} id="help-devices" isOpen={showsHelp} onOpen={setShowsHelp} />
        </div>
      </figcaption>
      <HelpText of="devices" id="help-devices" isOpen={showsHelp} />
      <div class="scroll" tabIndex={0} role="region" aria-label={TITLE}>
        <table class="devices">
          <thead>
            <tr>
              <th scope="col">Cell</th>
              {models.map(({ name, description }) => (
                <th key={name} scope="col" title={description}>
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map(({ cell, times }) => (
              <tr key={cell}>
                <th scope="row">{names[cell]}</th>
                {models.map(({ name }) => (
                  <td key={name}>
                    <span class="device-bar">
                      <i
                        style={{
                          width: `${String((100 * (times[name] ?? 0)) / (most.get(name) ?? 1))}%`,
                          background: colourOf(cell),
                        }}
                      />
                    </span>
                    {durationText(times[name])}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </figure>
  );
}
