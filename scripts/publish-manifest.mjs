/**
 * Takes the pinned Node out of package.json while the package is packed, and puts it back.
 *
 * In a clone the runtime is pinned through optionalDependencies, so that every machine measures
 * with the same Node. Users of the published package have their own Node and must not get another.
 * npm reads the manifest from disk after `prepack`, and calls `postpack` when the archive is
 * written.
 *
 *   node scripts/publish-manifest.mjs strip|restore
 */

import { copyFileSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const MANIFEST = fileURLToPath(new URL('../package.json', import.meta.url));
const KEPT = `${MANIFEST}.kept`;

switch (process.argv[2]) {
  case 'strip': {
    // A pack that was cut off left the whole manifest aside: begin from that one.
    if (existsSync(KEPT)) renameSync(KEPT, MANIFEST);
    const manifest = JSON.parse(readFileSync(MANIFEST, 'utf8'));
    copyFileSync(MANIFEST, KEPT);
    // `scripts` must stay: npm looks `postpack` up in the file as it is now.
    for (const name of Object.keys(manifest.optionalDependencies)) {
      if (/^node-(linux|win|darwin)-/.test(name)) delete manifest.optionalDependencies[name];
    }
    writeFileSync(MANIFEST, `${JSON.stringify(manifest, null, 2)}\n`);
    break;
  }
  case 'restore':
    if (existsSync(KEPT)) renameSync(KEPT, MANIFEST);
    break;
  default:
    console.error('usage: node scripts/publish-manifest.mjs strip|restore');
    process.exitCode = 2;
}
