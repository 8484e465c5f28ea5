import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { generateBackingFill, generatePrefill } from '../../src/workload/generator.ts';
import { findSource, listSources, openStream, shippedNames } from '../../src/workload/library.ts';
import type { Request } from '../../src/workload/request.ts';
import { testDirectory } from '../test-directory.ts';
import { HEADER, temporaryFile } from './trace/trace-files.ts';
import { workloadJson } from './workload-texts.ts';

async function requestsOf(nameOrPath: string, limit?: number): Promise<Request[]> {
  await using stream = await openStream(await findSource(nameOrPath), { limit });
  const requests: Request[] = [];
  for await (const batch of stream.batches) requests.push(...batch);
  return requests;
}

const CLUSTER = 65_536;
const clusterOf = ({ offset }: Request) => Math.floor(offset / CLUSTER);
const writesOf = (requests: readonly Request[]) => requests.filter(({ op }) => op === 'write');

describe('what ships', () => {
  test('are these workloads and recordings', () => {
    expect(shippedNames()).toEqual([
      'boot-from-backing',
      'database-commit',
      'journaling-filesystem',
      'overwrite',
      'random-allocation',
      'sequential-allocation',
      'stride',
      'subcluster-sequential',
      'btrfs-unpack',
      'debian-boot',
      'ext4-unpack',
      'git-build',
      'postgres-pgbench',
      'sqlite-rollback',
      'sqlite-wal',
      'xfs-unpack',
    ]);
  });

  test('each loads, is named like its file, and teaches', async () => {
    const sources = await listSources();
    expect(sources.map(({ name }) => name)).toEqual(shippedNames());
    for (const { title, description, virtualSize } of sources) {
      expect(title.length).toBeGreaterThan(10);
      expect(description.length).toBeGreaterThan(200);
      expect(virtualSize).toBeLessThanOrEqual(4 * 2 ** 30);
    }
  });

  test('each has a thousand requests or more, a workload at most four thousand', async () => {
    for (const { name, kind } of await listSources()) {
      const { length } = await requestsOf(name);
      expect(length, name).toBeGreaterThanOrEqual(1000);
      if (kind === 'workload') expect(length, name).toBeLessThanOrEqual(4000);
    }
  });

  test('each recording says where it comes from, holds flushes, and takes less than 1 MiB', async () => {
    const recordings = (await listSources()).filter((source) => source.kind === 'recording');
    const readme = readFileSync(new URL('../../workloads/recorded/README.md', import.meta.url), 'utf8');
    for (const { name, path, provenance } of recordings) {
      for (const fact of ['tool', 'program', 'through', 'kernel', 'recorded']) {
        expect(provenance.get(fact), `${name}: ${fact}`).toMatch(/\S/);
      }
      const script = provenance.get('script') ?? 'none';
      expect(existsSync(new URL(`../../${script}`, import.meta.url)), `${name}: ${script}`).toBe(true);
      expect(statSync(path).size, name).toBeLessThan(2 ** 20);
      expect(readme).toContain(`## ${name}\n`);
      expect((await requestsOf(name)).filter(({ op }) => op === 'flush').length, name).toBeGreaterThan(50);
    }
  });

  test('a recording that is cut ends where it is cut', async () => {
    const source = await findSource('sqlite-rollback');
    if (source.kind !== 'recording') throw new Error('not a recording');
    const lengthOf = async (options: { readonly limit?: number }): Promise<number> => {
      let length = 0;
      await using stream = await openStream({ ...source, limit: 5000 }, options);
      for await (const batch of stream.batches) length += batch.length;
      return length;
    };
    expect([await lengthOf({}), await lengthOf({ limit: 64 }), await lengthOf({ limit: 6000 })]).toEqual([
      5000, 64, 5000,
    ]);
  });
});

describe('each shipped workload is what it says', () => {
  test('stride: 1,000 writes of 4 KiB at stride 64 KiB on a 1 GiB image', async () => {
    expect(await findSource('stride')).toMatchObject({ kind: 'workload', virtualSize: 2 ** 30 });
    const requests = await requestsOf('stride');
    const expected = Array.from({ length: 1000 }, (_, n) => ({
      op: 'write',
      offset: n * CLUSTER,
      length: 4096,
      fua: false,
      unmap: false,
      timeNs: 0,
    }));
    expect(requests).toEqual(expected);
  });

  test('subcluster-sequential: 1,024 writes of 4 KiB, 16 a cluster', async () => {
    const requests = await requestsOf('subcluster-sequential');
    expect(requests.map(({ op, offset, length }) => [op, offset, length])).toEqual(
      Array.from({ length: 1024 }, (_, n) => ['write', n * 4096, 4096]),
    );
  });

  test('random-allocation: no cluster twice', async () => {
    const requests = await requestsOf('random-allocation');
    expect(new Set(requests.map(clusterOf)).size).toBe(requests.length);
  });

  test('overwrite: every write falls into what was filled before', async () => {
    const source = await findSource('overwrite');
    if (source.kind !== 'workload') throw new Error('not a workload');
    const filled = new Set<number>();
    for (const { offset, length } of generatePrefill(source.workload)) {
      for (let cluster = offset / CLUSTER; cluster * CLUSTER < offset + length; cluster++) {
        filled.add(cluster);
      }
    }
    expect((await requestsOf('overwrite')).every((request) => filled.has(clusterOf(request)))).toBe(true);
  });

  test('database-commit: each write is flushed', async () => {
    const requests = await requestsOf('database-commit');
    expect(requests.map(({ op }) => op)).toEqual(requests.map((_, n) => (n % 2 === 0 ? 'write' : 'flush')));
  });

  test('journaling-filesystem: each commit record has FUA, and a flush is right before it', async () => {
    const requests = await requestsOf('journaling-filesystem');
    const commits = requests.flatMap(({ fua }, index) => (fua ? [index] : []));
    expect(commits).toHaveLength(200);
    for (const index of commits) {
      expect(requests[index - 1]?.op).toBe('flush');
      // The commit record is behind the journal blocks of its own transaction.
      expect((requests[index]?.offset ?? 0) - (requests[index - 2]?.offset ?? 0)).toBe(32 * 1024);
    }
  });

  test('boot-from-backing: mostly reads, within what the backing file holds', async () => {
    const source = await findSource('boot-from-backing');
    if (source.kind !== 'workload') throw new Error('not a workload');
    const filled = [...generateBackingFill(source.workload)].reduce((sum, { length }) => sum + length, 0);
    const requests = await requestsOf('boot-from-backing');
    expect(requests.every(({ offset, length }) => offset + length <= filled)).toBe(true);
    expect(requests.filter(({ op }) => op === 'read').length).toBeGreaterThan(0.8 * requests.length);
    expect(writesOf(requests).length).toBeGreaterThan(100);
  });

  test('ext4-unpack: a real recording whose flushes follow writes to the journal', async () => {
    const source = await findSource('ext4-unpack');
    expect(source.kind).toBe('recording');
    if (source.kind !== 'recording') return;
    const requests = await requestsOf('ext4-unpack');
    expect(requests.filter(({ op }) => op === 'flush').length).toBeGreaterThan(50);
    // mkfs puts the journal of a disk of this size into its middle: 32 MiB at 512 MiB.
    const inJournal = ({ op, offset }: Request) =>
      op === 'write' && offset >= 2 ** 29 && offset < 2 ** 29 + 2 ** 25;
    const flushedJournal = requests.filter(
      (request, n) => request.op === 'flush' && n > 0 && requests.slice(n - 1, n).some(inJournal),
    );
    expect(flushedJournal.length).toBeGreaterThan(30);
  });
});

describe('what a user names by path', () => {
  test('is a workload or a trace by its content', async () => {
    const folder = testDirectory();
    const path = join(folder, 'mine.txt');
    writeFileSync(path, ` \n${JSON.stringify(workloadJson())}`);
    expect(await findSource(path)).toMatchObject({ kind: 'workload', name: 'for-a-test', path });
    expect(await requestsOf(path, 3)).toHaveLength(3);

    const trace = temporaryFile(`${HEADER}0,flush,,,\n1,read,0,512,\n`, 'mine.trace.csv');
    expect(await findSource(trace)).toMatchObject({
      kind: 'recording',
      name: 'mine',
      virtualSize: 1048576,
      path: trace,
    });
    expect(await requestsOf(trace, 1)).toMatchObject([{ op: 'flush' }]);
  });

  test('is an error that lists the shipped names if the name is unknown', async () => {
    await expect(findSource('strid')).rejects.toMatchObject({
      code: 'unknown-workload',
      message: expect.stringMatching(
        /no workload or file 'strid' \(did you mean 'stride'\?\); bundled are boot-from-backing, .*ext4-unpack/,
      ) as string,
    });
  });

  test('is an error of its kind if it is broken', async () => {
    await expect(findSource(temporaryFile('{"schema":', 'w.json'))).rejects.toMatchObject({
      code: 'bad-workload',
    });
    await expect(findSource(temporaryFile('hello', 'w.json'))).rejects.toMatchObject({
      code: 'bad-workload',
    });
    await expect(findSource(temporaryFile('', 'w.json'))).rejects.toMatchObject({ code: 'bad-workload' });
    await expect(findSource(temporaryFile('hello\n', 'w.txt'))).rejects.toMatchObject({ code: 'bad-trace' });
    // A directory is a trace of several files.
    await expect(findSource(testDirectory())).rejects.toMatchObject({ code: 'no-trace-files' });
  });
});
