/**
 * What `qemu-img check` says of a damaged image, held against our own verdict: clean or not clean.
 *
 * Where the two may differ is written down in `STRICTER`: images that are refused here by name and
 * that QEMU takes.
 */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { reasonToSkip } from '../system-tools.ts';
import type { DamagedImage } from './fuzzer.ts';
import type { Verdict } from './promises.ts';

/** One image in so many is shown to QEMU. */
const ONE_IN = 25;
/** QEMU takes memory for what an image claims: it is not asked for longer than this. */
const PATIENCE_MS = 10_000;

/** Codes of refusals that QEMU does not have, with the reason. */
const STRICTER: ReadonlyMap<string, string> = new Map([
  ['qcow2-offset-too-large', 'a disk of 2^53 bytes or more'],
]);

export class QemuOpinion {
  asked = 0;
  #seen = 0;
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /**
   * Undefined where there is no qemu-img.
   *
   * @param folder where the images that QEMU is shown lie
   */
  static make(folder: string): QemuOpinion | undefined {
    return reasonToSkip('qemu-img') === undefined ? new QemuOpinion(folder) : undefined;
  }

  /** Fails where one calls the image clean and the other does not. */
  async hold({ base, bytes }: DamagedImage, verdict: Verdict): Promise<void> {
    // QEMU opens the backing files of an image before it checks it.
    if (base.format === 'btree') return;
    if (this.#seen++ % ONE_IN !== 0 || base.beside.size > 1 || base.name.includes('backing')) return;
    const status = await this.#check(base.format, bytes);
    if (status === undefined) return;
    this.asked++;
    const theirs = status === 0 ? 'clean' : 'not clean';
    if ('refused' in verdict) {
      if (!STRICTER.has(verdict.refused)) {
        assert.equal('not clean', theirs, `refused here: ${verdict.refused}`);
      }
      return;
    }
    const { corruptions, leaks, checkErrors } = verdict;
    const ours = corruptions + leaks + checkErrors === 0 ? 'clean' : 'not clean';
    assert.equal(ours, theirs, `qemu-img check exits with ${String(status)}`);
  }

  /** The exit code; undefined if it took too long. */
  #check(format: string, bytes: Uint8Array): Promise<number | undefined> {
    const path = join(this.#folder, 'disk');
    writeFileSync(path, bytes);
    return new Promise((resolve, reject) => {
      const options = { stdio: 'ignore', timeout: PATIENCE_MS } as const;
      const child = spawn('qemu-img', ['check', '-q', '-f', format, path], options);
      child.once('error', reject);
      child.once('close', (code) => resolve(code ?? undefined));
    });
  }
}
