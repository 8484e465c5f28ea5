/**
 * A repair that is stopped at any of its steps, as by Ctrl-C, loses nothing: another repair comes
 * to the same end.
 */

import { describe, expect, it } from 'vitest';

import { Qcow2BenchError } from '../../../src/core/error.ts';
import { MemoryStorage } from '../../../src/device/memory-storage.ts';
import type { CheckReport } from '../../../src/format/check-report.ts';
import { checkImageFile } from '../../../src/image/check-image.ts';
import { amount } from '../../amount.ts';
import { CHECK, QemuDirectory } from '../qemu-directory.ts';
import { reasonToSkip } from '../system-tools.ts';
import { BASE_COUNT, makeDamageBases, type DamageBase } from './damage-bases.ts';
import { damaged } from './damage.ts';
import { qemuChecks } from './qemu-checks.ts';
import { isSame, readableClusters } from './readable-clusters.ts';

const SEEDS = amount({ everyday: 1, full: 4 }) * BASE_COUNT;
const LARGEST_FILE = 4 * 1024 * 1024;
const noQemu = reasonToSkip('qemu-img', 'qemu-io');

type Bytes = Uint8Array<ArrayBuffer>;

describe.skipIf(noQemu !== undefined)(`a stopped repair${noQemu === undefined ? '' : ` (${noQemu})`}`, () => {
  const qemu = new QemuDirectory();

  it(`can be taken up again, wherever it was stopped (${String(SEEDS)} seeds)`, async () => {
    const bases = makeDamageBases(qemu);
    let stops = 0;
    for (let seed = 0; seed < SEEDS; seed++) {
      const base = bases[seed % bases.length] as DamageBase;
      const { bytes, what } = damaged(base.bytes, seed);
      const told = `seed ${String(seed)} (${what.join('; ')})`;
      const whole = await repaired(bytes);
      if (whole === undefined || !isClean(whole.report)) continue;
      const data = await readableClusters(whole.bytes, base.dataFile?.bytes);
      const names: string[] = [];
      for (let step = 1; ; step++) {
        const left = await stoppedAt(bytes, step);
        if (left === undefined) break;
        stops++;
        const again = await repaired(left);
        expect(again !== undefined && isClean(again.report), `${told}, stopped at step ${String(step)}`).toBe(
          true,
        );
        if (again === undefined) continue;
        const kept = await readableClusters(again.bytes, base.dataFile?.bytes);
        for (const [guestOffset, content] of data) {
          expect(
            isSame(kept.get(guestOffset), content),
            `${told}, step ${String(step)}, at ${String(guestOffset)}`,
          ).toBe(true);
        }
        names.push(`${String(seed)}-${String(step)}`);
        qemu.put(names.at(-1) ?? '', again.bytes);
      }
      const answers = await qemuChecks(
        qemu.path,
        names.map((name) => ({ name })),
      );
      expect(
        answers.map(({ status }) => status),
        told,
      ).toEqual(names.map(() => CHECK.clean));
      for (const name of names) qemu.delete(name);
    }
    expect(stops).toBeGreaterThan(SEEDS);
  });
});

function isClean({ corruptions, leaks, checkErrors }: CheckReport): boolean {
  return corruptions + leaks + checkErrors === 0;
}

class Stopped extends Error {}

/**
 * The file left by a repair that is stopped when it reports its progress for the `step`th time;
 * undefined if it ends before.
 */
async function stoppedAt(bytes: Bytes, step: number): Promise<Bytes | undefined> {
  const storage = new MemoryStorage();
  storage.create('disk').write(0, bytes, 'data');
  let steps = 0;
  const onProgress = (): undefined | Promise<never> =>
    ++steps === step ? Promise.reject(new Stopped()) : undefined;
  try {
    await checkImageFile({ storage, name: 'disk', format: 'qcow2', repair: 'all', onProgress });
    return undefined;
  } catch (error) {
    if (!(error instanceof Stopped)) throw error;
    return storage.open('disk').contents();
  }
}

/** Undefined if the repair is given up, or makes the file long. */
async function repaired(
  bytes: Bytes,
): Promise<{ readonly report: CheckReport; readonly bytes: Bytes } | undefined> {
  const storage = new MemoryStorage();
  storage.create('disk').write(0, bytes, 'data');
  try {
    const { report } = await checkImageFile({ storage, name: 'disk', format: 'qcow2', repair: 'all' });
    const device = storage.open('disk');
    return device.size() > LARGEST_FILE ? undefined : { report, bytes: device.contents() };
  } catch (error) {
    if (!(error instanceof Qcow2BenchError)) throw error;
    return undefined;
  }
}
