/** `calibrate`: measures the device under a directory and writes a model of it. */

import { visibleText } from '../../core/visible-text.ts';
import { calibrate } from '../../bench/calibration.ts';
import type { DeviceModel } from '../../device/device-model.ts';
import { deviceModelText, writeDeviceModel } from '../../result/device-model-file.ts';
import { PROCESS_CLOCK } from '../sessions/clock.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { isStandardOutput, makes, OVERWRITE_OPTIONS } from '../options/file-uses.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { ImageDirectory } from '../files/image-directory.ts';
import { Interrupted, Interruption } from '../terminal/interruption.ts';
import { flag, inGroup, optional, preset } from '../options/option-kinds.ts';
import { text } from '../options/option-values.ts';
import { ProgressBar } from '../terminal/progress-bar.ts';
import { UsageError } from '../terminal/usage-error.ts';

const SCRATCH = 'calibration';
const SEED = 1;
const NAME = /^[\w.-]{1,64}$/;

export const calibrateCommand = defineCommand({
  options: (yargs) =>
    yargs
      .options(
        inGroup('Calibration:', {
          dir: optional('Directory on the device; needs 128 MiB of free space while it runs', text('dir')),
          out: preset('Model file to write', text('out'), 'device.json'),
          name: preset('Name of the model in results', text('name'), 'calibrated'),
          ...OVERWRITE_OPTIONS,
          json: flag('Also print the model as JSON'),
        }),
      )
      .epilogue(
        examples([
          ['calibrate --dir /srv/images', 'a few seconds of I/O, then device.json'],
          [
            'run --device file,model:device.json --dir /srv/images',
            'measured and predicted times side by side',
          ],
        ]),
      ),

  files: ({ out }) => makes('device model', '--out', out),

  run: async (args, terminal) => {
    const { dir, out, name, json } = args;
    if (dir === undefined) {
      throw new UsageError('--dir is required: name a directory on the device to measure');
    }
    if (!NAME.test(name)) {
      throw new UsageError(`--name: '${name}' is not 1 to 64 letters, digits, dots, hyphens or underscores`);
    }
    using directory = new ImageDirectory(dir);
    using interruption = new Interruption(terminal, () => undefined);
    using bar = new ProgressBar(terminal.errors);
    terminal.warn(`measuring the device under ${dir}: a few seconds of I/O`);
    try {
      const model = await calibrate({
        storage: directory.storage,
        fileName: `${directory.filePrefix}-${SCRATCH}`,
        clock: PROCESS_CLOCK,
        seed: SEED,
        name,
        signal: interruption.signal,
        progress: async (what, share) => {
          bar.show(what, share);
          // Lets a signal come in between.
          await new Promise((resolve) => setImmediate(resolve));
        },
      });
      bar.clear();
      writeDeviceModel(out, model);
      const answer = json ? deviceModelText(model).trimEnd() : summaryOf(model, out);
      if (isStandardOutput(out)) terminal.warn(answer);
      else terminal.print(answer);
      return EXIT.good;
    } catch (error) {
      if (error instanceof Interrupted) return EXIT.interrupted;
      throw error;
    }
  },
});

function summaryOf(model: DeviceModel, out: string): string {
  const { buffered, direct } = model;
  const us = (ns: number): string => `${(ns / 1000).toFixed(1)} µs`.padStart(12);
  const line = (what: string, pick: (costs: DeviceModel['buffered']) => number): string =>
    `  ${what.padEnd(34)}${us(pick(buffered))}${us(pick(direct))}`;
  return [
    `${model.name}: ${model.description}`,
    '',
    `  ${''.padEnd(34)}${'page cache'.padStart(12)}${'O_DIRECT'.padStart(12)}`,
    line('read 4 KiB', ({ read }) => read.baseNs + 4 * read.nsPerKiB),
    line('write 4 KiB', ({ write }) => write.baseNs + 4 * write.nsPerKiB),
    line('write 64 KiB', ({ write }) => write.baseNs + 64 * write.nsPerKiB),
    line('zero-range', ({ zeroRange }) => zeroRange.baseNs),
    line('sync after an overwrite of 4 KiB', ({ sync }) => sync.baseNs + 4 * sync.nsPerKiB + sync.extentNs),
    line('… extra if it allocated', ({ sync }) => sync.allocationNs),
    '',
    visibleText(`Model  ${out}; use it as --device model:${out}`),
  ].join('\n');
}
