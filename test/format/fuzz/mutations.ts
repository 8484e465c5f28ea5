/**
 * What a fuzzer does to a good image: mutations of fields that are known, and of bytes anywhere.
 * Each is data, so that a failing set shrinks to the few that matter and can be written down.
 */

import fc from 'fast-check';

import type { Field, FieldMap, Structure } from './field-map.ts';

/** What a field becomes. */
export type Change =
  | { readonly kind: 'flip'; readonly bit: number }
  | { readonly kind: 'value'; readonly value: bigint }
  /** The offset of a structure of the image, to which a pointer may lead. */
  | { readonly kind: 'pointer'; readonly structure: number; readonly index: number; readonly flags: bigint }
  /** A cluster of the file or a few behind it, plus some bytes. */
  | { readonly kind: 'cluster'; readonly cluster: number; readonly plus: number; readonly flags: bigint }
  /** The same as another field of its structure. */
  | { readonly kind: 'copy'; readonly index: number }
  | { readonly kind: 'add'; readonly by: number };

/**
 * Numbers that are too large are taken modulo what there is, so that any of them means something.
 */
export type Mutation =
  | { readonly kind: 'field'; readonly structure: number; readonly index: number; readonly change: Change }
  | { readonly kind: 'byte'; readonly at: number; readonly value: number }
  | { readonly kind: 'cut'; readonly clusters: number; readonly bytes: number }
  | { readonly kind: 'grow'; readonly clusters: number };

const LIMIT = 1 << 20;
const anyIndex = fc.nat({ max: LIMIT });
/** COPIED, compressed, zero, and none. */
const anyFlags = fc.constantFrom(0n, 1n << 63n, 1n << 62n, 3n << 62n, 1n, (1n << 63n) | 1n);

/** Values at the edges of widths and limits. */
const EDGES: readonly bigint[] = [
  ...[0, 8, 9, 12, 16, 20, 21, 22, 25, 31, 32, 40, 48, 53, 55, 56, 61, 62, 63].map(
    (bit) => 1n << BigInt(bit),
  ),
  ...[8, 16, 31, 32, 53, 56, 62, 63, 64].map((bit) => (1n << BigInt(bit)) - 1n),
  0n,
  2n,
  3n,
  7n,
  103n,
  104n,
  1024n,
];

const anyChange: fc.Arbitrary<Change> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('flip'), bit: fc.nat({ max: 63 }) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('value'),
      value: fc.oneof(fc.constantFrom(...EDGES), fc.bigInt({ min: 0n, max: 255n })),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('pointer'),
      structure: anyIndex,
      index: anyIndex,
      flags: anyFlags,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('cluster'),
      cluster: fc.nat({ max: 4096 }),
      plus: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, fc.constantFrom(1, 8, 512)),
      flags: anyFlags,
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('copy'), index: anyIndex }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('add'), by: fc.constantFrom(1, -1, 8, -8, 512) }) },
);

export const anyMutation = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      kind: fc.constant('field'),
      structure: anyIndex,
      index: anyIndex,
      change: anyChange,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('byte'), at: anyIndex, value: fc.nat({ max: 255 }) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('cut'),
      clusters: fc.nat({ max: 30 }),
      bytes: fc.nat({ max: 600 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('grow'), clusters: fc.nat({ max: 40 }) }) },
) as fc.Arbitrary<Mutation>;

/** A copy of the image with all mutations, one after the other. */
export function mutated(
  image: Uint8Array<ArrayBuffer>,
  map: FieldMap,
  mutations: readonly Mutation[],
): Uint8Array<ArrayBuffer> {
  let bytes = image.slice();
  for (const mutation of mutations) {
    switch (mutation.kind) {
      case 'field':
        changeField(bytes, map, mutation);
        break;
      case 'byte':
        if (bytes.byteLength > 0) bytes[mutation.at % bytes.byteLength] = mutation.value;
        break;
      case 'cut':
        bytes = bytes.slice(
          0,
          Math.max(0, bytes.byteLength - mutation.clusters * map.clusterSize - mutation.bytes),
        );
        break;
      case 'grow': {
        const grown = new Uint8Array(bytes.byteLength + mutation.clusters * map.clusterSize);
        grown.set(bytes);
        bytes = grown;
      }
    }
  }
  return bytes;
}

/** For people: which field of the image becomes what. */
export function describeMutation(map: FieldMap, mutation: Mutation): string {
  if (mutation.kind !== 'field') return JSON.stringify(mutation);
  const { structure, field } = target(map, mutation);
  const change = JSON.stringify(mutation.change, (_key, value: unknown) =>
    typeof value === 'bigint' ? `0x${value.toString(16)}` : value,
  );
  return `${structure.name}, ${String(field.width)} bytes at 0x${field.at.toString(16)}: ${change}`;
}

interface Target {
  readonly structure: Structure;
  readonly field: Field;
}

function target(map: FieldMap, place: { readonly structure: number; readonly index: number }): Target {
  const structure = pick(map.structures, place.structure);
  return { structure, field: pick(structure.fields, place.index) };
}

function pick<T>(items: readonly T[], index: number): T {
  return items[index % items.length] as T;
}

function changeField(
  bytes: Uint8Array<ArrayBuffer>,
  map: FieldMap,
  mutation: Extract<Mutation, { readonly kind: 'field' }>,
): void {
  const { structure, field } = target(map, mutation);
  const before = get(bytes, field, map);
  if (before === undefined) return;
  put(bytes, field, map, changed(before, { change: mutation.change, structure, field, map, bytes }));
}

interface ChangePlace extends Target {
  readonly change: Change;
  readonly map: FieldMap;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

function changed(before: bigint, { change, structure, field, map, bytes }: ChangePlace): bigint {
  switch (change.kind) {
    case 'flip':
      return before ^ (1n << BigInt(change.bit % (field.width * 8)));
    case 'value':
      return change.value;
    case 'pointer': {
      const { at } = target(map, change).field;
      return BigInt((at - (at % map.clusterSize)) / (map.pointerUnit ?? 1)) | change.flags;
    }
    case 'cluster': {
      const clusters = Math.ceil(bytes.byteLength / map.clusterSize) + 4;
      const offset = (change.cluster % clusters) * map.clusterSize;
      return BigInt(offset / (map.pointerUnit ?? 1) + change.plus) | change.flags;
    }
    case 'copy':
      return get(bytes, pick(structure.fields, change.index), map) ?? before;
    case 'add':
      return before + BigInt(change.by);
  }
}

function get(
  bytes: Uint8Array<ArrayBuffer>,
  { at, width }: Field,
  { littleEndian }: FieldMap,
): bigint | undefined {
  if (at + width > bytes.byteLength) return undefined;
  const view = new DataView(bytes.buffer);
  switch (width) {
    case 1:
      return BigInt(view.getUint8(at));
    case 2:
      return BigInt(view.getUint16(at, littleEndian));
    case 4:
      return BigInt(view.getUint32(at, littleEndian));
    case 8:
      return view.getBigUint64(at, littleEndian);
  }
}

/** Cuts the value to the field's width. */
function put(
  bytes: Uint8Array<ArrayBuffer>,
  { at, width }: Field,
  { littleEndian }: FieldMap,
  value: bigint,
): void {
  const view = new DataView(bytes.buffer);
  const cut = BigInt.asUintN(width * 8, value);
  switch (width) {
    case 1:
      view.setUint8(at, Number(cut));
      return;
    case 2:
      view.setUint16(at, Number(cut), littleEndian);
      return;
    case 4:
      view.setUint32(at, Number(cut), littleEndian);
      return;
    case 8:
      view.setBigUint64(at, cut, littleEndian);
  }
}
