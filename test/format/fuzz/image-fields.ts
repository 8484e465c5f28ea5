/**
 * Where the fields of a good image lie, structure by structure, found by walking it from the header
 * down: what a fuzzer aims at. The walk trusts the image; it is done before anything is damaged.
 */

import type { BaseImage } from './base-images.ts';
import { btreeFields } from './btree-fields.ts';
import type { Field, FieldMap, Structure } from './field-map.ts';

const OFFSET = 0x00ff_ffff_ffff_fe00n;
const COMPRESSED = 1n << 62n;
const BITMAPS_EXTENSION = 0x2385_2875;
/** Entries of a table that are aimed at: those in use, and as many of the empty ones. */
const EMPTY_ENTRIES = 8;

export function fieldsOf({ format, bytes }: BaseImage): FieldMap {
  if (format === 'btree') return btreeFields(bytes);
  return format === 'qcow2' ? new Qcow2Walk(bytes).walk() : qedFields(bytes);
}

const fields = (width: Field['width'], ...places: readonly number[]): Field[] =>
  places.map((at) => ({ at, width }));

class Qcow2Walk {
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView<ArrayBuffer>;
  readonly #clusterSize: number;
  readonly #isV3: boolean;
  readonly #entrySize: number;
  readonly #l2: Field[] = [];
  readonly #compressed: Field[] = [];

  constructor(bytes: Uint8Array<ArrayBuffer>) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer);
    this.#clusterSize = 2 ** this.#view.getUint32(20);
    this.#isV3 = this.#view.getUint32(4) === 3;
    this.#entrySize = this.#isV3 && (this.#view.getUint8(79) & 16) !== 0 ? 16 : 8;
  }

  walk(): FieldMap {
    const view = this.#view;
    const extensions = this.#extensions();
    const l1 = this.#l1(Number(view.getBigUint64(40)), view.getUint32(36));
    const snapshots = this.#snapshots();
    const bitmaps = this.#bitmaps(extensions.bitmapsAt);
    const structures: Structure[] = [
      { name: 'header', fields: this.#header() },
      { name: 'header extension', fields: extensions.fields },
      { name: 'L1', fields: l1 },
      { name: 'snapshot', fields: snapshots },
      { name: 'L2', fields: this.#l2 },
      { name: 'compressed data', fields: this.#compressed },
      ...this.#refcounts(),
      { name: 'bitmap', fields: bitmaps },
    ];
    const filled = structures.filter(({ fields }) => fields.length > 0);
    return { structures: filled, littleEndian: false, clusterSize: this.#clusterSize };
  }

  #header(): Field[] {
    const common = [...fields(4, 0, 4, 16, 20, 32, 36, 56, 60), ...fields(8, 8, 24, 40, 48, 64)];
    return this.#isV3
      ? [...common, ...fields(8, 72, 80, 88), ...fields(4, 96, 100), ...fields(1, 104)]
      : common;
  }

  #extensions(): { readonly fields: Field[]; readonly bitmapsAt: number | undefined } {
    const view = this.#view;
    const found: Field[] = [];
    let bitmapsAt: number | undefined;
    let at = this.#isV3 ? view.getUint32(100) : 72;
    for (;;) {
      const type = view.getUint32(at);
      const length = view.getUint32(at + 4);
      found.push(...fields(4, at, at + 4));
      if (type === 0) break;
      if (type === BITMAPS_EXTENSION) {
        bitmapsAt = at + 8;
        found.push(...fields(4, at + 8, at + 12), ...fields(8, at + 16, at + 24));
      } else {
        found.push(...fields(1, at + 8, at + 9, at + 10));
      }
      at += 8 + ((length + 7) & ~7);
    }
    const name = Number(view.getBigUint64(8));
    if (name > 0) found.push(...fields(1, name, name + 1, name + 2));
    return { fields: found, bitmapsAt };
  }

  #l1(offset: number, entries: number): Field[] {
    const table = this.#entries(offset, entries, 8);
    for (const { at } of table) {
      const l2 = Number(this.#view.getBigUint64(at) & OFFSET);
      if (l2 === 0 || this.#l2.some((field) => field.at === l2)) continue;
      const own = this.#entries(l2, this.#clusterSize / this.#entrySize, this.#entrySize);
      this.#l2.push(...own);
      if (this.#entrySize === 16) {
        this.#l2.push(...own.map(({ at: entry }) => ({ at: entry + 8, width: 8 }) as const));
      }
      for (const entry of own) this.#noteCompressed(this.#view.getBigUint64(entry.at));
    }
    return table;
  }

  #noteCompressed(entry: bigint): void {
    if ((entry & COMPRESSED) === 0n) return;
    const bits = 62n - (BigInt(Math.log2(this.#clusterSize)) - 8n);
    const at = Number(entry & ((1n << bits) - 1n));
    this.#compressed.push(...fields(1, at, at + 1, at + 2, at + 5, at + 9));
  }

  #snapshots(): Field[] {
    const view = this.#view;
    const found: Field[] = [];
    let at = Number(view.getBigUint64(64));
    for (let left = view.getUint32(60); left > 0; left--) {
      const lengths = {
        id: view.getUint16(at + 12),
        name: view.getUint16(at + 14),
        extra: view.getUint32(at + 36),
      };
      found.push(
        ...fields(8, at, at + 40, at + 48),
        ...fields(4, at + 8, at + 32, at + 36),
        ...fields(2, at + 12, at + 14),
      );
      found.push(...this.#l1(Number(view.getBigUint64(at)), view.getUint32(at + 8)));
      at += (40 + lengths.extra + lengths.id + lengths.name + 7) & ~7;
    }
    return found;
  }

  #refcounts(): Structure[] {
    const view = this.#view;
    const entries = (view.getUint32(56) * this.#clusterSize) / 8;
    const table = this.#entries(Number(view.getBigUint64(48)), entries, 8);
    const bits = this.#isV3 ? 2 ** view.getUint32(96) : 16;
    const blocks = table.flatMap(({ at }) => {
      const block = Number(view.getBigUint64(at));
      const clusters = Math.ceil(this.#bytes.byteLength / this.#clusterSize);
      const used = Math.min(this.#clusterSize, Math.ceil((clusters * bits) / 8));
      if (block === 0) return [];
      const width = bits === 64 ? 8 : bits === 16 ? 2 : 1;
      return Array.from(
        { length: Math.ceil(used / width) },
        (_, n) => ({ at: block + n * width, width }) as const,
      );
    });
    return [
      { name: 'refcount table', fields: table },
      { name: 'refcount block', fields: blocks },
    ];
  }

  #bitmaps(extension: number | undefined): Field[] {
    if (extension === undefined) return [];
    const view = this.#view;
    const found: Field[] = [];
    let at = Number(view.getBigUint64(extension + 16));
    for (let left = view.getUint32(extension); left > 0; left--) {
      found.push(
        ...fields(8, at),
        ...fields(4, at + 8, at + 12, at + 20),
        ...fields(1, at + 16, at + 17),
        ...fields(2, at + 18),
      );
      found.push(...this.#entries(Number(view.getBigUint64(at)), view.getUint32(at + 8), 8));
      at += (24 + view.getUint16(at + 18) + view.getUint32(at + 20) + 7) & ~7;
    }
    return found;
  }

  #entries(offset: number, count: number, size: number): Field[] {
    return usedEntries({ view: this.#view, offset, count, size });
  }
}

interface TablePlace {
  readonly view: DataView;
  readonly offset: number;
  readonly count: number;
  readonly size: number;
}

function usedEntries({ view, offset, count, size }: TablePlace): Field[] {
  const found: Field[] = [];
  let empty = 0;
  for (let at = offset; at < offset + count * size && at + size <= view.byteLength; at += size) {
    if (view.getBigUint64(at) !== 0n || empty++ < EMPTY_ENTRIES) found.push({ at, width: 8 });
  }
  return found;
}

function qedFields(bytes: Uint8Array<ArrayBuffer>): FieldMap {
  const view = new DataView(bytes.buffer);
  const clusterSize = view.getUint32(4, true);
  const count = (clusterSize * view.getUint32(8, true)) / 8;
  const header = [...fields(4, 0, 4, 8, 12, 56, 60), ...fields(8, 16, 24, 32, 40, 48), ...fields(1, 64, 65)];
  const l1 = usedEntries({ view, offset: Number(view.getBigUint64(40, true)), count, size: 8 });
  const l2 = l1.flatMap(({ at }) => {
    const offset = Number(view.getBigUint64(at, true));
    return offset === 0 ? [] : usedEntries({ view, offset, count, size: 8 });
  });
  const structures = [
    { name: 'header', fields: header },
    { name: 'L1', fields: l1 },
    { name: 'L2', fields: l2 },
  ];
  return { structures, littleEndian: true, clusterSize };
}
