import { expect, test } from 'vitest';

import { pngOfSvg } from '../../src/report/png.ts';

const SIGNATURE = Buffer.from('89504e470d0a1a0a', 'hex');

function picture(text: string): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" width="120" height="40"><rect width="120" height="40" fill="#fff"/><text x="4" y="24" font-family="system-ui, sans-serif" font-size="12">${text}</text></svg>`;
}

test('a PNG has two pixels for one of the SVG, and its text on a machine without fonts', async () => {
  const png = Buffer.from(await pngOfSvg(picture('2.01 syncs')));
  expect(png.subarray(0, 8)).toEqual(SIGNATURE);
  // IHDR: width and height.
  expect([png.readUInt32BE(16), png.readUInt32BE(20)]).toEqual([240, 80]);
  const other = Buffer.from(await pngOfSvg(picture('1.01 syncs')));
  expect(other.equals(png)).toBe(false);
  const empty = Buffer.from(await pngOfSvg(picture('')));
  expect(empty.byteLength).toBeLessThan(png.byteLength / 2);
});

test('a picture takes nothing from elsewhere', async () => {
  const drawn = '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"></svg>';
  const asking = drawn.replace('></svg>', '><image href="/etc/hostname" width="10" height="10"/></svg>');
  expect(Buffer.from(await pngOfSvg(asking)).equals(Buffer.from(await pngOfSvg(drawn)))).toBe(true);
});
