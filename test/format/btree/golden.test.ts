/** The bytes of the format, as docs/btree-format.md has them: written by hand here, with no codec of ours. */

import { crc32 } from 'node:zlib';

import { describe, expect, test } from 'vitest';

import type { CommitPolicy } from '../../../src/format/commit-policy.ts';
import { openImage } from '../../../src/format/registry.ts';
import { filled, RecordedFiles } from '../recorded-files.ts';

const BLOCK = 4096;
const IMAGE = 'vm/disk';

/** A structure of so many bytes from its fields: offset, width in bytes, value. */
function structure(
  length: number,
  fields: readonly (readonly [at: number, width: 2 | 4 | 8, value: number])[],
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  for (const [at, width, value] of fields) {
    if (width === 2) view.setUint16(at, value, true);
    else if (width === 4) view.setUint32(at, value, true);
    else view.setBigUint64(at, BigInt(value), true);
  }
  return bytes;
}

function sealed(bytes: Uint8Array<ArrayBuffer>, at: number, from: number): Uint8Array<ArrayBuffer> {
  new DataView(bytes.buffer).setUint32(at, crc32(bytes.subarray(from)), true);
  return bytes;
}

function textAt(bytes: Uint8Array<ArrayBuffer>, at: number, text: string): Uint8Array<ArrayBuffer> {
  bytes.set(new TextEncoder().encode(text), at);
  return bytes;
}

type Fields = Parameters<typeof structure>[1];

function superblock(fields: Fields, texts: readonly (readonly [number, string])[] = []): Uint8Array {
  const bytes = textAt(structure(BLOCK, [[12, 4, 1], [40, 4, BLOCK], ...fields]), 0, 'qb-btree');
  for (const [at, text] of texts) textAt(bytes, at, text);
  return sealed(bytes, 8, 12);
}

function node(fields: Fields, nodeSize = BLOCK): Uint8Array {
  return sealed(textAt(structure(nodeSize, fields), 0, 'QBTN'), 4, 8);
}

const MIB = 1024 * 1024;

async function imageWith(commit: CommitPolicy, ending: 'flush' | 'close'): Promise<Uint8Array> {
  const files = new RecordedFiles();
  await files.create(IMAGE, { format: 'btree', virtualSize: MIB });
  const image = await openImage({ format: 'btree', name: IMAGE, files, readOnly: false, commit });
  await image.write(5 * BLOCK, filled(2 * BLOCK, 0x11));
  await image.write(9 * BLOCK, filled(BLOCK, 0x22));
  await image.flush('guest-flush');
  if (ending === 'close') await image.close();
  else await image.abandon();
  return files.contents(IMAGE);
}

const blockOf = (bytes: Uint8Array, index: number): Uint8Array =>
  bytes.subarray(index * BLOCK, (index + 1) * BLOCK);

/** A leaf in block 2: guest blocks 5 and 6 in host blocks 256 and 257, guest block 9 in 258. */
const LEAF = node([
  [8, 8, 3],
  [16, 4, 2],
  [24, 2, 2],
  [32, 4, 5],
  [36, 4, 2],
  [40, 4, 256],
  [48, 4, 9],
  [52, 4, 1],
  [56, 4, 258],
]);
const ROOT: Fields = [
  [48, 4, 2],
  [52, 4, new DataView(LEAF.buffer).getUint32(4, true)],
  [56, 8, 3],
];

describe('a new image', () => {
  test('has two superblocks and nothing else', async () => {
    const files = new RecordedFiles();
    await files.create(IMAGE, {
      format: 'btree',
      virtualSize: MIB,
      backingFile: { name: 'base', format: 'qcow2' },
    });
    const bytes = files.contents(IMAGE);
    expect(bytes.byteLength).toBe(2 * BLOCK);
    const texts = [
      [512, 'base'],
      [1536, 'qcow2'],
    ] as const;
    expect(blockOf(bytes, 0)).toEqual(
      superblock(
        [
          [24, 8, 2],
          [32, 8, MIB],
          [100, 2, 4],
          [102, 2, 5],
        ],
        texts,
      ),
    );
    expect(blockOf(bytes, 1)).toEqual(
      superblock(
        [
          [24, 8, 1],
          [32, 8, MIB],
          [100, 2, 4],
          [102, 2, 5],
        ],
        texts,
      ),
    );
  });

  test('can have larger nodes', async () => {
    const files = new RecordedFiles();
    await files.create(IMAGE, { format: 'btree', virtualSize: MIB, shape: { nodeSize: 65_536 } });
    expect(blockOf(files.contents(IMAGE), 0)).toEqual(
      superblock([
        [24, 8, 2],
        [32, 8, MIB],
        [40, 4, 65_536],
      ]),
    );
  });
});

describe('a tree of two levels', () => {
  test.each([
    { nodeSize: 4096, capacity: 254, blocks: [2, 3, 4] },
    { nodeSize: 65_536, capacity: 4094, blocks: [16, 32, 48] },
  ] as const)('of nodes of $nodeSize bytes', async ({ nodeSize, capacity, blocks }) => {
    const files = new RecordedFiles();
    await files.create(IMAGE, { format: 'btree', virtualSize: 64 * MIB, shape: { nodeSize } });
    const image = await openImage({ format: 'btree', name: IMAGE, files, readOnly: false });
    // Every second block: none continues the one before it.
    for (let index = 0; index <= capacity; index++) {
      await image.write(2 * index * BLOCK, filled(BLOCK, 1 + (index % 255)));
    }
    await image.flush('guest-flush');
    await image.abandon();
    const bytes = files.contents(IMAGE);
    const leaf = (own: number, from: number, to: number): Uint8Array => {
      const entries: Fields = Array.from({ length: to - from }, (_, index): Fields => {
        const at = 32 + 16 * index;
        return [
          [at, 4, 2 * (from + index)],
          [at + 4, 4, 1],
          [at + 8, 4, 256 + from + index],
        ];
      }).flat();
      return node([[8, 8, 3], [16, 4, own], [24, 2, to - from], ...entries], nodeSize);
    };
    const sum = (each: Uint8Array): number => new DataView(each.buffer).getUint32(4, true);
    // The root came when the first leaf was full, and was split at its end.
    const [first, root, second] = blocks;
    const left = leaf(first, 0, capacity - 1);
    const right = leaf(second, capacity - 1, capacity + 1);
    const above = node(
      [
        [8, 8, 3],
        [16, 4, root],
        [24, 2, 2],
        [26, 2, 1],
        [36, 4, first],
        [40, 4, 3],
        [44, 4, sum(left)],
        [48, 4, 2 * (capacity - 1)],
        [52, 4, second],
        [56, 4, 3],
        [60, 4, sum(right)],
      ],
      nodeSize,
    );
    const nodeAt = (block: number): Uint8Array => bytes.subarray(block * BLOCK, block * BLOCK + nodeSize);
    expect(nodeAt(first)).toEqual(left);
    expect(nodeAt(second)).toEqual(right);
    expect(nodeAt(root)).toEqual(above);
    expect(blockOf(bytes, 1)).toEqual(
      superblock([
        [24, 8, 3],
        [32, 8, 64 * MIB],
        [40, 4, nodeSize],
        [48, 4, root],
        [52, 4, sum(above)],
        [56, 8, 3],
        [64, 4, 1],
      ]),
    );
    expect(blockOf(bytes, 256 + capacity)).toEqual(filled(BLOCK, 1 + (capacity % 255)));
  });
});

describe('a flush', () => {
  test('two-sync: a leaf and the other superblock', async () => {
    const bytes = await imageWith('two-sync', 'flush');
    expect(blockOf(bytes, 0)).toEqual(
      superblock([
        [24, 8, 2],
        [32, 8, MIB],
      ]),
    );
    expect(blockOf(bytes, 1)).toEqual(superblock([[24, 8, 3], [32, 8, MIB], ...ROOT]));
    expect(blockOf(bytes, 2)).toEqual(LEAF);
    expect(blockOf(bytes, 257)).toEqual(filled(BLOCK, 0x11));
    expect(blockOf(bytes, 258)).toEqual(filled(BLOCK, 0x22));
    expect(bytes.byteLength).toBe(259 * BLOCK);
  });

  test('one-sync: the superblock is unordered and has checksums of the data', async () => {
    const bytes = await imageWith('one-sync', 'flush');
    const first = crc32(filled(BLOCK, 0x11));
    const proofs: Fields = [
      [44, 4, 1],
      [96, 4, 3],
      [1600, 4, 256],
      [1604, 4, first],
      [1608, 4, 257],
      [1612, 4, first],
      [1616, 4, 258],
      [1620, 4, crc32(filled(BLOCK, 0x22))],
    ];
    expect(blockOf(bytes, 1)).toEqual(superblock([[24, 8, 3], [32, 8, MIB], ...ROOT, ...proofs]));
    expect(blockOf(bytes, 2)).toEqual(LEAF);
  });

  test('one-sync: a close leaves an ordered superblock', async () => {
    const bytes = await imageWith('one-sync', 'close');
    expect(blockOf(bytes, 0)).toEqual(superblock([[24, 8, 4], [32, 8, MIB], ...ROOT]));
  });

  test('journal: a record for the superblock in force', async () => {
    const files = new RecordedFiles();
    await files.create(IMAGE, { format: 'btree', virtualSize: MIB });
    const image = await openImage({
      format: 'btree',
      name: IMAGE,
      files,
      readOnly: false,
      commit: 'journal',
    });
    await image.write(5 * BLOCK, filled(BLOCK, 0x11));
    await image.flush('guest-flush');
    await image.write(9 * BLOCK, filled(BLOCK, 0x22));
    await image.discard(5 * BLOCK, BLOCK);
    await image.flush('guest-flush');
    await image.abandon();
    const bytes = files.contents(IMAGE);
    // The journal was put behind the first block of data, by the first commit.
    const fields: Fields = [
      [8, 8, 3],
      [20, 4, 2],
      [24, 4, 1],
    ];
    const operations: Fields = [
      [32, 4, 9],
      [36, 4, 1],
      [40, 4, 321],
      [44, 4, 5],
      [48, 4, 1],
      [52, 4, 0xffff_ffff],
      [56, 4, 321],
      [60, 4, crc32(filled(BLOCK, 0x22))],
    ];
    const record = sealed(textAt(structure(BLOCK, [...fields, ...operations]), 0, 'QBTJ'), 4, 8);
    expect(blockOf(bytes, 257)).toEqual(record);
    const [journal] = [new DataView(bytes.buffer, BLOCK)];
    expect([journal.getUint32(88, true), journal.getUint32(92, true)]).toEqual([257, 64]);
  });
});

test('a snapshot is an entry of the table, and the next change gets a node of its own', async () => {
  const files = new RecordedFiles();
  await files.create(IMAGE, { format: 'btree', virtualSize: MIB });
  const image = await openImage({ format: 'btree', name: IMAGE, files, readOnly: false });
  await image.write(5 * BLOCK, filled(2 * BLOCK, 0x11));
  await image.write(9 * BLOCK, filled(BLOCK, 0x22));
  await image.snapshots?.create({ name: 'first', seconds: 1000, nanoseconds: 7 });
  await image.write(9 * BLOCK, filled(BLOCK, 0x33));
  await image.close();
  const bytes = files.contents(IMAGE);
  const entry = structure(72, [
    [0, 4, 2],
    [4, 4, new DataView(LEAF.buffer).getUint32(4, true)],
    [8, 8, 3],
    [24, 8, MIB],
    [32, 8, 1000],
    [48, 4, 7],
    [52, 2, 1],
    [54, 2, 5],
  ]);
  textAt(entry, 64, '1first');
  expect(bytes.subarray(259 * BLOCK, 259 * BLOCK + 72)).toEqual(entry);
  expect(blockOf(bytes, 2)).toEqual(LEAF);
  expect(blockOf(bytes, 258)).toEqual(filled(BLOCK, 0x22));
  const leaf = node([
    [8, 8, 4],
    [16, 4, 3],
    [20, 4, 1],
    [24, 2, 2],
    [32, 4, 5],
    [36, 4, 2],
    [40, 4, 256],
    [48, 4, 9],
    [52, 4, 1],
    [56, 4, 260],
    [60, 4, 1],
  ]);
  expect(blockOf(bytes, 3)).toEqual(leaf);
  const root: Fields = [
    [48, 4, 3],
    [52, 4, new DataView(leaf.buffer).getUint32(4, true)],
    [56, 8, 4],
  ];
  const table: Fields = [
    [72, 4, 1],
    [76, 4, 259],
    [80, 4, 72],
    [84, 4, crc32(entry)],
  ];
  expect(blockOf(bytes, 0)).toEqual(superblock([[24, 8, 4], [32, 8, MIB], ...root, ...table]));
});
