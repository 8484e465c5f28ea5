/**
 * The check says what `qemu-img check` says of the same damage, and its repair leaves what QEMU
 * finds clean.
 */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CHECK, QemuDirectory } from '../qemu-directory.ts';
import { filled } from '../recorded-files.ts';
import { reasonToSkip } from '../system-tools.ts';
import { newImage, openBytes, patched } from './image-bytes.ts';

const CLUSTER = 4096;
const REFCOUNT_BLOCK = 2 * CLUSTER;
const L1 = 3 * CLUSTER;
const OFFSET = 0x00ff_ffff_ffff_fe00n;
const COPIED = 1n << 63n;
const noQemu = reasonToSkip('qemu-img');

type Damage =
  | { readonly kind: 'refcount'; readonly cluster: number; readonly value: number }
  | { readonly kind: 'l1-copied'; readonly index: number }
  | { readonly kind: 'l2-copied' | 'cross-link'; readonly table: number; readonly index: number };

const damage: fc.Arbitrary<Damage> = fc.oneof(
  fc.record({ kind: fc.constant('refcount' as const), cluster: fc.nat(60), value: fc.nat(3) }),
  fc.record({ kind: fc.constant('l1-copied' as const), index: fc.nat(2) }),
  fc.record({
    kind: fc.constantFrom('l2-copied' as const, 'cross-link' as const),
    table: fc.nat(2),
    index: fc.integer({ min: 1, max: 12 }),
  }),
);

/** Three L2 tables with some clusters each. */
async function sound(): Promise<Uint8Array<ArrayBuffer>> {
  const { image, device } = await openBytes(
    await newImage({ virtualSize: 6 * 1024 * 1024, clusterSize: CLUSTER }),
  );
  for (const at of [0, 2, 4]) await image.write(at * 1024 * 1024, filled(14 * CLUSTER, at + 1));
  await image.discard(3 * CLUSTER, CLUSTER);
  await image.writeZeroes(5 * CLUSTER, CLUSTER, { unmap: false });
  await image.close();
  return device.contents();
}

function spoil(bytes: Uint8Array<ArrayBuffer>, each: Damage): void {
  const view = new DataView(bytes.buffer);
  const flip = (at: number): void => view.setBigUint64(at, view.getBigUint64(at) ^ COPIED);
  switch (each.kind) {
    case 'refcount':
      view.setUint16(REFCOUNT_BLOCK + each.cluster * 2, each.value);
      return;
    case 'l1-copied':
      flip(L1 + each.index * 8);
      return;
    case 'l2-copied':
    case 'cross-link': {
      const table = Number(view.getBigUint64(L1 + each.table * 8) & OFFSET);
      if (each.kind === 'l2-copied') flip(table + each.index * 8);
      else view.setBigUint64(table + each.index * 8, view.getBigUint64(table + (each.index - 1) * 8));
    }
  }
}

describe.skipIf(noQemu !== undefined)('a check of a damaged image', () => {
  const qemu = new QemuDirectory();

  function theirs() {
    const { output } = qemu.check('qcow2', 'disk', '--output=json');
    const report = JSON.parse(output.slice(output.indexOf('{'), output.lastIndexOf('}') + 1)) as Record<
      string,
      number
    >;
    return {
      corruptions: report['corruptions'] ?? 0,
      leaks: report['leaks'] ?? 0,
      checkErrors: report['check-errors'] ?? 0,
      imageEndOffset: report['image-end-offset'] ?? 0,
      allocatedClusters: report['allocated-clusters'] ?? 0,
      fragmentedClusters: report['fragmented-clusters'] ?? 0,
      totalClusters: report['total-clusters'] ?? 0,
    };
  }

  it('counts as QEMU counts, and what it repairs QEMU finds clean', async () => {
    const original = await sound();
    await fc.assert(
      fc.asyncProperty(fc.array(damage, { maxLength: 4 }), async (damages) => {
        const bytes = original.slice();
        for (const each of damages) spoil(bytes, each);
        qemu.put('disk', bytes);
        const { image } = await openBytes(bytes, { readOnly: true, forCheck: true });
        const { corruptions, leaks, checkErrors, imageEndOffset, ...rest } = await image.check();
        const { allocatedClusters, fragmentedClusters, totalClusters } = rest;
        await image.close();
        const ours = { corruptions, leaks, checkErrors, imageEndOffset };
        expect({ ...ours, allocatedClusters, fragmentedClusters, totalClusters }).toEqual(theirs());

        const repaired = await openBytes(bytes, { forCheck: true });
        const outcome = await repaired.image.check('all');
        expect({ corruptions: outcome.corruptions, checkErrors: outcome.checkErrors }).toEqual({
          corruptions: 0,
          checkErrors: 0,
        });
        await repaired.image.close();
        qemu.put('disk', repaired.device.contents());
        qemu.expectCheck('qcow2', 'disk', CHECK.clean);
      }),
      { numRuns: 40 },
    );
  });

  it('finds entries of the snapshot table without the sizes that version 3 demands, and rewrites it', async () => {
    qemu.img('create', '-q', '-f', 'qcow2', '-o', `cluster_size=${String(CLUSTER)}`, 'disk', '2M');
    qemu.img('snapshot', '-c', 'kept', 'disk');
    // What follows the one entry reads as two of zeroes.
    const bytes = patched(qemu.get('disk'), { at: 60, u32: 3 }, { at: 6 * CLUSTER - 8, u64: 0n });
    qemu.put('disk', bytes);
    const checked = await openBytes(bytes, { readOnly: true, forCheck: true });
    const { corruptions, leaks, checkErrors, messages } = await checked.image.check();
    await checked.image.abandon();
    expect({ corruptions, leaks, checkErrors }).toEqual({ corruptions: 2, leaks: 0, checkErrors: 0 });
    expect(messages).toContain('ERROR snapshot table entry 1 is incomplete');
    expect(theirs()).toMatchObject({ corruptions, leaks, checkErrors });

    const { image, device } = await openBytes(bytes, { forCheck: true });
    expect(await image.check('all')).toMatchObject({ corruptions: 0, corruptionsFixed: 2 });
    expect(image.snapshots.list.map(({ name }) => name)).toEqual(['kept', '', '']);
    await image.close();
    qemu.expectCheck('qcow2', 'disk', CHECK.corrupt);
    qemu.img('check', '-q', '-r', 'all', '-f', 'qcow2', 'disk');
    expect(Buffer.compare(device.contents(), qemu.get('disk'))).toBe(0);
  });

  it('repairs leaks only, if only that is asked for', async () => {
    const bytes = await sound();
    spoil(bytes, { kind: 'refcount', cluster: 1, value: 2 });
    spoil(bytes, { kind: 'cross-link', table: 0, index: 1 });
    const { image, device } = await openBytes(bytes, { forCheck: true });
    const report = await image.check('leaks');
    // The cluster that lost its place is a leak too, and freed.
    expect(report).toMatchObject({ corruptions: 1, leaks: 0, leaksFixed: 2, corruptionsFixed: 0 });
    await image.close();
    qemu.put('disk', device.contents());
    qemu.expectCheck('qcow2', 'disk', CHECK.corrupt);
  });

  it.each([62, 63])(
    'sees that a refcount block is not aligned at any offset, beyond 2^%i too',
    async (bit) => {
      const bytes = patched(await sound(), { at: CLUSTER + 8, u64: (1n << BigInt(bit)) | 0xe400n });
      const { image } = await openBytes(bytes, { forCheck: true });
      const { checkErrors, messages } = await image.check('leaks');
      await image.abandon();
      expect(checkErrors).toBe(1);
      expect(messages).toContain(
        'ERROR refcount block 1 is not cluster aligned; refcount table entry corrupted',
      );
      qemu.put('disk', bytes);
      expect(qemu.check('qcow2', 'disk', '-r', 'leaks')).toMatchObject({ status: CHECK.failed });
    },
  );
});
