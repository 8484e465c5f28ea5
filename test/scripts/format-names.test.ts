/**
 * Only a format's own folder, the list of names and the table name it. The rest asks the table what
 * a format has, so that a new format is its folder and one line in each of these two.
 */

import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { expect, test } from 'vitest';

import { FORMATS } from '../../src/core/format-name.ts';
import { FORMAT_FACTS } from '../../src/format/formats.ts';

const ROOT = fileURLToPath(new URL('../../src', import.meta.url));

/** What the words mean where they are no format, or why the place is about one. */
const EXCEPTIONS: Readonly<Record<string, string>> = {
  'cli/sessions/crash-cells.ts': 'a data file that can be read as a raw image',
  'core/format-name.ts': 'the list of names',
  'crash/hazards.ts': 'a hazard of one format',
  'crash/inspect.ts': 'what a check proves of leaks, by format',
  'crash/qemu-judge.ts': 'the plain format is what QEMU reads a disk into',
  'device/image-lock.ts': 'a lock on a file whose bytes are the disk',
  'format/image-shape.ts': 'a data file that can be read as a raw image',
  'format/registry.ts': 'such a lock',
  'image/host-image.ts': 'such a lock',
  'image/image-files.ts': 'such a lock',
  // The comparison with QEMU knows what QEMU does, format by format.
  'peer/classify.ts': 'causes and purposes in QEMU’s operations',
  'peer/guest-places.ts': 'where QEMU writes what',
  'peer/qemu-engine.ts': 'exceptions of the comparison with QEMU',
  'peer/sync-causes.ts': 'causes of QEMU’s syncs',
  'report/palette.ts': 'a colour for each',
};

const NAMES = [...FORMATS, ...Object.values(FORMAT_FACTS).map(({ title }) => title)];
const LITERAL = new RegExp(`(['"\`])(${[...new Set(NAMES)].join('|')})\\1`);

function withoutComments(source: string): string {
  return source.replaceAll(/\/\*[^]*?\*\/|^\s*\/\/.*$/gm, '');
}

const named = globSync('**/*.ts', { cwd: ROOT })
  .filter((path) => !FORMATS.some((format) => path.startsWith(join('format', format, '/'))))
  .filter((path) => LITERAL.test(withoutComments(readFileSync(join(ROOT, path), 'utf8'))));

test('no file outside the folder of a format names it, but for these', () => {
  expect(named.sort()).toEqual(Object.keys(EXCEPTIONS).sort());
});
