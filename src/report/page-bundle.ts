/**
 * The scripts and the style of a page, bundled: from `dist` in the package, and made from their sources
 * (`page/`) in a clone, so that a page is always drawn by the present ones.
 */

import { createRequire } from 'node:module';

import { Qcow2BenchError } from '../core/error.ts';
import { readFileSync } from '../core/host-fs.ts';
import { fileURLToPath } from 'node:url';

export interface PageBundle {
  readonly script: string;
  readonly style: string;
}

let bundle: PageBundle | undefined;

/** @throws Qcow2BenchError `report-library-missing` if the package or the clone is not whole. */
export function pageBundle(): PageBundle {
  bundle ??= isSource() ? bundled() : packaged();
  return bundle;
}

function isSource(): boolean {
  return import.meta.url.endsWith('.ts');
}

function packaged(): PageBundle {
  const text = (name: string): string => {
    const path = fileURLToPath(new URL(`page/${name}`, import.meta.url));
    try {
      return readFileSync(path, 'utf8');
    } catch (error) {
      const message = `${path} is missing: install qcow2-bench again`;
      throw new Qcow2BenchError('report-library-missing', message, {}, error);
    }
  };
  return { script: text('page.js'), style: text('page.css') };
}

/** By the bundler of the clone, which no installed package needs. */
function bundled(): PageBundle {
  try {
    const script = fileURLToPath(new URL('../../scripts/bundle-page.mjs', import.meta.url));
    const { bundlePage } = createRequire(import.meta.url)(script) as { bundlePage: () => PageBundle };
    return bundlePage();
  } catch (error) {
    const message = 'the page cannot be bundled: run npm ci';
    throw new Qcow2BenchError('report-library-missing', message, {}, error);
  }
}
