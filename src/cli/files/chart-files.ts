/** Charts as files: each as SVG, and as PNG. */

import { join } from 'node:path';

import { visibleText } from '../../core/visible-text.ts';
import { checkWritableDirectory } from '../../device/output-directory.ts';
import { replaceFile } from '../../result/atomic-file.ts';
import { makes, type FileUse } from '../options/file-uses.ts';

type Form = 'svg' | 'png';

/** What `--charts DIRECTORY` writes if every one of these charts is drawn. */
export function chartFiles(directory: string | undefined, names: readonly string[]): readonly FileUse[] {
  if (directory === undefined) return [];
  return names.flatMap((name) => [
    ...makes('chart', '--charts', pathOf(directory, name, 'svg')),
    ...makes('chart picture', '--charts', pathOf(directory, name, 'png')),
  ]);
}

/**
 * Writes the charts.
 *
 * @param charts SVG by name
 * @param onWritten gets each path, fit to be printed
 */
export async function writeCharts(
  directory: string,
  charts: ReadonlyMap<string, string>,
  onWritten: (path: string) => void,
): Promise<void> {
  checkWritableDirectory(directory);
  const { pngOfSvg } = await import('../../report/png.ts');
  for (const [name, svg] of charts) {
    const forms = [
      ['svg', svg],
      ['png', await pngOfSvg(svg)],
    ] as const;
    for (const [form, content] of forms) {
      const path = pathOf(directory, name, form);
      replaceFile(path, content, { durable: false });
      onWritten(visibleText(path));
    }
  }
}

function pathOf(directory: string, name: string, form: Form): string {
  return join(directory, `${name}.${form}`);
}
