/**
 * Commits of this program in folders of their own, ready to run.
 *
 * Invariants:
 * - Nothing of the user's repository is changed: each commit is checked out in a clone that shares
 *   its objects, and not in a worktree, of which git would keep a record.
 * - The folders are gone when this is disposed of, and when the program ends; after a kill the next
 *   run removes them.
 */

import { join } from 'node:path';

import { Qcow2BenchError } from '../../core/error.ts';
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  temporaryDirectory,
} from '../../core/host-fs.ts';
import { removeLeftovers, temporaryPrefix } from '../../device/temporary-file.ts';
import { runProgram, type ProgramOutcome } from '../../peer/run-program.ts';

/** Within a clone of this program. */
const PROGRAM = 'src/cli/main.ts';
/** With the folder of installed packages, from which a checkout takes them. */
const LOCK_FILE = 'package-lock.json';

export interface Commit {
  readonly id: string;
  /** `1a2b3c4d (compare: names the first request)`. */
  readonly title: string;
}

export class Checkouts implements Disposable {
  readonly #root: string;
  readonly #signal: AbortSignal;
  readonly #folder: string;
  #made = 0;

  private constructor(root: string, signal: AbortSignal) {
    this.#root = root;
    this.#signal = signal;
    removeLeftovers(temporaryDirectory());
    this.#folder = mkdtempSync(join(temporaryDirectory(), `${temporaryPrefix()}-commits-`));
    process.on('exit', this.#remove);
  }

  /**
   * Of the clone that contains `directory`.
   *
   * @throws Qcow2BenchError `git-failed` outside of a repository, or `not-a-clone`.
   */
  static async open(directory: string, signal: AbortSignal): Promise<Checkouts> {
    const root = (await git(directory, ['rev-parse', '--show-toplevel'], signal)).trim();
    if (!existsSync(join(root, PROGRAM))) {
      const message = 'is no clone of qcow2-bench: --against and --bisect run commits of the program itself';
      throw new Qcow2BenchError('not-a-clone', message, { path: root });
    }
    return new Checkouts(root, signal);
  }

  /** @throws Qcow2BenchError `git-failed` if the commit is unknown. */
  async commit(name: string): Promise<Commit> {
    const text = await this.#git(['log', '-1', '--format=%H %h (%s)', '--end-of-options', name, '--']);
    const [id = '', ...title] = text.trim().split(' ');
    return { id, title: title.join(' ') };
  }

  /** The newest common ancestor. @throws Qcow2BenchError `git-failed`. */
  async mergeBase(one: Commit, other: Commit): Promise<Commit> {
    return this.commit((await this.#git(['merge-base', one.id, other.id])).trim());
  }

  /** The commits after `good` up to `bad`, oldest first, along first parents. */
  async between(good: Commit, bad: Commit): Promise<readonly Commit[]> {
    const range = `${good.id}..${bad.id}`;
    const text = await this.#git(['log', '--reverse', '--first-parent', '--format=%H %h (%s)', range, '--']);
    return text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => ({ id: line.slice(0, line.indexOf(' ')), title: line.slice(line.indexOf(' ') + 1) }));
  }

  /** Whether files that belong to the clone differ from `HEAD`. */
  async isChanged(): Promise<boolean> {
    return (await this.#git(['status', '--porcelain', '--untracked-files=no'])) !== '';
  }

  /**
   * The commit in a folder of its own, with its packages.
   *
   * @throws Qcow2BenchError `git-failed`, `not-a-clone`, or `install-failed`.
   */
  async make({ id, title }: Commit): Promise<Checkout> {
    const folder = join(this.#folder, String(this.#made++));
    await this.#git(['clone', '--quiet', '--shared', '--no-checkout', '--', this.#root, folder]);
    await git(folder, ['checkout', '--quiet', '--detach', id], this.#signal);
    if (!existsSync(join(folder, PROGRAM))) {
      throw new Qcow2BenchError('not-a-clone', `${title} has no ${PROGRAM}: name a later commit`);
    }
    await this.#install(folder);
    return new Checkout(folder, this.#signal);
  }

  [Symbol.dispose](): void {
    process.off('exit', this.#remove);
    this.#remove();
  }

  readonly #remove = (): void => {
    rmSync(this.#folder, { recursive: true, force: true });
  };

  async #install(folder: string): Promise<void> {
    const [own, other] = [this.#root, folder].map((place) => readFileSync(join(place, LOCK_FILE), 'utf8'));
    const packages = join(this.#root, 'node_modules');
    if (own === other && existsSync(packages)) {
      symlinkSync(packages, join(folder, 'node_modules'));
      return;
    }
    const { exitCode, stderr } = await runProgram('npm', ['ci', '--no-audit', '--no-fund'], {
      directory: folder,
      signal: this.#signal,
    });
    if (exitCode === 0) return;
    const message = `npm ci failed: ${lastLine(stderr)}`;
    throw new Qcow2BenchError('install-failed', message, { path: folder });
  }

  #git(words: readonly string[]): Promise<string> {
    return git(this.#root, words, this.#signal);
  }
}

/** A commit that can be run. */
export class Checkout {
  readonly folder: string;
  readonly #signal: AbortSignal;

  constructor(folder: string, signal: AbortSignal) {
    this.folder = folder;
    this.#signal = signal;
  }

  /** Runs the program of this commit, in the folder that the user is in. */
  run(words: readonly string[]): Promise<ProgramOutcome> {
    return runProgram(process.execPath, [join(this.folder, PROGRAM), ...words], { signal: this.#signal });
  }
}

async function git(directory: string, words: readonly string[], signal: AbortSignal): Promise<string> {
  const { exitCode, stdout, stderr } = await runProgram('git', words, { directory, signal });
  if (exitCode === 0) return stdout;
  const isShallow = /merge-base|log/.test(words[0] ?? '') && stderr.trim() === '';
  const advice = isShallow ? ': no common history; fetch all of it (actions/checkout: fetch-depth: 0)' : '';
  throw new Qcow2BenchError('git-failed', `git ${words[0] ?? ''}: ${lastLine(stderr)}${advice}`);
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1) ?? '';
}
