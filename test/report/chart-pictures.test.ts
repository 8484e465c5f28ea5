import { expect, test } from 'vitest';

import { chartPictures } from '../../src/report/chart-pictures.ts';
import { CHART_IDS } from '../../src/report/charts/catalog.ts';
import { syntheticResult } from './synthetic-result.ts';

test('each chart is a picture with its title and no script; hostile names stay text', async () => {
  const result = syntheticResult();
  const cells = result.cells.map((record) =>
    record.cell.workload === 'stride'
      ? { ...record, cell: { ...record.cell, workload: '<script>alert(1)</script>' } }
      : record,
  );
  const pictures = await chartPictures({ ...result, cells });
  expect(CHART_IDS.filter((id) => !pictures.has(id))).toEqual(['split']);
  expect([...pictures.keys()].every((id) => (CHART_IDS as readonly string[]).includes(id))).toBe(true);
  for (const [id, svg] of pictures) {
    expect(svg, id).toMatch(/^<svg [^>]*class="marks"/);
    expect(svg, id).not.toContain('<script');
  }
  expect(pictures.get('syncs')).toContain('Syncs per guest write, by cause');
  // What it shows, in lines that fit.
  expect(pictures.get('bytes')).toContain('Zero-ranges are not');
});
