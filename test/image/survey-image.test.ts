/**
 * While an image of the user is surveyed and copied, no other program writes to it, or to a file
 * that it consists of.
 */

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

import { HostFile } from '../../src/device/host-file.ts';
import { loadOfdLocks } from '../../src/device/ofd-lock.ts';
import type { Format } from '../../src/format/disk-image.ts';
import { createImageFile } from '../../src/image/create-image.ts';
import { hostImage } from '../../src/image/host-image.ts';
import { surveyImage, type ImageSurvey } from '../../src/image/survey-image.ts';
import { codeOf } from '../device/error-code.ts';
import { rejectionCodeOf } from '../format/rejection.ts';
import { reasonToSkip, runTool, tryTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { startQemuNbd } from './qemu-nbd.ts';

const MIB = 1024 * 1024;
const loaded = loadOfdLocks();
const skip = loaded.ok ? undefined : loaded.reason;
const skipQemu = skip ?? reasonToSkip('qemu-img', 'qemu-io', 'qemu-nbd');

const directory = testDirectory();

const survey = (name: string, format: Format): Promise<ImageSurvey> =>
  surveyImage({ path: join(directory, name), format, backing: {} });

/**
 * What becomes of a program that opens the raw file to write to it: the least that any writer
 * locks.
 */
const writerOf = (name: string): string | undefined =>
  codeOf(() => {
    const lock = { kind: 'user', contents: 'raw', readOnly: false } as const;
    new HostFile(join(directory, name), { label: 'image', lock }).close();
  });

describe.skipIf(skip !== undefined)(
  `an image that is copied${skip === undefined ? '' : ` (${skip})`}`,
  () => {
    test.each<[string, Format]>([
      ['disk.raw', 'raw'],
      ['disk.qcow2', 'qcow2'],
    ])(
      '%s is written to by no other until its survey is disposed of, and not surveyed beside a writer',
      async (name, format) => {
        if (format === 'raw') writeFileSync(join(directory, name), new Uint8Array(MIB));
        else await createImageFile({ ...hostImage(join(directory, name)), format, virtualSize: MIB });
        {
          await using held = await survey(name, format);
          expect(held.found.virtualSize).toBe(MIB);
          expect(writerOf(name)).toBe('image-locked');
        }
        expect(writerOf(name)).toBeUndefined();
        const lock = { kind: 'user', contents: 'raw', readOnly: false } as const;
        using writer = new HostFile(join(directory, name), { label: 'image', lock });
        expect(writer.size()).toBeGreaterThan(0);
        expect(await rejectionCodeOf(() => survey(name, format))).toBe('image-locked');
      },
    );
  },
);

describe.skipIf(skipQemu !== undefined)(
  `beside QEMU${skipQemu === undefined ? '' : ` (${skipQemu})`}`,
  () => {
    const img = (...words: readonly string[]): string => runTool('qemu-img', words, directory);
    /**
     * All files of the image that is surveyed: itself, its data file, and those behind it with
     * theirs.
     */
    const FILES: readonly (readonly [string, Format])[] = [
      ['top.qcow2', 'qcow2'],
      ['top.data', 'raw'],
      ['mid.qcow2', 'qcow2'],
      ['mid.data', 'raw'],
      ['base.raw', 'raw'],
    ];

    function makeChain(): void {
      img('create', '-q', '-f', 'raw', 'base.raw', '1M');
      for (const [name, behind, format] of [
        ['mid', 'base.raw', 'raw'],
        ['top', 'mid.qcow2', 'qcow2'],
      ] as const) {
        rmSync(join(directory, `${name}.data`), { force: true });
        const backing = ['-b', behind, '-F', format];
        img('create', '-q', '-f', 'qcow2', '-o', `data_file=${name}.data`, ...backing, `${name}.qcow2`);
      }
    }

    const qemuWrites = (
      name: string,
      format: Format,
    ): { readonly status: number | null; readonly said: string } => {
      const words = ['-f', format, '-c', 'write -P 1 0 64k', name];
      const { status, stdout, stderr } = tryTool('qemu-io', words, directory);
      return { status, said: stdout + stderr };
    };

    test('its writers are refused by every file of a chain, until the survey is disposed of', async () => {
      makeChain();
      const held = await survey('top.qcow2', 'qcow2');
      try {
        for (const [name, format] of FILES) {
          expect(qemuWrites(name, format)).toMatchObject({
            status: 1,
            said: expect.stringMatching(/lock/) as string,
          });
        }
      } finally {
        await held[Symbol.asyncDispose]();
      }
      for (const [name, format] of FILES) expect(qemuWrites(name, format)).toMatchObject({ status: 0 });
    });

    test.each(FILES)('%s being written by it, the image is not surveyed', async (name, format) => {
      makeChain();
      const socket = join(directory, `${name}.socket`);
      const server = await startQemuNbd(socket, ['-f', format, name], directory);
      if (typeof server === 'string') throw new Error(server);
      expect(await rejectionCodeOf(() => survey('top.qcow2', 'qcow2'))).toBe('image-locked');
      await server.end();
      expect(
        await rejectionCodeOf(async () => (await survey('top.qcow2', 'qcow2'))[Symbol.asyncDispose]()),
      ).toBeUndefined();
    });
  },
);
