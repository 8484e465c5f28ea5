/**
 * Planted changes of the engine, in a copy of the sources: each fails the gate with one message,
 * which names the cause and the first request.
 */

import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { beforeAll, expect, test, vi } from 'vitest';

import { someOf } from '../amount.ts';
import { testDirectory } from '../test-directory.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const COUNTED =
  'run --workload random-allocation,database-commit --requests 200 --format qcow2 --cache writethrough,writeback --l2-cache-entry-size 4KiB --samples 0'.split(
    ' ',
  );

interface Mutation {
  readonly name: string;
  readonly file: string;
  readonly from: string;
  readonly to: string;
  /** Of the message, with its line breaks as spaces. */
  readonly message: RegExp;
}

const TABLES = 'src/format/qcow2/metadata/table-cache.ts';
const TABLE_WRITE = 'const from = this.#changedFrom[slot] as number;';

const MUTATIONS: readonly Mutation[] = [
  {
    name: 'one more sync',
    file: TABLES,
    from: 'return this.#syncFirst === undefined ? undefined : this.#satisfiedBy(this.#device.sync(this.#syncFirst));',
    to: "return this.#purpose !== 'l2-table' ? undefined : this.#satisfiedBy(this.#device.sync(this.#syncFirst ?? 'l2-after-cow'));",
    message:
      /^WORSE \+\S+ .*syncs per allocating write, l2-after-cow \(.*in all 8 cells; first: .*, request 0 /,
  },
  {
    name: 'a lost dependency',
    file: TABLES,
    from: 'if (this.#depends !== undefined) return this.#satisfyDependency(this.#depends);',
    to: '',
    message:
      /^FEWER SYNCS −\S+ .*, l2-after-refcount \(.*in 4 of 8 cells; first: .* eager .*, request 1 .*request 1: write refcount-block 65536 B, sync l2-after-refcount, write l2-table/,
  },
  {
    name: 'a cluster write in place of a slice',
    file: 'src/format/qcow2/metadata/cache-geometry.ts',
    from: 'sizes.l2CacheEntrySize ?? ',
    to: 'clusterSize ?? sizes.l2CacheEntrySize ?? ',
    message:
      /^WORSE .*, l2-table \(L2 tables\), bytes .*in all 8 cells; first: .*, request 0 .*write l2-table 4096 B.* → .*write l2-table 65536 B/,
  },
  {
    name: 'a doubled header write',
    file: 'src/format/qcow2/metadata/header-store.ts',
    from: "await this.device.write(FIELD.incompatible, field, 'header');\n    await this.device.sync('dirty-bit');",
    to: "await this.device.write(FIELD.incompatible, field, 'header');\n    await this.device.write(FIELD.incompatible, field, 'header');\n    await this.device.sync('dirty-bit');",
    message:
      /^WORSE \+1\.00 write per run, header \(.*in 4 of 8 cells; first: .* lazy .*, request 0 .*write header 8 B × 2/,
  },
  {
    name: 'a scan that grows with the image',
    file: TABLES,
    from: TABLE_WRITE,
    to: `for (const each of this.#offsets) if (each > 0) void this.#device.read(each, new Uint8Array(512), 'refcount-block');\n    ${TABLE_WRITE}`,
    message:
      /^WORSE \+\d{3}\.\S+ .*reads per allocating write, refcount-block \(.*in all 8 cells; first: .*, request 0 /,
  },
  {
    name: 'one more read',
    file: TABLES,
    from: TABLE_WRITE,
    to: `void this.#device.read(offset, new Uint8Array(512), this.#purpose);\n    ${TABLE_WRITE}`,
    message:
      /^WORSE \+1\.\S+ .*reads per allocating write, l2-table \(.*in all 8 cells; first: .*, request 0 /,
  },
];

const folder = testDirectory();
const baseline = join(folder, 'baseline.json');

beforeAll(() => {
  const result = join(folder, 'base.json');
  expect(runIn(ROOT, ...COUNTED, '--out', result)).toMatchObject({ status: 0 });
  expect(runIn(ROOT, 'gate', result, '--accept', '--baseline', baseline)).toMatchObject({ status: 0 });
});

test.each(someOf(MUTATIONS, 2))('$name: one message, with its cause and request', (mutation) => {
  const clone = mutated(mutation);
  const result = join(clone, 'result.json');
  expect(runIn(clone, ...COUNTED, '--out', result)).toMatchObject({ status: 0 });
  const { status, stdout } = runIn(ROOT, 'gate', result, '--baseline', baseline, '--quiet');
  expect(status).toBe(3);
  const messages = stdout.split('\n\n').slice(0, -1);
  expect(messages, stdout).toHaveLength(1);
  expect(messages[0]?.replaceAll(/\s+/g, ' ')).toMatch(mutation.message);
});

function runIn(root: string, ...words: readonly string[]): ReturnType<typeof spawnSync> & { stdout: string } {
  const environment = { ...process.env, NO_COLOR: '1', COLUMNS: '100' };
  return spawnSync(process.execPath, [join(root, 'src/cli/main.ts'), ...words], {
    cwd: folder,
    encoding: 'utf8',
    env: environment,
  });
}

function mutated({ name, file, from, to }: Mutation): string {
  const clone = join(folder, name.replaceAll(' ', '-'));
  mkdirSync(clone);
  for (const each of ['src', 'workloads', 'package.json']) {
    cpSync(join(ROOT, each), join(clone, each), { recursive: true });
  }
  symlinkSync(join(ROOT, 'node_modules'), join(clone, 'node_modules'));
  const path = join(clone, file);
  const text = readFileSync(path, 'utf8');
  expect(text.split(from), `${file} has what the mutation replaces, once`).toHaveLength(2);
  writeFileSync(
    path,
    text.replace(from, () => to),
  );
  return clone;
}
