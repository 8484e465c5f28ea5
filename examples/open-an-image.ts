/**
 * Opens an image, read-only, and prints what it is, where its first data is and the disk's first
 * bytes.
 *
 *   node examples/open-an-image.ts IMAGE
 *
 * In your own program, import from 'qcow2-bench'.
 */

import { formatSize, hostImage, openStack, Qcow2BenchError, readImageInfo } from '../src/index.ts';

const [path] = process.argv.slice(2);
if (path === undefined) {
  console.error('usage: node examples/open-an-image.ts IMAGE');
  process.exit(2);
}
try {
  const place = hostImage(path);
  const { format, virtualSize } = await readImageInfo(place);
  console.log(`${format}, ${formatSize(virtualSize)}`);

  // Leaving the scope releases the file.
  await using stack = await openStack({
    storage: place.storage,
    imageName: place.name,
    format,
    cache: 'writeback',
    readOnly: true,
  });
  for (let offset = 0; offset < virtualSize;) {
    const { kind, length, hostOffset } = await stack.image.map(offset, virtualSize - offset);
    if (kind === 'data') {
      console.log(`first data: guest offset ${String(offset)}, host offset ${String(hostOffset)}`);
      break;
    }
    offset += length;
  }
  const sector = new Uint8Array(512);
  await stack.backend.read(0, sector);
  console.log(`first bytes: ${Buffer.from(sector.subarray(0, 16)).toString('hex')}`);
} catch (error) {
  // Every error about an image has a stable code, the path, and what to do.
  if (!(error instanceof Qcow2BenchError)) throw error;
  console.error(`${error.code}: ${error.message}`);
  process.exitCode = 1;
}
