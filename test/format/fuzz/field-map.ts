/** What a fuzzer aims at: the fields of an image, by structure. */

export interface Field {
  readonly at: number;
  /** Bytes. */
  readonly width: 1 | 2 | 4 | 8;
}

/** A kind of structure, and all of its fields in the image. */
export interface Structure {
  readonly name: string;
  readonly fields: readonly Field[];
}

export interface FieldMap {
  readonly structures: readonly Structure[];
  readonly littleEndian: boolean;
  readonly clusterSize: number;
  /** Bytes of what pointers count; default 1. */
  readonly pointerUnit?: number;
}
