/**
 * Bundles the scripts and the style of report pages with esbuild.
 *
 * A run from source bundles when it writes a page, so that no bundle is ever stale; the package has
 * the bundle in `dist` and no bundler:
 *
 *   node scripts/bundle-page.mjs                     prints both as JSON
 *   node scripts/bundle-page.mjs dist/report/page    writes both files
 */

import { buildSync } from 'esbuild';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const PAGE = fileURLToPath(new URL('../src/report/page/', import.meta.url));

/** @returns {{ script: string, style: string }} */
function bundlePage() {
  const { outputFiles } = buildSync({
    entryPoints: [join(PAGE, 'main.tsx'), join(PAGE, 'page.css')],
    tsconfig: join(PAGE, 'tsconfig.json'),
    outdir: PAGE,
    write: false,
    bundle: true,
    minify: true,
    format: 'iife',
    target: 'es2022',
    charset: 'utf8',
    legalComments: 'none',
    // Modules of the harness name Node's; what the page uses of them does not.
    external: ['node:*'],
    logLevel: 'error',
  });
  const text = (/** @type {string} */ name) =>
    outputFiles.find(({ path }) => path.endsWith(name))?.text ?? '';
  return { script: `/*! preact\n${licence('preact')}*/\n${text('main.js')}`, style: text('page.css') };
}

/** @param {string} name a package whose code is in the bundle */
function licence(name) {
  const manifest = createRequire(import.meta.url).resolve(`${name}/package.json`);
  return readFileSync(join(dirname(manifest), 'LICENSE'), 'utf8').replaceAll('*/', '* /');
}

const [, program, directory] = process.argv;
if (program === fileURLToPath(import.meta.url)) {
  const bundle = bundlePage();
  if (directory === undefined) {
    process.stdout.write(JSON.stringify(bundle));
  } else {
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, 'page.js'), bundle.script);
    writeFileSync(join(directory, 'page.css'), bundle.style);
  }
}
