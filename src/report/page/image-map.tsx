/**
 * The image file over the first guest requests: what is written where, how the file grows, and how far
 * the device has to move.
 */

import type { JSX } from 'preact';
import { useState } from 'preact/hooks';

import { CAUSE_MEANINGS, PURPOSE_MEANINGS } from '../../result/vocabulary.ts';
import { humanSize } from '../../core/size.ts';
import type { HostOperation } from '../closer-look.ts';
import { bytesText } from '../numbers.ts';
import { PURPOSE_COLOURS } from '../palette.ts';
import { ChartFrame } from './chart-frame.tsx';
import { Tooltip } from './facets.tsx';
import { byteScale } from './scale.ts';

interface ImageMapProps {
  readonly id: string;
  readonly name: string;
  readonly operations: readonly HostOperation[];
}

const LEFT = 62;
const STRIP = 26;
const HEIGHT = 300;
/** A path through many writes is drawn fainter, so that the writes stay visible. */
const PATH_INK = 40;
const COLOURS: Readonly<Record<string, string>> = PURPOSE_COLOURS;
const MEANINGS: Readonly<Record<string, string>> = { ...CAUSE_MEANINGS, ...PURPOSE_MEANINGS };

export function ImageMap({ id, name, operations }: ImageMapProps): JSX.Element {
  const [tip, setTip] = useState<{ x: number; y: number; lines: readonly string[] } | undefined>(undefined);
  const changes = operations.filter(
    ([, file, verb]) => file === 'image' && verb !== 'sync' && verb !== 'read' && verb !== 'truncate',
  );
  const end = Math.max(4096, ...changes.map(([, , , , offset, length]) => offset + length));
  const purposes = [...new Set(changes.map(([, , , purpose]) => purpose))];
  const { jumps, distance } = seeksOf(changes);
  return (
    <ChartFrame
      help="image-map"
      id={id}
      title="What is written where in the image"
      subtitle={`${name}. Downwards, the ${bytesText(changes.length)} writes of the first guest requests; the strip is the file after them. ${bytesText(jumps)} writes start elsewhere than the one before ended, ${humanSize(Math.round(distance))} away on average.`}
      legend={purposes.map((purpose) => ({
        name: purpose,
        colour: COLOURS[purpose] ?? '#7d8794',
        meaning: MEANINGS[purpose] ?? '',
      }))}
      table={{
        columns: ['Write', 'Purpose', 'Offset', 'Bytes', 'Request'],
        rows: changes.map(([request, , verb, purpose, offset, length], index) => [
          String(index),
          `${verb} ${purpose}`,
          `0x${offset.toString(16)}`,
          bytesText(length),
          request < 0 ? '' : `#${String(request)}`,
        ]),
      }}
    >
      {(width) => {
        const plot = Math.max(80, width - LEFT - 12);
        const x = byteScale(end, plot, Math.max(2, Math.floor(plot / 70)));
        const y = (index: number): number => STRIP + 12 + (index / Math.max(1, changes.length)) * HEIGHT;
        const rowHeight = Math.max(1.6, Math.min(8, HEIGHT / Math.max(1, changes.length)));
        const path = changes
          .map(
            ([, , , , offset], index) =>
              `${index === 0 ? 'M' : 'L'}${(LEFT + x.at(offset)).toFixed(1)} ${(y(index) + rowHeight / 2).toFixed(1)}`,
          )
          .join('');
        return (
          <div class="drawing">
            <svg
              width={width}
              height={HEIGHT + STRIP + 56}
              viewBox={`0 0 ${String(width)} ${String(HEIGHT + STRIP + 56)}`}
              role="img"
              aria-label={`Map of ${name}: ${String(changes.length)} writes over ${humanSize(end)}`}
              onPointerLeave={() => setTip(undefined)}
            >
              <text class="row-name" x={LEFT - 10} y={17} text-anchor="end">
                file
              </text>
              <rect class="track" x={LEFT} y={2} width={plot} height={STRIP - 4} rx={3} />
              {changes.map(([, , , purpose, offset, length], index) => (
                <rect
                  key={index}
                  x={LEFT + x.at(offset)}
                  y={2}
                  width={Math.max(0.8, x.at(length))}
                  height={STRIP - 4}
                  fill={COLOURS[purpose] ?? '#7d8794'}
                />
              ))}
              {x.ticks.map((tick) => (
                <g key={tick}>
                  <line
                    class="grid"
                    x1={LEFT + x.at(tick)}
                    x2={LEFT + x.at(tick)}
                    y1={STRIP + 8}
                    y2={STRIP + 12 + HEIGHT}
                  />
                  <text class="tick" x={LEFT + x.at(tick)} y={HEIGHT + STRIP + 30} text-anchor="middle">
                    {humanSize(tick)}
                  </text>
                </g>
              ))}
              <text class="unit" x={LEFT} y={HEIGHT + STRIP + 50}>
                offset in the file
              </text>
              <text class="row-name" x={LEFT - 10} y={STRIP + 24} text-anchor="end">
                first
              </text>
              <text class="row-name" x={LEFT - 10} y={STRIP + 12 + HEIGHT} text-anchor="end">
                last
              </text>
              <path class="head" d={path} opacity={Math.min(0.5, PATH_INK / Math.max(1, changes.length))} />
              {changes.map(([request, , verb, purpose, offset, length], index) => (
                <rect
                  key={index}
                  class="write"
                  x={LEFT + x.at(offset)}
                  y={y(index)}
                  width={Math.max(3, x.at(length))}
                  height={rowHeight}
                  fill={COLOURS[purpose] ?? '#7d8794'}
                  onPointerEnter={() =>
                    setTip({
                      x: LEFT + x.at(offset),
                      y: y(index),
                      lines: [
                        `${verb} ${purpose}`,
                        `0x${offset.toString(16)} + ${bytesText(length)} B`,
                        request < 0 ? 'at open or close' : `of guest request #${String(request)}`,
                      ],
                    })
                  }
                />
              ))}
            </svg>
            {tip && <Tooltip tip={tip} width={width} />}
          </div>
        );
      }}
    </ChartFrame>
  );
}

function seeksOf(changes: readonly HostOperation[]): { readonly jumps: number; readonly distance: number } {
  let [jumps, distance] = [0, 0];
  let head: number | undefined;
  for (const [, , , , offset, length] of changes) {
    if (head !== undefined && head !== offset) {
      jumps++;
      distance += Math.abs(offset - head);
    }
    head = offset + length;
  }
  return { jumps, distance: jumps === 0 ? 0 : distance / jumps };
}
