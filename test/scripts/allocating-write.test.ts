/** The pictures of docs/cache-modes.md are those of the engines' host logs. */

import { readdirSync, readFileSync } from 'node:fs';

import { expect, test } from 'vitest';

import {
  ALLOCATING_WRITES,
  allocatingWritePictures,
  panelsOf,
  PICTURES,
} from '../../scripts/allocating-write.ts';
import { requestPictureSvg } from '../../scripts/request-picture.ts';
import { BuiltinEngine } from '../../src/bench/builtin-engine.ts';

test('they are current: npm run docs:pictures', async () => {
  const pictures = await allocatingWritePictures();
  expect(readdirSync(PICTURES).sort()).toEqual([...pictures.keys()].sort());
  for (const [name, svg] of pictures) expect(readFileSync(new URL(name, PICTURES), 'utf8')).toBe(svg);
});

test.each(ALLOCATING_WRITES)(
  '$name draws each operation once, in its order and its lane',
  async (picture) => {
    const panels = await panelsOf(picture, new BuiltinEngine());
    for (const panel of panels) {
      const svg = requestPictureSvg({ ...picture, panels: [panel] });
      const boxes = [...svg.matchAll(/<rect x="([\d.]+)" y="([\d.]+)"[^>]*fill="#/g)].map(
        ([, x = '', y = '']) => ({ x: Number(x), y: Number(y) }),
      );
      const operations = panel.requests.flatMap((request) => request.operations);
      expect(boxes).toHaveLength(operations.length);
      const places = boxes.map(({ x }) => x);
      expect(places).toEqual(places.toSorted((a, b) => a - b));
      expect(new Set(places).size).toBe(places.length);
      const lanes = [...new Set(boxes.map(({ y }) => y))].sort((a, b) => a - b);
      const used = new Set(operations.map((each) => (each.op === 'sync' ? 'sync' : each.purpose)));
      expect(lanes.at(-1)).toBe(boxes[operations.findIndex(({ op }) => op === 'sync')]?.y);
      expect(lanes).toHaveLength(new Set([...used].map(laneOf)).size);
    }
  },
);

function laneOf(name: string): string {
  if (name === 'sync') return name;
  return name === 'data' || name === 'cow' ? 'data' : 'metadata';
}
