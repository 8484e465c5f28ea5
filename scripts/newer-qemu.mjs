/**
 * QEMU 10.0 beside the 7.2 of a Debian 12: its tools, unpacked from the backports into a folder of
 * the clone. Nothing is installed, and no file of apt's is changed. Run as a program, it brings
 * them and says in one line where they are, or why QEMU 10.0 was not tried; tests and
 * `vitest.config.ts` ask for the folder.
 */

import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { NotTried, run, unpackInto } from './debian-packages.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const FOLDER = join(ROOT, 'node_modules', '.cache', 'qcow2-bench', 'qemu-10.0');
const TOOLS = ['qemu-img', 'qemu-io', 'qemu-nbd', 'qemu-storage-daemon'];
const PACKAGE = 'qemu-utils';
/** The release whose own QEMU is 7.2 and whose backports have 10.0. */
const CODENAME = 'bookworm';
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** @returns {string | undefined} the folder of the tools for a PATH, if they were brought */
export function newerQemuFolder() {
  const folder = join(FOLDER, 'bin');
  return existsSync(join(folder, 'qemu-io')) ? folder : undefined;
}

/** @returns {string} the folder of the tools */
function bring() {
  const present = newerQemuFolder();
  if (present !== undefined) return present;
  const release = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : '';
  if (!new RegExp(`^VERSION_CODENAME=${CODENAME}$`, 'm').test(release)) {
    throw new NotTried(`this is not Debian 12 (${CODENAME}), whose backports have it`);
  }
  unpackInto(FOLDER, (work) => download(work, debianMirror()), linkTools);
  return join(FOLDER, 'bin');
}

/** @returns {string} the address that apt has for this release */
function debianMirror() {
  const folder = '/etc/apt/sources.list.d';
  const more = existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [];
  const texts = ['/etc/apt/sources.list', ...more]
    .filter((file) => /\.(list|sources)$/.test(file) && existsSync(file))
    .map((file) => readFileSync(file, 'utf8'));
  for (const paragraph of texts.flatMap((text) => text.split(/\n\s*\n/))) {
    const suites = /^Suites:(.*)$/m.exec(paragraph)?.[1]?.trim().split(/\s+/) ?? [];
    const stanza = suites.includes(CODENAME) ? /^URIs:\s*(\S+)/m.exec(paragraph) : null;
    const line = new RegExp(`^deb\\s+(?:\\[[^\\]]*\\]\\s+)?(\\S+)\\s+${CODENAME}\\s`, 'm').exec(paragraph);
    const address = (stanza ?? line)?.[1];
    if (address !== undefined) return address;
  }
  throw new NotTried(`apt has no source for ${CODENAME}`);
}

/**
 * The package, and what it needs that is not installed.
 *
 * @param {string} work an empty folder
 * @param {string} mirror
 * @returns {string[]} files
 */
function download(work, mirror) {
  for (const folder of ['lists/partial', 'cache/archives/partial']) {
    mkdirSync(join(work, folder), { recursive: true });
  }
  const sources = join(work, 'sources.list');
  const suites = [CODENAME, `${CODENAME}-backports`];
  writeFileSync(
    sources,
    suites.map((suite) => `deb [signed-by=${KEYRING}] ${mirror} ${suite} main\n`).join(''),
  );
  const settings = {
    'Dir::Etc::SourceList': sources,
    'Dir::Etc::SourceParts': '-',
    'Dir::State::Lists': join(work, 'lists'),
    'Dir::Cache': join(work, 'cache'),
    'Debug::NoLocking': 'true',
    'APT::Sandbox::User': 'root',
    // Without it an update that reached no server is a success.
    'APT::Update::Error-Mode': 'any',
  };
  const options = Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  run('apt-get', [...options, '-qq', 'update']);
  const install = ['-qq', '-y', '--download-only', '--no-install-recommends', '-t', suites[1] ?? ''];
  run('apt-get', [...options, ...install, 'install', PACKAGE]);
  const archives = join(work, 'cache', 'archives');
  const files = readdirSync(archives).filter((name) => name.endsWith('.deb'));
  if (files.length === 0) throw new NotTried(`apt brought no ${PACKAGE} from ${CODENAME}-backports`);
  return files.map((name) => join(archives, name));
}

/**
 * Puts the tools into `bin`, with the libraries that came along where the system's do not do.
 *
 * @param {string} staged what was unpacked
 */
function linkTools(staged) {
  const bin = join(staged, 'bin');
  mkdirSync(bin);
  for (const tool of TOOLS) {
    const program = join('usr', 'bin', tool);
    if (starts(join(staged, program), {})) {
      symlinkSync(join('..', program), join(bin, tool));
      continue;
    }
    const libraries = join('usr', 'lib', `${run('uname', ['-m']).trim()}-linux-gnu`);
    if (!starts(join(staged, program), { LD_LIBRARY_PATH: join(staged, libraries) })) {
      throw new NotTried(`${tool} does not start with the libraries of this machine`);
    }
    const script = `#!/bin/sh\nLD_LIBRARY_PATH='${join(FOLDER, libraries)}' exec '${join(FOLDER, program)}' "$@"\n`;
    writeFileSync(join(bin, tool), script);
    chmodSync(join(bin, tool), 0o755);
  }
}

/**
 * @param {string} program
 * @param {NodeJS.ProcessEnv} env
 */
function starts(program, env) {
  return spawnSync(program, ['--version'], { env: { ...process.env, ...env } }).status === 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    const folder = bring();
    console.log(`${run(join(folder, 'qemu-io'), ['--version']).split('\n')[0] ?? ''} in ${folder}`);
  } catch (error) {
    if (!(error instanceof NotTried)) throw error;
    console.log(`QEMU 10.0 was not tried, only its recording: ${error.message}`);
  }
}
