/**
 * The names of the image formats, in the order of lists and matrices. Here because workload files,
 * device models and results store them; all else about a format is in `src/format/NAME/`.
 */

export const FORMATS = ['raw', 'qcow2', 'qed'] as const;
export type Format = (typeof FORMATS)[number];

/** What remains where no other format is found: a file whose bytes are the disk. */
export const PLAIN_FORMAT = 'raw' satisfies Format;
/** What is made and served if no format is given. */
export const DEFAULT_FORMAT = 'qcow2' satisfies Format;

export function isFormat(name: string): name is Format {
  return (FORMATS as readonly string[]).includes(name);
}
