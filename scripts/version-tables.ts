/**
 * What an allocating write costs in each version of QEMU, in every cache mode and format: the
 * tables of `docs/qemu-rules.md` between two marks, from counts of the workload `stride`. Run by
 * `npm run docs:versions`; a test compares the document with the counts.
 */

import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

import { format, resolveConfig } from 'prettier';

import { BuiltinEngine } from '../src/bench/builtin-engine.ts';
import { planMatrix } from '../src/bench/matrix.ts';
import { CACHE_MODES } from '../src/format/cache-mode.ts';
import { QEMU_PROFILE_NAMES } from '../src/format/qemu-profile.ts';
import { profileOf, variantName } from '../src/result/cell.ts';
import { findSource } from '../src/workload/library.ts';

export const RULES = new URL('../docs/qemu-rules.md', import.meta.url);
const BEGIN = '<!-- allocating writes: begin; written by npm run docs:versions -->';
const END = '<!-- allocating writes: end -->';

const COLUMNS = ['raw', 'qcow2 eager', 'qcow2 lazy', 'QED'];
/** How the guest asks for durability. */
const TABLES = [
  { title: 'Without FUA or flush:', change: {} },
  { title: 'Each write with FUA:', change: { fuaShare: 1 } },
  { title: 'Each write followed by a flush:', change: { flushEvery: 1 } },
] as const;

/** The document with its tables as they are counted now. */
export async function withVersionTables(document: string): Promise<string> {
  const [before, rest] = document.split(BEGIN);
  const after = rest?.split(END)[1];
  if (before === undefined || after === undefined) throw new Error(`the document has no ${BEGIN} and ${END}`);
  const tables: string[] = [];
  for (const { title, change } of TABLES) tables.push(title, '', await table(change), '');
  const text = [before + BEGIN, '', ...tables, END + after].join('\n');
  return await format(text, { ...(await resolveConfig(RULES)), parser: 'markdown' });
}

async function table(change: { readonly fuaShare?: number; readonly flushEvery?: number }): Promise<string> {
  const stride = await findSource('stride');
  if (stride.kind !== 'workload') throw new Error('the workload stride is a recording');
  const { workload } = stride;
  const phases = [workload.phases].flat().map((phase) => ({ ...phase, ...change }));
  const plans = planMatrix({
    sources: [{ ...stride, workload: { ...workload, phases } }],
    formats: ['raw', 'qcow2', 'qed'],
    refcounts: ['eager', 'lazy'],
    caches: CACHE_MODES,
    clusterSizes: [65_536],
    queueDepths: [1],
    engines: ['builtin'],
    devices: ['memory'],
    others: { like: QEMU_PROFILE_NAMES },
  });
  /** By cache mode, variant and version. */
  const figures = new Map<string, { readonly syncs: string; readonly bytes: string }>();
  for (const plan of plans) {
    const { counts } = await new BuiltinEngine().count(plan, {});
    const all = [counts.open, counts.run, counts.close];
    const perWrite = (values: readonly number[]): number =>
      values.reduce((sum, value) => sum + value, 0) / counts.guest.writes;
    const key = [plan.cell.cache, variantName(plan.cell), profileOf(plan.cell)].join();
    figures.set(key, {
      syncs: perWrite(all.map(({ syncs }) => syncs.ops)).toFixed(3),
      bytes: Math.round(perWrite(all.map(({ writes }) => writes.bytes))).toLocaleString('en'),
    });
  }
  const rows = CACHE_MODES.map((cache) => [
    cache,
    ...COLUMNS.map((variant) => {
      const versions = QEMU_PROFILE_NAMES.map((like) => figures.get([cache, variant, like].join()));
      const changes = (name: 'syncs' | 'bytes'): string =>
        [...new Set(versions.map((version) => version?.[name]))].join(' → ');
      return `${changes('syncs')} · ${changes('bytes')}`;
    }),
  ]);
  const header = ['cache mode', ...COLUMNS];
  return [header, header.map((_, column) => (column === 0 ? '---' : '---:')), ...rows]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await writeFile(RULES, await withVersionTables(await readFile(RULES, 'utf8')));
}
