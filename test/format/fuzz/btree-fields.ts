/**
 * The fields of a B-tree image, found as `image-fields` does; and making checksums right again, so that
 * damage reaches what is behind them.
 */

import { crc32 } from 'node:zlib';

import type { Field, FieldMap, Structure } from './field-map.ts';

const BLOCK = 4096;
const NODE_HEADER = 32;
const NODE_SIZE_MAX = 65_536;
const ENTRY = 16;
const LEVELS_MAX = 8;
const ROOT_AT = 48;
const ENTRY_BYTES = 64;

const fields = (width: Field['width'], ...places: readonly number[]): Field[] =>
  places.map((at) => ({ at, width }));

export function btreeFields(bytes: Uint8Array<ArrayBuffer>): FieldMap {
  const view = new DataView(bytes.buffer);
  const base = inForce(view);
  const superblock = [
    ...fields(4, 12, 16, 20, 40, 44, 48, 52, 64, 72, 76, 80, 84, 88, 92, 96),
    ...fields(8, 0, 24, 32, 56),
    ...fields(2, 100, 102),
    ...fields(1, 512, 513, 1536),
  ].map(({ at, width }) => ({ at: at + base, width }));
  const node: Field[] = [];
  const leaf: Field[] = [];
  walk(view, view.getUint32(base + ROOT_AT, true), LEVELS_MAX, (at, level, count) => {
    node.push(
      ...fields(4, at, at + 4, at + 16, at + 20),
      ...fields(8, at + 8),
      ...fields(2, at + 24, at + 26),
    );
    for (let index = 0; index < count; index++) {
      const entry = at + NODE_HEADER + index * ENTRY;
      (level === 0 ? leaf : node).push(...fields(4, entry, entry + 4, entry + 8, entry + 12));
    }
  });
  const snapshots: Field[] = [];
  const table = view.getUint32(base + 76, true) * BLOCK;
  if (view.getUint32(base + 80, true) > 0) {
    snapshots.push(
      ...fields(4, table, table + 4, table + 16, table + 20),
      ...fields(8, table + 8, table + 24, table + 32),
    );
    snapshots.push(...fields(2, table + 52, table + 54), ...fields(1, table + ENTRY_BYTES));
  }
  const journal: Field[] = [];
  const records = view.getUint32(base + 88, true) * BLOCK;
  if (view.getUint32(base + 92, true) > 0) {
    journal.push(...fields(4, records, records + 16, records + 20, records + 24), ...fields(8, records + 8));
    for (let at = records + 32; at < records + 80; at += 4) journal.push(...fields(4, at));
  }
  const structures: readonly Structure[] = [
    { name: 'superblock', fields: superblock },
    { name: 'node', fields: node },
    { name: 'leaf', fields: leaf },
    { name: 'snapshot', fields: snapshots },
    { name: 'journal', fields: journal },
  ];
  return {
    structures: structures.filter((each) => each.fields.length > 0),
    littleEndian: true,
    clusterSize: BLOCK,
    pointerUnit: BLOCK,
  };
}

/** Makes every checksum right that can be found. */
export function sealBtree(bytes: Uint8Array<ArrayBuffer>): void {
  if (bytes.byteLength < 2 * BLOCK) return;
  const view = new DataView(bytes.buffer);
  const seen = new Set<number>();
  for (const base of [0, BLOCK]) {
    const nodeSize = view.getUint32(base + 40, true);
    const table = view.getUint32(base + 76, true) * BLOCK;
    const length = view.getUint32(base + 80, true);
    if (length > 0 && table + length <= bytes.byteLength) {
      if (length >= ENTRY_BYTES) sealRoot(bytes, view, { at: table, nodeSize, seen });
      view.setUint32(base + 84, crc32(bytes.subarray(table, table + length)), true);
    }
    const records = view.getUint32(base + 88, true) * BLOCK;
    if (view.getUint32(base + 92, true) > 0 && records + BLOCK <= bytes.byteLength) {
      view.setUint32(records + 4, crc32(bytes.subarray(records + 8, records + BLOCK)), true);
    }
    sealRoot(bytes, view, { at: base + ROOT_AT, nodeSize, seen });
    view.setUint32(base + 8, crc32(bytes.subarray(base + 12, base + BLOCK)), true);
  }
}

function sealRoot(
  bytes: Uint8Array<ArrayBuffer>,
  view: DataView,
  { at, nodeSize, seen }: { readonly at: number; readonly nodeSize: number; readonly seen: Set<number> },
): void {
  const block = view.getUint32(at, true);
  if (nodeSize < BLOCK || nodeSize > NODE_SIZE_MAX) return;
  const sum = sealNode(bytes, view, { block, depth: LEVELS_MAX, nodeSize, seen });
  if (sum !== undefined) view.setUint32(at + 4, sum, true);
}

interface NodePlace {
  readonly block: number;
  readonly depth: number;
  readonly nodeSize: number;
  readonly seen: Set<number>;
}

function sealNode(
  bytes: Uint8Array<ArrayBuffer>,
  view: DataView,
  { block, depth, nodeSize, seen }: NodePlace,
): number | undefined {
  const at = block * BLOCK;
  if (depth === 0 || block < 2 || at + nodeSize > bytes.byteLength) return undefined;
  if (!seen.has(block)) {
    seen.add(block);
    if (view.getUint16(at + 26, true) > 0) {
      const most = Math.floor((nodeSize - NODE_HEADER) / ENTRY);
      for (let index = 0; index < Math.min(most, view.getUint16(at + 24, true)); index++) {
        const entry = at + NODE_HEADER + index * ENTRY;
        const child = view.getUint32(entry + 4, true);
        const sum = sealNode(bytes, view, { block: child, depth: depth - 1, nodeSize, seen });
        if (sum !== undefined) view.setUint32(entry + 12, sum, true);
      }
    }
    view.setUint32(at + 4, crc32(bytes.subarray(at + 8, at + nodeSize)), true);
  }
  return view.getUint32(at + 4, true);
}

/** The superblock of the larger generation. */
function inForce(view: DataView): number {
  return view.getBigUint64(24, true) > view.getBigUint64(BLOCK + 24, true) ? 0 : BLOCK;
}

function walk(
  view: DataView,
  block: number,
  depth: number,
  visit: (at: number, level: number, count: number) => void,
): void {
  if (block === 0 || depth === 0) return;
  const at = block * BLOCK;
  const level = view.getUint16(at + 26, true);
  const count = view.getUint16(at + 24, true);
  visit(at, level, count);
  for (let index = 0; level > 0 && index < count; index++) {
    walk(view, view.getUint32(at + NODE_HEADER + index * ENTRY + 4, true), depth - 1, visit);
  }
}
