/**
 * A second judge of states, which shares no code with the engines: QEMU opens the files, reads the
 * whole disk and each snapshot, checks and repairs.
 */

import { hex } from '../core/error.ts';
import { SECTOR_SIZE } from '../core/alignment.ts';
import type { Storage } from '../device/storage.ts';
import { FORMAT_FACTS } from '../format/formats.ts';
import type { Expectation } from './expectation.ts';
import type { Finding, Moment } from './findings.ts';
import type { Inspector } from './inspect.ts';
import { PAGE_BYTES, pageNumber, pagePlace, tokensOf, ZERO_TOKEN, type Page } from './pages.ts';
import type { StateView } from './state-view.ts';

/** Runs `qemu-img` where the files of the storage are. */
export type RunQemuImg = (
  args: readonly string[],
) => Promise<{ readonly exitCode: number | undefined; readonly stdout: string; readonly stderr: string }>;

export interface QemuPlace {
  readonly storage: Storage;
  readonly qemuImg: RunQemuImg;
}

const READ_BYTES = 0x10_0000;
const RAW = 'read-by-qemu.raw';
/** Exit codes of `qemu-img check`. */
const CLEAN = 0;
const LEAKS = 3;
const LOST_TAIL = 'region exceeding the end of the file';

/** What QEMU finds wrong with a state, before and after the repair of the engines, and after its own. */
export async function judgeWithQemu(
  view: StateView,
  options: QemuPlace & { readonly inspector: Inspector; readonly expectation: Expectation },
): Promise<readonly Finding[]> {
  const { inspector, storage } = options;
  const { format, refcounts, files, constants } = inspector.subject;
  const { isInUse, hasCheck } = FORMAT_FACTS[format];
  const isMarked = isInUse?.(view.page(pageNumber(0, 0)).bytes) ?? false;
  const hasRefcounts = refcounts !== undefined;
  const numbers = new Set([...view.epoch.base.pages.keys(), ...view.touched.keys()]);
  const put = (): void => {
    for (const [index, { name }] of files.entries()) writeFile(storage, name, view, { index, numbers });
  };
  const run = new QemuRun(view.epoch.at, options);
  try {
    for (const [name, bytes] of constants) {
      const device = storage.create(name, { overwrite: true });
      await device.write(0, bytes, 'data');
      await device.close();
    }
    put();
    // Marked, one without refcounts may refuse to read clusters that were being written.
    if (!isMarked || hasRefcounts) await run.read('before-repair');
    if (!hasCheck) return run.findings;
    if (!isMarked) await run.check([], [CLEAN, LEAKS], 'before-repair');
    // Without refcounts no cluster can be freed.
    const good = isMarked && hasRefcounts ? [CLEAN] : [CLEAN, LEAKS];
    if (await run.check(['-r', 'all'], good, 'after-repair')) await run.read('after-repair');

    const repaired = await inspector.recover(view, 'opening');
    for (const number of repaired.written.keys()) numbers.add(number);
    const after = {
      page: (number: number) => ({ bytes: repaired.bytes(number) }),
      size: repaired.size.bind(repaired),
    };
    for (const [index, { name }] of files.entries()) writeFile(storage, name, after, { index, numbers });
    await run.check([], good, 'after-repair');
    await run.read('after-repair');
    return run.findings;
  } finally {
    for (const name of [...files.map((file) => file.name), ...constants.keys(), RAW]) {
      if (storage.exists(name)) storage.remove(name);
    }
  }
}

function writeFile(
  storage: Storage,
  name: string,
  files: { readonly page: (number: number) => Pick<Page, 'bytes'>; readonly size: (file: number) => number },
  { index, numbers }: { readonly index: number; readonly numbers: ReadonlySet<number> },
): void {
  const device = storage.create(name, { overwrite: true });
  const size = files.size(index);
  void device.truncate(size, 'data', undefined);
  for (const number of numbers) {
    const { file, offset } = pagePlace(number);
    if (file !== index || offset >= size) continue;
    void device.write(
      offset,
      files.page(number).bytes.subarray(0, Math.min(PAGE_BYTES, size - offset)),
      'data',
    );
  }
  void device.close();
}

class QemuRun {
  readonly findings: Finding[] = [];
  readonly #at: number;
  readonly #options: Parameters<typeof judgeWithQemu>[1];

  constructor(at: number, options: Parameters<typeof judgeWithQemu>[1]) {
    this.#at = at;
    this.#options = options;
  }

  /** @returns whether the image can be judged further */
  async check(words: readonly string[], good: readonly number[], moment: Moment): Promise<boolean> {
    const { inspector, qemuImg } = this.#options;
    const { subject } = inspector;
    const all = ['check', '-f', subject.format, ...words, subject.files[0].name];
    const { exitCode, stdout, stderr } = await qemuImg(all);
    if (exitCode !== undefined && good.includes(exitCode)) return true;
    // A defect of QEMU's repair: docs/qemu-rules.md, `lost-tail`.
    if (words.length > 0 && (stdout + stderr).includes(LOST_TAIL)) return false;
    const [line = ''] = (stderr + stdout).split('\n');
    this.#note(moment, `qemu-img ${all.join(' ')} ends with ${String(exitCode)}: ${line}`);
    return false;
  }

  /** Reads the disk and each snapshot that has to be there. */
  async read(moment: Moment): Promise<void> {
    const { expectation } = this.#options;
    for (const snapshot of [undefined, ...expectation.snapshotsAt(this.#at).must]) {
      await this.#readOne(moment, snapshot);
    }
  }

  async #readOne(moment: Moment, snapshot: string | undefined): Promise<void> {
    const { inspector, qemuImg, expectation } = this.#options;
    const { subject } = inspector;
    const from = snapshot === undefined ? [] : ['-l', `snapshot.name=${snapshot}`];
    const words = ['convert', '-f', subject.format, '-O', 'raw', ...from, subject.files[0].name, RAW];
    const { exitCode, stderr } = await qemuImg(words);
    if (exitCode !== 0) {
      this.#note(moment, `qemu-img ${words.join(' ')} fails: ${stderr.split('\n', 1).join('')}`);
      return;
    }
    const at = this.#at;
    const { size, contents } = await this.#contents();
    if (snapshot === undefined && !expectation.sizesAt(at).includes(size)) {
      this.#note(moment, `QEMU reads a disk of ${String(size)} bytes`);
    }
    for (const sector of new Set([...expectation.known, ...contents.keys()])) {
      if (sector * SECTOR_SIZE >= size) continue;
      const token = contents.get(sector) ?? ZERO_TOKEN;
      if (expectation.judge(sector, token, at, snapshot) !== 'wrong') continue;
      const what = snapshot === undefined ? '' : ` of snapshot ${snapshot}`;
      this.#note(moment, `QEMU reads something else at guest offset ${hex(sector * SECTOR_SIZE)}${what}`);
    }
  }

  async #contents(): Promise<{ readonly size: number; readonly contents: ReadonlyMap<number, number> }> {
    const device = this.#options.storage.open(RAW, { readOnly: true });
    const contents = new Map<number, number>();
    const size = device.size();
    for (let at = 0; at < size;) {
      const { isData, length } = device.extentAt(at);
      const end = Math.min(at + length, size);
      for (; isData && at < end; at += READ_BYTES) {
        const bytes = new Uint8Array(Math.min(READ_BYTES, end - at));
        await device.read(at, bytes, 'data');
        for (const [index, token] of tokensOf(bytes).entries()) {
          if (token !== ZERO_TOKEN) contents.set(at / SECTOR_SIZE + index, token);
        }
      }
      at = end;
    }
    await device.close();
    return { size, contents };
  }

  #note(moment: Moment, text: string): void {
    this.findings.push({ kind: 'qemu-disagrees', moment, text });
  }
}
