/**
 * The built chart libraries, ready to be inlined into a page.
 *
 * Invariants: they come from the installed packages, never from the network; each carries its
 * licence, as the licence asks; nothing in them can end the script element they are in.
 */

import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

import { Qcow2BenchError } from '../core/error.ts';
import { readFileSync } from '../core/host-fs.ts';

/** In the order in which a page must run them. */
const LIBRARIES = [
  { name: 'vega', built: 'vega.min.js' },
  { name: 'vega-lite', built: 'vega-lite.min.js' },
  { name: 'vega-embed', built: 'vega-embed.min.js' },
] as const;

/**
 * Script texts of vega, vega-lite and vega-embed, in the order to run them.
 *
 * @throws Qcow2BenchError `report-library-missing` if a package is not installed whole.
 */
export function chartLibraries(): readonly string[] {
  const require = createRequire(import.meta.url);
  return LIBRARIES.map(({ name, built }) => {
    try {
      const build = dirname(require.resolve(name));
      const licence = readFileSync(join(build, '..', 'LICENSE'), 'utf8');
      const script = readFileSync(join(build, built), 'utf8');
      return scriptSafe(`/*! ${name}\n${licence.replaceAll('*/', '* /')}*/\n${withoutSourceMap(script)}`);
    } catch (error) {
      const message = `the chart library '${name}' is not fully installed: run npm ci`;
      throw new Qcow2BenchError('report-library-missing', message, {}, error);
    }
  });
}

/**
 * Script text that cannot end its element or open a comment: both sequences only occur in its
 * strings.
 */
export function scriptSafe(script: string): string {
  return script.replaceAll(/<\/script/gi, '<\\/script').replaceAll('<!--', '<\\!--');
}

/** The map is beside the built file, where a page cannot reach it. */
function withoutSourceMap(script: string): string {
  return script.replace(/\n\/\/# sourceMappingURL=.*\s*$/, '\n');
}
