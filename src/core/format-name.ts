/**
 * The names of the image formats, in the order of lists and matrices. Here because workload files,
 * device models and results store them; all else about a format is in `src/format/NAME/`.
 */

export const FORMATS = ['raw', 'qcow2', 'qed', 'btree'] as const;
export type Format = (typeof FORMATS)[number];

/** The formats that QEMU has: those of a matrix if none is given. */
export const QEMU_FORMATS = ['raw', 'qcow2', 'qed'] as const satisfies readonly Format[];

/** What remains where no other format is found: a file whose bytes are the disk. */
export const PLAIN_FORMAT = 'raw' satisfies Format;
/** What is made and served if no format is given. */
export const DEFAULT_FORMAT = 'qcow2' satisfies Format;

export function isFormat(name: string): name is Format {
  return (FORMATS as readonly string[]).includes(name);
}
