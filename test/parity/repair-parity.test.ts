/**
 * A repair is the host operations of QEMU's, in its order: `check --repair` and `qemu-img check -r`
 * under strace, on copies of the same broken image. Where ours differ on purpose
 * (docs/qemu-rules.md, "Named exceptions"), both are shown.
 */

import { readFileSync, truncateSync } from 'node:fs';

import { describe, expect, it } from 'vitest';

import { makeDamageBases } from '../format/qcow2/damage-bases.ts';
import { damaged } from '../format/qcow2/damage.ts';
import { readableClusters } from '../format/qcow2/readable-clusters.ts';
import { QemuDirectory } from '../format/qemu-directory.ts';
import { reasonToSkip, runTool } from '../format/system-tools.ts';
import { amount, someOf } from '../amount.ts';
import { loseQedEntry, REPAIR_CASES, type RepairCase } from './repair-cases.ts';
import { RepairTwins, type Repaired } from './repair-twins.ts';

/** The last few are of dirty images that cannot be repaired in full. */
const SEEDS: readonly number[] = [
  ...Array.from({ length: amount({ everyday: 12, full: 72 }) }, (_, seed) => seed),
  142,
  209,
  422,
];
/**
 * Seeds whose entries lead past the end of a file that needs new refcounts: it gets its length back
 * first (lost-tail).
 */
const LOST_TAIL: ReadonlySet<number> = new Set([43, 56, 209, 422]);
/** Seeds whose snapshot has an L1 table that cannot be used: ours removes it (broken-snapshot). */
const BROKEN_SNAPSHOT: ReadonlySet<number> = new Set([19, 25]);
/** The write of the header's fields for the snapshot table. */
const SNAPSHOT_FIELDS = 'W 0x3c 12';
/**
 * Last bytes of the incompatible and of the autoclear features; bit 0 says dirty, and that there
 * are bitmaps.
 */
const [FEATURES_AT, BITMAPS_AT] = [79, 95];
const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');
if (skip !== undefined) process.stderr.write(`repairs are not held against QEMU: ${skip}\n`);

const twins = new RepairTwins();

describe.skipIf(skip !== undefined)('a repair issues what qemu-img issues, and leaves what it leaves', () => {
  it.concurrent.each(someOf(REPAIR_CASES, 10))('$format, $options: $what', async (image) => {
    const path = twins.make(image);
    for (const scope of image.scopes) {
      const ours =
        image.inProcess === true ? await twins.oursHere(path, scope) : await twins.ours(path, scope);
      const theirs = await twins.theirs(path, image.format, scope);
      expect(ours.operations.join('\n'), scope).toBe(theirs.operations.join('\n'));
      expect(ours.exitCode, scope).toBe(theirs.exitCode);
      if (ours.counts !== undefined && theirs.counts !== undefined) {
        expect(ours.counts, scope).toEqual(theirs.counts);
      }
      expect(bytesOf(ours).equals(bytesOf(theirs)), scope).toBe(true);
    }
  });
});

describe.skipIf(skip !== undefined)('a repair of random damage', () => {
  const qemu = new QemuDirectory();

  it(`issues what qemu-img issues (${String(SEEDS.length)} seeds)`, async () => {
    // QEMU stores bitmaps again (repair-of-bitmaps); data files are not next to the copies, where
    // it looks for them.
    const bases = makeDamageBases(qemu).filter(
      ({ bytes, dataFile }) => ((bytes[BITMAPS_AT] ?? 0) & 1) === 0 && dataFile === undefined,
    );
    const differences: string[] = [];
    let stopped = 0;
    let kept = 0;
    for (const seed of SEEDS) {
      const base = bases[seed % bases.length];
      if (base === undefined) continue;
      const { bytes, what } = damaged(base.bytes, seed);
      const path = twins.put(bytes);
      const scope = seed % 3 === 0 ? 'leaks' : 'all';
      const ours = await twins.oursHere(path, scope);
      const theirs = await twins.theirs(path, 'qcow2', scope);
      if (theirs.marking !== undefined) {
        // It blocks itself (refcount-block-in-the-way), and stops.
        stopped++;
        continue;
      }
      if (LOST_TAIL.has(seed)) {
        expect(ours.operations[0], String(seed)).toMatch(/^T /);
        expect(theirs.operations.join(), String(seed)).not.toContain('T ');
        continue;
      }
      if (BROKEN_SNAPSHOT.has(seed)) {
        expect(ours.operations, String(seed)).toContain(SNAPSHOT_FIELDS);
        expect(theirs.operations, String(seed)).not.toContain(SNAPSHOT_FIELDS);
        continue;
      }
      // A repair that failed clears the dirty bit all the same (failed-leak-repair).
      const isDirty = ((bytes[FEATURES_AT] ?? 0) & 1) === 1;
      const isGood = theirs.exitCode === 0 || theirs.exitCode === 3;
      const clears = isDirty && !isGood ? theirs.operations.slice(-2) : [];
      const expected = theirs.operations.slice(0, theirs.operations.length - clears.length);
      const isSame = ours.operations.join() === expected.join();
      // What only a table led to that cannot be read loses its bytes (lost-table).
      const keepsBytes =
        !isSame &&
        writesOf(ours.operations) === writesOf(expected) &&
        holesOf(expected) > holesOf(ours.operations);
      if (keepsBytes) kept++;
      if (!(isSame || keepsBytes) || ours.exitCode !== theirs.exitCode) {
        const told = [ours, { operations: expected }].map(({ operations }) =>
          operations.join('; ').slice(0, 500),
        );
        differences.push(`seed ${String(seed)}, ${scope}: ${[what.join('; '), ...told].join('\n  ')}`);
      }
      if (clears.length > 0) expect(clears[0]).toMatch(/^W 0x0 /);
    }
    expect(differences.join('\n')).toBe('');
    expect({ stopped, kept, isMost: stopped + kept < SEEDS.length / 6 }).toMatchObject({ isMost: true });
  });
});

const bytesOf = ({ path }: Repaired): Buffer => readFileSync(path);
const writesOf = (operations: readonly string[]): string =>
  operations.filter((operation) => /^[WT]/.test(operation)).join();
const holesOf = (operations: readonly string[]): number =>
  operations.filter((operation) => operation.startsWith('P')).length;

describe.skipIf(skip !== undefined)('where a repair of QEMU does harm, ours does not follow', () => {
  const CLUSTERS = { format: 'qcow2', options: 'cluster_size=4096' } as const;

  it.concurrent(
    'repair-of-bitmaps: QEMU stores bitmaps even over data whose refcounts are lost',
    async () => {
      let data = 0;
      const path = twins.make({
        ...CLUSTERS,
        written: ['write -P 7 0 8k'],
        then: ['bitmap', '--add', '-f', 'qcow2', 'IMAGE', 'kept'],
        writtenAfter: ['write -P 7 20k 8k'],
        spoil: (image) => {
          data = image.data();
          image.setRefcount(data, 0);
        },
      });
      const theirs = await twins.theirs(path, 'qcow2', 'leaks');
      expect(theirs.exitCode).toBe(1);
      expect(theirs.operations).toContain(`W 0x${data.toString(16)} 4096`);
      expect(bytesOf(theirs)[data]).not.toBe(7);

      const leaks = await twins.ours(path, 'leaks');
      expect({ exitCode: leaks.exitCode, operations: leaks.operations }).toEqual({
        exitCode: 1,
        operations: [],
      });
      // The bitmap stays where it is, in order, while the refcounts around it are rebuilt.
      const all = await twins.ours(path, 'all');
      expect(all.exitCode).toBe(0);
      expect(bytesOf(all)[data]).toBe(7);
      const info = runTool('qemu-img', ['info', '--output=json', all.path]);
      expect(JSON.parse(info)).toMatchObject({
        'format-specific': { data: { bitmaps: [{ name: 'kept', flags: ['auto'] }] } },
      });
      runTool('qemu-img', ['check', '-q', '-f', 'qcow2', all.path]);
    },
  );

  it.concurrent(
    'lost-tail: QEMU puts new refcounts into clusters that L2 entries past the end lead to',
    async () => {
      const path = twins.make({
        format: 'qcow2',
        options: 'cluster_size=4096,lazy_refcounts=on',
        written: ['write -P 7 0 1M'],
        crashes: true,
      });
      truncateSync(path, 160 * 4096);
      const theirs = await twins.theirs(path, 'qcow2', 'all');
      const ours = await twins.ours(path, 'all');
      const strange = async (repaired: Repaired): Promise<readonly number[]> => {
        const clusters = await readableClusters(new Uint8Array(bytesOf(repaired)), undefined);
        // A guest wrote sevens only; what was lost may read as zeroes.
        return [...clusters]
          .filter(([, held]) => held.some((byte) => byte !== 7 && byte !== 0))
          .map(([at]) => at);
      };
      expect(theirs.operations.filter((each) => each.startsWith('T'))).toEqual([]);
      expect((await strange(theirs)).length).toBeGreaterThan(0);
      expect(ours.operations[0]).toMatch(/^T /);
      expect(ours.exitCode).toBe(0);
      expect(await strange(ours)).toEqual([]);
      runTool('qemu-img', ['check', '-q', '-f', 'qcow2', ours.path]);
    },
  );

  const qed: Omit<RepairCase, 'what' | 'scopes'> = {
    format: 'qed',
    options: 'cluster_size=4096',
    written: ['write 0 200k'],
    spoilQed: loseQedEntry,
  };

  it.concurrent(
    'qed-mark-first: QEMU takes the mark of an unclean close away before the tables are repaired',
    async () => {
      const path = twins.make({ ...qed, crashes: true });
      const theirs = await twins.theirs(path, 'qed', 'all');
      const ours = await twins.ours(path, 'all');
      const [table = ''] = ours.operations;
      expect(table).toMatch(/^W 0x[0-9a-f]+ 16384$/);
      expect(theirs.operations).toEqual(['W 0x0 512', 'F', table, 'F']);
      expect(ours.operations).toEqual([table, 'F', 'W 0x0 64', 'F']);
      expect(bytesOf(ours).equals(bytesOf(theirs))).toBe(true);
    },
  );

  it.concurrent('qed-leaks: asked for leaks alone, QEMU clears entries too', async () => {
    const path = twins.make(qed);
    const theirs = await twins.theirs(path, 'qed', 'leaks');
    expect(theirs.operations).toHaveLength(2);
    const ours = await twins.ours(path, 'leaks');
    expect({ exitCode: ours.exitCode, operations: ours.operations }).toEqual({ exitCode: 2, operations: [] });
    const all = await twins.ours(path, 'all');
    expect(all.operations).toEqual(theirs.operations);
    expect(bytesOf(all).equals(bytesOf(theirs))).toBe(true);
  });

  it.concurrent.each([
    ['is not aligned', 512n],
    ['has reserved bits', 1n],
  ])('refcount-block-in-the-way: one that %s keeps QEMU from building others', async (_what, bits) => {
    const path = twins.make({
      ...CLUSTERS,
      written: ['write -P 7 0 1M'],
      spoil: (image) => void image.flip(image.refcountTable, bits),
    });
    const theirs = await twins.theirs(path, 'qcow2', 'all');
    expect(theirs.exitCode).toBe(1);
    // It is marked as corrupt, and that is all.
    expect(theirs.operations).toEqual(['W 0x0 4096', 'F']);
    const ours = await twins.ours(path, 'all');
    expect(ours.exitCode).toBe(0);
    runTool('qemu-img', ['check', '-q', '-f', 'qcow2', ours.path]);
    expect(runTool('qemu-io', ['-f', 'qcow2', '-c', 'read -P 7 0 1M', ours.path])).not.toContain('failed');
  });

  it.concurrent('unread-refcounts: QEMU leaves the mark of corruption on what it has made good', async () => {
    const path = twins.make({
      ...CLUSTERS,
      written: ['write -P 7 0 1M'],
      // A block at 2^63, where no file has anything; and the mark of corruption.
      spoil: (image) => void image.flip(image.refcountTable, 1n << 63n).setU64(72, 2),
    });
    const theirs = await twins.theirs(path, 'qcow2', 'all');
    expect(theirs.exitCode).toBe(0);
    expect(bytesOf(theirs)[FEATURES_AT]).toBe(2);
    runTool('qemu-img', ['check', '-q', '-f', 'qcow2', theirs.path]);
    const ours = await twins.ours(path, 'all');
    expect(ours.exitCode).toBe(0);
    expect(ours.operations).toEqual([...theirs.operations, 'W 0x0 4096', 'F']);
  });
});
