/**
 * How well a calibrated model foretells the times of real files: 20 cells, measured and predicted
 * in one run.
 */

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { runProgram } from '../../src/peer/run-program.ts';
import { predictionsOf } from '../../src/report/prediction.ts';
import { relativeHalfWidth } from '../../src/result/bootstrap.ts';
import { comparisonsOf } from '../../src/result/comparison.ts';
import { readResult } from '../../src/result/store.ts';
import { measureOf, type Measure } from './measure.ts';

const PROGRAM = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
/** Of a prediction's error, unless the machine itself is less steady. */
const ERROR_MAX = 0.15;

export async function prediction(options: {
  readonly directory: string;
  /** Samples a cell. */
  readonly rounds: number;
  readonly tell: (text: string) => void;
}): Promise<readonly Measure[]> {
  const { directory, rounds, tell } = options;
  const model = join(directory, 'device.json');
  const out = join(directory, 'prediction.json');
  tell('prediction: calibrating');
  await runCommand('calibrate', '--dir', directory, '--out', model);
  tell(`prediction: 20 cells, ${String(rounds)} rounds`);
  const cells = ['--workload', 'stride', '--device', `file,model:${model}`, '--dir', directory];
  await runCommand('run', ...cells, '--samples', String(rounds), '--out', out);
  const result = readResult(out);
  const [predictions] = predictionsOf(result);
  if (predictions === undefined) throw new Error('no cell was both measured and predicted');
  // What a group's reference differs from itself by, as the comparisons of the group all hold it.
  const controls = new Map(comparisonsOf(result).map(({ reference, control }) => [reference, control]));
  const spreads = [...controls.values()].flatMap((control) =>
    control === undefined ? [] : [relativeHalfWidth(control)],
  );
  const spread = measureOf(spreads, { name: '', unit: '' }).found.estimate;
  return [
    measureOf(
      predictions.predictions.map(({ error }) => Math.abs(error) * 100),
      {
        name: `Error of a calibrated model, ${String(predictions.predictions.length)} cells`,
        unit: '%',
        target: { at: 'most', value: Math.max(ERROR_MAX, spread || 0) * 100 },
        note: `15 %, or the A/A spread: ${(spread * 100).toFixed(1)} %`,
      },
    ),
  ];
}

async function runCommand(...args: readonly string[]): Promise<void> {
  const { exitCode, stderr } = await runProgram(process.execPath, [PROGRAM, ...args]);
  if (exitCode !== 0) {
    throw new Error(`qcow2-bench ${args[0] ?? ''} ended with ${String(exitCode)}: ${stderr}`);
  }
}
