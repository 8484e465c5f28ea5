import { describe, expect, it } from 'vitest';

import { formatsWithShape, shapeFor } from '../../src/format/formats.ts';
import { SHAPE_DEFAULTS, type ImageShape } from '../../src/format/image-shape.ts';
import { cellKey, cellName } from '../../src/result/cell.ts';
import { cellSchema } from '../../src/result/schema.ts';
import { smallMatrix } from '../bench/small-run.ts';

/** A value that is not the default, for every property there is. */
const UNUSUAL: Required<ImageShape> = {
  compat: '0.10',
  refcountBits: 8,
  compressionType: 'zstd',
  preallocation: 'falloc',
  extendedL2: true,
  dataFile: 'raw',
  nodeSize: 8192,
};

describe('the shape of an image', () => {
  it('names nothing that is the default, whether it was given or not', () => {
    expect(shapeFor('qcow2', SHAPE_DEFAULTS)).toBeUndefined();
    expect(shapeFor('qcow2', {})).toBeUndefined();
  });

  it('names nothing that the format has not', () => {
    expect(shapeFor('qed', { compat: '0.10', refcountBits: 8 })).toBeUndefined();
  });

  it.each(Object.entries(UNUSUAL))(
    '%s is in the cells that have it, and distinguishes them',
    (key, value) => {
      const shape = { [key]: value };
      const formats = ['raw', 'qcow2', 'btree'] as const;
      const plain = smallMatrix({ formats });
      const shaped = smallMatrix({ formats }, { shape });
      const having = formatsWithShape(key as keyof ImageShape);
      for (const [index, { cell }] of shaped.entries()) {
        const before = plain[index]?.cell;
        expect(before).toBeDefined();
        if (before === undefined) continue;
        if (having.includes(cell.format)) {
          expect(cell.shape).toEqual(shape);
          expect(cellKey(cell)).not.toBe(cellKey(before));
          expect(cellName(cell)).not.toBe(cellName(before));
          expect(cellSchema.parse(JSON.parse(JSON.stringify(cell)))).toEqual(cell);
        } else {
          expect(cell).toEqual(before);
        }
      }
    },
  );

  it('identifies a cell whatever the order of its properties', () => {
    const [plan] = smallMatrix({ formats: ['qcow2'] }, { shape: UNUSUAL, caches: { l2CacheSize: 65_536 } });
    expect(plan).toBeDefined();
    if (plan?.cell.shape === undefined) return;
    const turned = { ...plan.cell, shape: Object.fromEntries(Object.entries(plan.cell.shape).reverse()) };
    expect(cellKey(turned)).toBe(cellKey(plan.cell));
  });
});

describe('sizes of metadata caches', () => {
  it('is in the cells of qcow2 if they were given, and only there', () => {
    const caches = { l2CacheSize: 131_072, l2CacheEntrySize: undefined };
    const cells = smallMatrix({}, { caches }).map(({ cell }) => cell);
    for (const cell of cells) {
      expect(cell.caches).toEqual(cell.format === 'qcow2' ? { l2CacheSize: 131_072 } : undefined);
    }
    expect(cells.map(cellName).join('\n')).toContain('l2-cache-size 128KiB');
    expect(smallMatrix({}, { caches: {} })).toEqual(smallMatrix({}));
  });
});
