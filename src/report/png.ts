/**
 * An SVG picture as PNG, for what takes no SVG: chats, slides, other tools' pages.
 *
 * The font comes with the harness: a picture is the same on a machine without any.
 */

import { createRequire } from 'node:module';
import { crc32 } from 'node:zlib';

import { PNG_MARK } from './png-mark.ts';

/** Pixels of a PNG for one of the SVG, for screens of high density. */
const SCALE = 2;
/** Of the signature and the chunk IHDR. */
const HEADER_END = 33;
const CHUNK_TYPE_BYTES = 4;
const FONT_FILES = ['DejaVuSans.ttf', 'DejaVuSans-Bold.ttf'];

export async function pngOfSvg(svg: string): Promise<Uint8Array> {
  const { renderAsync } = await import('@resvg/resvg-js');
  const { resolve } = createRequire(import.meta.url);
  const picture = await renderAsync(svg, {
    fitTo: { mode: 'zoom', value: SCALE },
    font: {
      loadSystemFonts: false,
      fontFiles: FONT_FILES.map((name) => resolve(`dejavu-fonts-ttf/ttf/${name}`)),
      defaultFontFamily: 'DejaVu Sans',
      sansSerifFamily: 'DejaVu Sans',
    },
  });
  return marked(picture.asPng());
}

/** With a text chunk behind the header, which says what made it. */
function marked(png: Buffer): Uint8Array {
  const chunk = Buffer.concat([Buffer.alloc(4), Buffer.from(PNG_MARK, 'latin1'), Buffer.alloc(4)]);
  // A length is that of the data: without the type, and the checksum of both.
  chunk.writeUInt32BE(PNG_MARK.length - CHUNK_TYPE_BYTES);
  chunk.writeUInt32BE(crc32(chunk.subarray(4, -4)), chunk.byteLength - 4);
  return Buffer.concat([png.subarray(0, HEADER_END), chunk, png.subarray(HEADER_END)]);
}
