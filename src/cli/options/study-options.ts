/**
 * The options of a study: those of `run` that say what its cells are, where what the user gave comes
 * before the study's own values, and these before the defaults.
 */

import { Qcow2BenchError } from '../../core/error.ts';
import { didYouMean } from '../../core/nearest-name.ts';
import type { Study } from '../../study/schema.ts';
import { DEVICE_MODELS } from '../../device/device-models.ts';
import { modelDevice } from '../../device/device-model.ts';
import { UsageError } from '../terminal/usage-error.ts';
import { LAYOUT_AXES } from './layout-options.ts';
import { CELL_OPTIONS, MATRIX_OPTIONS, MEASURE_OPTIONS, type MatrixArgs } from './matrix-options.ts';
import type { ValueOption } from './option-kinds.ts';

const {
  format,
  refcounts,
  cache,
  'cluster-size': clusterSize,
  'queue-depth': queueDepth,
  'backing-depth': backingDepth,
  overlap,
  device,
  'host-fs': hostFs,
  payload,
  seed,
} = CELL_OPTIONS;
const { samples, precision, 'timed-requests': timedRequests, requests, below } = MEASURE_OPTIONS;
const { dir, 'time-limit': timeLimit } = MATRIX_OPTIONS;

/** Without defaults: what is left out comes from the study. */
export const STUDY_CELL_OPTIONS = withoutDefaults({
  format,
  refcounts,
  cache,
  'cluster-size': clusterSize,
  'queue-depth': queueDepth,
  'backing-depth': backingDepth,
  overlap,
  device,
  'host-fs': hostFs,
  payload,
  seed,
  ...LAYOUT_AXES,
  samples,
  precision,
  'timed-requests': timedRequests,
  'time-limit': timeLimit,
  requests,
  below,
  dir,
});

/** Of `advise`, which chooses what is left out itself. */
export const ADVICE_OPTIONS = withoutDefaults({
  format,
  refcounts,
  cache,
  'cluster-size': clusterSize,
  preallocation: LAYOUT_AXES.preallocation,
  'extended-l2': LAYOUT_AXES['extended-l2'],
  device,
});

/** Values that the user gave. */
export type StudyCellArgs = Readonly<Partial<Record<keyof typeof STUDY_CELL_OPTIONS, unknown>>>;

/** A disk, a consumer's drive and a server's: modelled times are exact, and cost no disk. */
const DEVICES = ['hdd-7200', 'nvme-consumer', 'nvme-plp'].map((name) => {
  const model = DEVICE_MODELS.find((each) => each.name === name);
  return modelDevice(model?.name ?? name);
});
/** What a study has where neither the user nor the study gives a value. */
const STUDY_DEFAULTS: Readonly<Record<string, string>> = { device: DEVICES.join(','), warmup: '0' };

/**
 * The arguments of a run for the cells of a study.
 *
 * @param path names the study in errors.
 * @throws Qcow2BenchError `study-invalid` for an option or a value that `run` does not take.
 */
export function studyArgs(
  { axes, fixed }: Pick<Study, 'axes' | 'fixed'>,
  given: StudyCellArgs,
  path: string,
): MatrixArgs {
  const own = new Map([
    ...Object.entries(axes).map(([name, values]) => [name, values.join(',')] as const),
    ...Object.entries(fixed),
  ]);
  for (const name of own.keys()) refuseOption(name, path);
  const words = new Map<string, unknown>(Object.entries(given));
  const options: Readonly<Record<string, object>> = MATRIX_OPTIONS;
  const args = Object.entries(options).map(([name, option]) => {
    const word = words.get(name);
    if (word !== undefined) return [name, word];
    const text = own.get(name) ?? STUDY_DEFAULTS[name];
    if (text === undefined) return [name, defaultOf(option)];
    return [name, readAs(option, text, path)];
  });
  // Every option of a run, each read as the run reads it.
  return { ...Object.fromEntries(args), warmup: 0 } as MatrixArgs;
}

function refuseOption(name: string, path: string): void {
  const names = Object.keys(STUDY_CELL_OPTIONS);
  if (names.includes(name)) return;
  const message = `'${name}' is no option of a study's cells${didYouMean(name, names)}`;
  throw new Qcow2BenchError('study-invalid', message, { path });
}

function readAs(option: object, text: string, path: string): unknown {
  try {
    return hasReader(option) ? option.coerce(text) : text;
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new Qcow2BenchError('study-invalid', error.message, { path }, error);
  }
}

function defaultOf(option: object): unknown {
  if (!('default' in option)) return undefined;
  return hasReader(option) && typeof option.default === 'string'
    ? option.coerce(option.default)
    : option.default;
}

function hasReader(option: object): option is { readonly coerce: (text: string) => unknown } {
  return 'coerce' in option && typeof option.coerce === 'function';
}

/** The options without their defaults, so that a value which is there was given. */
function withoutDefaults<Options extends Readonly<Record<string, ValueOption<unknown>>>>(
  options: Options,
): { readonly [Name in keyof Options]: ValueOption<unknown> } {
  const bare = Object.entries(options).map(([name, option]) => [
    name,
    Object.fromEntries(
      Object.entries(option).filter(([field]) => field !== 'default' && field !== 'defaultDescription'),
    ),
  ]);
  // The same names; of each option two fields are left out.
  return Object.fromEntries(bare) as { readonly [Name in keyof Options]: ValueOption<unknown> };
}
