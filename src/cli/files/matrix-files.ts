/** The files that `bench`, `run` and `replay` read and write. */

import { existsSync } from '../../core/host-fs.ts';
import { modelName } from '../../device/device-model.ts';
import { dataFileName } from '../../format/image-shape.ts';
import { expandAxes, shippedNames, tracePath } from '../../workload/library.ts';
import { traceExists, traceFiles } from '../../workload/trace/trace-files.ts';
import { backingPolicy, type BackingArgs } from '../options/backing-options.ts';
import { changesImage, makes, reads, type FileUse } from '../options/file-uses.ts';

interface MatrixFileArgs extends BackingArgs {
  readonly workload?: readonly string[] | undefined;
  readonly device: readonly string[];
  readonly image: string | undefined;
  readonly 'data-file': readonly string[] | undefined;
  readonly out: string | undefined;
  readonly balance: string | undefined;
  readonly 'host-log': string | undefined;
}

/** @param usualOut the default of `--out`. */
export function matrixFiles(args: MatrixFileArgs, usualOut?: string): readonly FileUse[] {
  const shipped = new Set(shippedNames());
  const workloads = expandAxes(args.workload ?? []).filter((name) => !shipped.has(name) && traceExists(name));
  const models = args.device.map(modelName).filter((name) => name?.endsWith('.json'));
  return [
    ...reads('--workload', ...workloads.flatMap(traceFiles)),
    ...reads('--device', ...models),
    ...reads('--balance', args.balance),
    ...imageFiles(args),
    ...makes('result', '--out', args.out, usualOut),
    ...makes('host log', '--host-log', args['host-log']),
  ];
}

/** An image that does not exist is made. */
function imageFiles(args: MatrixFileArgs): readonly FileUse[] {
  const { image } = args;
  if (image !== undefined && !existsSync(image)) {
    const hasDataFile = args['data-file']?.some((kind) => kind !== 'none') === true;
    return [
      ...makes('image', '--image', image),
      ...makes('image', '--data-file', hasDataFile ? dataFileName(image) : undefined),
    ];
  }
  return changesImage('--image', image, { backing: backingPolicy(args) });
}

/** The files of the trace that an argument names. */
export function readsTrace(trace: string): readonly FileUse[] {
  return reads('TRACE', ...traceFiles(tracePath(trace)));
}
