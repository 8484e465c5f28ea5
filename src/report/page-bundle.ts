/**
 * The scripts and the style of a page, bundled: from `dist` in the package, and made from their sources
 * (`page/`) in a clone, so that a page is always drawn by the present ones.
 */

import { execFileSync } from 'node:child_process';
import { dirname } from 'node:path';

import { Qcow2BenchError } from '../core/error.ts';
import { readFileSync } from '../core/host-fs.ts';
import { fileURLToPath } from 'node:url';

export interface PageBundle {
  readonly script: string;
  readonly style: string;
}

/** Bytes; far more than a page has. */
const BUNDLE_MAX = 64 * 1024 * 1024;

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
    // A process of its own: esbuild does not start where the working directory has a name that is no text.
    const cwd = dirname(script);
    const bytes = execFileSync(process.execPath, [script], { cwd, encoding: 'utf8', maxBuffer: BUNDLE_MAX });
    return JSON.parse(bytes) as PageBundle;
  } catch (error) {
    const message = 'the page cannot be bundled: run npm ci';
    throw new Qcow2BenchError('report-library-missing', message, {}, error);
  }
}
