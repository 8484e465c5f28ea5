/**
 * ESLint over the files that changed since they were last clean, or that import one that did, over
 * however many files: rules ask for types, and the type of a name may come from there. In CI, over
 * all files.
 *
 *   node scripts/lint.mjs          (npm run lint)
 */

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { ESLint } from 'eslint';

const LINTED = /\.(?:[cm]?js|tsx?)$/;
/** What any finding depends on, beside sources. */
const FOR_ALL = /^(?:eslint\.config\.mjs|package(?:-lock)?\.json|tsconfig.*\.json|lint\.mjs)$/;
/** Seen in all files, imported or not. */
const GLOBAL_TYPES = /^\s*declare (?:global|module)\b/m;

/**
 * @param {string} root the clone
 * @returns {Map<string, string>} by path from the root: a key that changes with the file, with each
 *   that it leads to by imports, and with what concerns all
 */
export function lintKeys(root) {
  const common = createHash('sha256').update(process.version);
  /** @type {Map<string, { hash: string, leads: string[] }>} */
  const sources = new Map();
  for (const file of filesBelow(root)) {
    const isLinted = LINTED.test(file);
    const concernsAll = FOR_ALL.test(file.slice(file.lastIndexOf('/') + 1));
    if (!isLinted && !concernsAll) continue;
    const text = readFileSync(join(root, file), 'utf8');
    const hash = hashOf(text);
    if (concernsAll || file.endsWith('.d.ts') || (isLinted && GLOBAL_TYPES.test(text))) {
      common.update(`${file} ${hash}\n`);
    }
    if (isLinted) sources.set(file, { hash, leads: leadsOf(root, file, text) });
  }
  const ofAll = common.digest('hex');
  /** @param {string} file */
  const sourceOf = (file) => {
    // Data.
    const source = sources.get(file) ?? { hash: hashOf(readFileSync(join(root, file))), leads: [] };
    sources.set(file, source);
    return source;
  };
  return new Map(
    [...sources.keys()].map((file) => {
      const reached = new Set([file]);
      for (const each of reached) for (const next of sourceOf(each).leads) reached.add(next);
      const lines = [...reached].toSorted().map((each) => `${each} ${sourceOf(each).hash}\n`);
      return [file, hashOf(ofAll + lines.join(''))];
    }),
  );
}

/** @param {string | Uint8Array} content */
function hashOf(content) {
  return createHash('sha256').update(content).digest('hex');
}

/**
 * Files that a source names, in an import or otherwise: one too many costs time, not a finding.
 *
 * @param {string} root
 * @param {string} file
 * @param {string} text
 */
function leadsOf(root, file, text) {
  const folder = dirname(join(root, file));
  return [...text.matchAll(/['"](\.{1,2}\/[^'"\n]+)['"]/g)]
    .map(([, name = '']) => resolve(folder, name))
    .filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile() === true)
    .map((path) => relative(root, path).replaceAll('\\', '/'));
}

/**
 * @param {string} root
 * @returns {string[]} paths from `root`, with `/`; not of installed packages
 */
function filesBelow(root, folder = '') {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
    if (entry.isFile()) return [path];
    return entry.isDirectory() && !['node_modules', '.git'].includes(entry.name)
      ? filesBelow(root, path)
      : [];
  });
}

/**
 * @param {string} root
 * @returns {Promise<boolean>} whether nothing was found
 */
async function lint(root) {
  const cache = join(root, 'node_modules', '.cache', 'qcow2-bench', 'lint.json');
  const eslint = new ESLint({ cwd: root });
  const keys = lintKeys(root);
  const { CI } = process.env;
  /** @type {Record<string, string>} */
  const clean = CI !== 'true' && existsSync(cache) ? JSON.parse(readFileSync(cache, 'utf8')) : {};
  const changed = [];
  for (const [file, key] of keys) {
    if (clean[file] !== key && !(await eslint.isPathIgnored(join(root, file)))) changed.push(file);
  }
  const results = changed.length === 0 ? [] : await eslint.lintFiles(changed);
  const found = results.filter(({ errorCount, warningCount }) => errorCount + warningCount > 0);
  const dirty = new Set(found.map(({ filePath }) => relative(root, filePath).replaceAll('\\', '/')));
  mkdirSync(dirname(cache), { recursive: true });
  writeFileSync(cache, JSON.stringify(Object.fromEntries([...keys].filter(([file]) => !dirty.has(file)))));
  if (found.length > 0) console.log(await (await eslint.loadFormatter('stylish')).format(results));
  return found.length === 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.exitCode = (await lint(fileURLToPath(new URL('..', import.meta.url)))) ? 0 : 1;
}
