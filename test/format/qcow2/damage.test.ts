/**
 * Random damage of every structure: a check and both repairs say what `qemu-img check` says and
 * leave what it leaves, and what can be repaired QEMU finds clean afterwards, with all guest data
 * that could be reached.
 */

import { isDeepStrictEqual } from 'node:util';

import { beforeAll, describe, expect, it } from 'vitest';
import { Qcow2BenchError } from '../../../src/core/error.ts';
import { MemoryStorage } from '../../../src/device/memory-storage.ts';
import { checkImageFile } from '../../../src/image/check-image.ts';
import { amount } from '../../amount.ts';
import { CHECK, QemuDirectory } from '../qemu-directory.ts';
import { reasonToSkip } from '../system-tools.ts';
import { BASE_COUNT, makeDamageBases, type DamageBase } from './damage-bases.ts';
import { damaged } from './damage.ts';
import { isSame, readableClusters } from './readable-clusters.ts';
import { checkedAs, qemuChecks, type Checked, type QemuCheck } from './qemu-checks.ts';

const SEEDS = amount({ everyday: 8, full: 30 }) * BASE_COUNT;
/**
 * Bytes of a repaired file that is shown to QEMU: what it makes of a larger one hangs on memory and
 * file system.
 */
const LARGEST_FILE = 64 * 1024 * 1024;
/** Images of one shell of QEMU's. */
const BATCH = 15;
/** Shells at a time. */
const WORKERS = 2;
/**
 * The last byte of the incompatible features: its lowest bits mark an unclean close and corruption.
 */
const MARKS_AT = 79;
const MARKS = 3;
const noQemu = reasonToSkip('qemu-img', 'qemu-io');

describe.skipIf(noQemu !== undefined)(`random damage${noQemu === undefined ? '' : ` (${noQemu})`}`, () => {
  // One for each shell: a repair locks the data file of its image.
  const directories = Array.from({ length: WORKERS }, () => new QemuDirectory());
  let bases: readonly DamageBase[] = [];

  beforeAll(() => {
    bases = makeDamageBases(directories[0] as QemuDirectory);
    for (const { dataFile } of bases) {
      if (dataFile !== undefined) for (const qemu of directories) qemu.put(dataFile.name, dataFile.bytes);
    }
  });

  it(`is counted and repaired as by QEMU, and is clean then (${String(SEEDS)} seeds)`, async () => {
    let next = 0;
    const outcomes: Record<Outcome, number> = { equal: 0, refused: 0, repaired: 0, better: 0, lengthened: 0 };
    const differences: string[] = [];
    const work = async (qemu: QemuDirectory): Promise<void> => {
      while (next < SEEDS) {
        const seeds = Array.from({ length: Math.min(BATCH, SEEDS - next) }, () => next++);
        const trials = seeds.map((seed) => new Trial(seed, bases[seed % bases.length] as DamageBase));
        for (const trial of trials) await trial.run();
        const checks = trials.flatMap((trial) => trial.layOut(qemu));
        const answers = (await qemuChecks(qemu.path, checks)).values();
        for (const trial of trials) {
          trial.take(answers);
          outcomes[await trial.judge(qemu, differences)]++;
          trial.clear(qemu);
        }
      }
    };
    await Promise.all(directories.map(work));
    expect(differences).toEqual([]);
    // Most damage can be repaired, and nearly none is refused: otherwise this would prove little.
    expect(outcomes.repaired, JSON.stringify(outcomes)).toBeGreaterThan(SEEDS / 3);
    expect(outcomes.refused, JSON.stringify(outcomes)).toBeLessThan(SEEDS / 6);
    expect(outcomes.better, JSON.stringify(outcomes)).toBeLessThan(SEEDS / 20);
    expect(outcomes.lengthened, JSON.stringify(outcomes)).toBeLessThan(SEEDS / 10);
  });
});

/** What a check of ours came to: a refusal by name, or a report. */
type Ours =
  | { readonly refused: string }
  | {
      readonly checked: Checked;
      readonly after: Bytes | undefined;
      /**
       * The file got its lost tail, or the rest of a table, back (`lost-tail`, `table-cut-off`).
       */
      readonly isLengthened: boolean;
      /**
       * How many snapshots were removed (`broken-snapshot`); QEMU keeps them, each as a corruption.
       */
      readonly removedSnapshots: number;
      /** Tables that the end of the file cuts off: QEMU does not count them (`table-cut-off`). */
      readonly cutOff: number;
    };
type Bytes = Uint8Array<ArrayBuffer>;

const SCOPES = ['none', 'leaks', 'all'] as const;
type Scope = (typeof SCOPES)[number];
/**
 * `better`: QEMU gives up where this repairs all or a part. `lengthened`: entries led past the end
 * (`lost-tail`).
 */
type Outcome = 'equal' | 'refused' | 'repaired' | 'better' | 'lengthened';

/** One damaged image through a check and both repairs, ours and QEMU's. */
class Trial {
  readonly #base: DamageBase;
  readonly #bytes: Bytes;
  readonly #name: string;
  readonly #told: string;
  readonly #ours = new Map<Scope, Ours>();
  readonly #theirs = new Map<string, Checked>();
  #asked: readonly QemuCheck[] = [];

  constructor(seed: number, base: DamageBase) {
    const { bytes, what } = damaged(base.bytes, seed);
    this.#base = base;
    this.#bytes = bytes;
    this.#name = String(seed);
    this.#told = `seed ${String(seed)} (${what.join('; ')})`;
  }

  async run(): Promise<void> {
    for (const scope of SCOPES) this.#ours.set(scope, await this.#check(scope));
  }

  async #check(scope: Scope): Promise<Ours> {
    const storage = new MemoryStorage();
    storage.create('disk').write(0, this.#bytes, 'data');
    const repair = scope === 'none' ? undefined : scope;
    let cutOff = 0;
    const onDetail = (kind: string, text: string): void => {
      if (kind === 'corruption' && text.includes(', but the file ends at ')) cutOff++;
    };
    try {
      const { report } = await checkImageFile({ storage, name: 'disk', format: 'qcow2', repair, onDetail });
      const device = storage.open('disk', { readOnly: true });
      return {
        checked: checkedAs(report),
        after: device.size() > LARGEST_FILE ? undefined : device.contents(),
        isLengthened: report.messages.some((message) =>
          /^Repairing the (?:length of the file|(?:L1|refcount|snapshot) table)/.test(message),
        ),
        cutOff,
        removedSnapshots: report.messages.filter((message) =>
          /^Repairing snapshot .*: removing it$/.test(message),
        ).length,
      };
    } catch (error) {
      if (!(error instanceof Qcow2BenchError)) throw new Error(this.#told, { cause: error });
      return { refused: error.code };
    }
  }

  /** Writes the files that QEMU is to check; answers the checks. */
  layOut(qemu: QemuDirectory): readonly QemuCheck[] {
    const checks: QemuCheck[] = [];
    const put = (what: string, bytes: Bytes, repair?: Exclude<Scope, 'none'>): void => {
      const name = `${this.#name}-${what}`;
      qemu.put(name, bytes);
      checks.push(repair === undefined ? { name } : { name, repair });
    };
    put('none', this.#bytes);
    for (const scope of ['leaks', 'all'] as const) {
      const ours = this.#ours.get(scope);
      // A file that outgrows all bounds with ours does so with theirs.
      if (ours === undefined || ('checked' in ours && ours.after === undefined)) continue;
      put(scope, this.#bytes, scope);
      if ('after' in ours && ours.after !== undefined) put(`after-${scope}`, ours.after);
    }
    this.#asked = checks;
    return checks;
  }

  take(answers: Iterator<Checked>): void {
    for (const { name } of this.#asked) this.#theirs.set(name, answers.next().value as Checked);
  }

  clear(qemu: QemuDirectory): void {
    for (const { name } of this.#asked) qemu.delete(name);
  }

  /** Adds what differs to `differences`. */
  async judge(qemu: QemuDirectory, differences: string[]): Promise<Outcome> {
    const differs = (what: string): void => {
      differences.push(`${this.#told}: ${what}`);
    };
    const outcomes = SCOPES.map((scope) => this.#judgeScope(scope, differs));
    const outcome = outcomes.find((each) => each !== 'equal') ?? 'equal';
    const all = this.#ours.get('all');
    if (all === undefined || 'refused' in all || all.after === undefined || !isGood(all.checked)) {
      return outcome;
    }
    if (!all.isLengthened && all.removedSnapshots === 0) this.#holdMarks(all.after, qemu, differs);
    await this.#holdData(all.after, differs);
    return outcome === 'equal' ? 'repaired' : outcome;
  }

  #judgeScope(scope: Scope, differs: (what: string) => void): Outcome {
    const ours = this.#ours.get(scope);
    const theirs = this.#theirs.get(`${this.#name}-${scope}`);
    if (ours === undefined || theirs === undefined) return 'equal';
    const isComparable = scope === 'none' || !this.#base.losesSnapshots;
    const isEnded = theirs.counts === undefined && theirs.status === CHECK.failed;
    if ('refused' in ours) {
      // What QEMU does not open, or gives up in the middle of.
      if (isComparable && !isEnded) {
        differs(`${scope}: ${ours.refused}, QEMU ${told(theirs)}`);
      }
      return 'refused';
    }
    if (scope !== 'none') {
      const after = this.#theirs.get(`${this.#name}-after-${scope}`);
      // A repair of leaks leaves such a table as it is.
      const left = after === undefined || scope === 'all' ? after : withCutOff(after, ours.cutOff);
      if (!isDeepStrictEqual(leftBy(left), leftBy(ours.checked))) {
        differs(`${scope}: ${told(ours.checked)}, and then QEMU finds ${told(after)}`);
      }
    }
    if (!isComparable) return 'equal';
    if (scope === 'all' && isEnded && ours.checked.status !== CHECK.failed) return 'better';
    if (ours.isLengthened) {
      if (corruptionsOf(ours.checked) > corruptionsOf(theirs)) {
        differs(`${scope}: ${told(ours.checked)}, worse than QEMU ${told(theirs)}`);
      }
      return 'lengthened';
    }
    const expected = withCutOff(withoutSnapshots(theirs, ours.removedSnapshots), ours.cutOff);
    const isEqual = isEnded
      ? ours.checked.status === theirs.status
      : isDeepStrictEqual(ours.checked, expected);
    if (!isEqual) differs(`${scope}: ${told(ours.checked)}, QEMU ${told(theirs)}`);
    return 'equal';
  }

  /**
   * A repair that ends clean takes the marks away; where only a second look finds the image clean
   * they stay, as with QEMU. Where a part could not be checked at first, QEMU leaves them although
   * nothing is left to repair.
   */
  #holdMarks(after: Bytes, qemu: QemuDirectory, differs: (what: string) => void): void {
    if (this.#base.losesSnapshots || this.#theirs.get(`${this.#name}-all`)?.counts === undefined) return;
    const ours = (after[MARKS_AT] as number) & MARKS;
    const theirs = (qemu.get(`${this.#name}-all`)[MARKS_AT] as number) & MARKS;
    const none = this.#ours.get('none');
    const hadUnchecked = none !== undefined && 'checked' in none && none.checked.status === CHECK.failed;
    if (ours !== theirs && !(hadUnchecked && ours === 0)) {
      differs(`the marks ${String(ours)}, QEMU ${String(theirs)}`);
    }
  }

  /** What the guest wrote and could reach before the repair it can reach after it. */
  async #holdData(after: Bytes, differs: (what: string) => void): Promise<void> {
    const { bytes, dataFile } = this.#base;
    const sound = await readableClusters(bytes, dataFile?.bytes);
    const before = await readableClusters(this.#bytes, dataFile?.bytes);
    const kept = await readableClusters(after, dataFile?.bytes);
    for (const [guestOffset, content] of before) {
      // Damage may show a guest metadata, or another's cluster: that need not stay.
      if (!isSame(sound.get(guestOffset), content)) continue;
      if (!isSame(kept.get(guestOffset), content)) differs(`guest data at ${String(guestOffset)} is lost`);
    }
  }
}

/** What QEMU would have found, had it removed so many broken snapshots. */
function withoutSnapshots(theirs: Checked, removed: number): Checked {
  const { counts } = theirs;
  if (removed === 0 || counts === undefined) return theirs;
  const corruptions = counts.corruptions - removed;
  const isClean = corruptions === 0 && counts.checkErrors === 0;
  return {
    status: isClean ? (counts.leaks > 0 ? CHECK.leaks : CHECK.clean) : theirs.status,
    counts: { ...counts, corruptions, corruptionsFixed: counts.corruptionsFixed + removed },
  };
}

/** What QEMU would have found, had it counted so many tables that are cut off. */
function withCutOff(theirs: Checked, cutOff: number): Checked {
  const { status, counts } = theirs;
  if (cutOff === 0 || counts === undefined) return theirs;
  return {
    status: status === CHECK.failed ? status : CHECK.corrupt,
    counts: { ...counts, corruptions: counts.corruptions + cutOff },
  };
}

function isGood({ counts }: Checked): boolean {
  return counts !== undefined && counts.corruptions + counts.checkErrors === 0;
}

function corruptionsOf({ counts }: Checked): number {
  return counts === undefined ? Infinity : counts.corruptions + counts.checkErrors;
}

/** What is left on an image, whatever was repaired before, or could not be. */
function leftBy(checked: Checked | undefined): unknown {
  if (checked?.counts === undefined) return undefined;
  return { ...checked.counts, checkErrors: 0, corruptionsFixed: 0, leaksFixed: 0 };
}

function told(checked: Checked | undefined): string {
  return JSON.stringify(checked);
}
