/** The formats by name. */

export const FORMATS = ['raw', 'qcow2', 'qed'] as const;
export type Format = (typeof FORMATS)[number];

export function isFormat(name: string): name is Format {
  return (FORMATS as readonly string[]).includes(name);
}
