/**
 * The image that a run is given with `--image`: one that exists is described by itself, and what
 * the command line says about it has to agree.
 */

import { PLAIN_FORMAT } from '../../core/format-name.ts';
import type { UserImage } from '../../bench/user-image.ts';
import { Qcow2BenchError } from '../../core/error.ts';
import { existsSync, statSync } from '../../core/host-fs.ts';
import { formatSize } from '../../core/size.ts';
import type { Format } from '../../format/disk-image.ts';
import { shapeFor } from '../../format/formats.ts';
import { contentOfPlace } from '../../image/detect-format.ts';
import { hostImage } from '../../image/host-image.ts';
import { formatOfFile } from '../../image/open-chain.ts';
import { surveyImage, type SurveyedImage } from '../../image/survey-image.ts';
import type { WorkloadSource } from '../../workload/library.ts';
import { backingPolicy, givenBackingOption } from '../options/backing-options.ts';
import { givenShape, shapeValueText } from '../options/layout-options.ts';
import type { MatrixArgs } from '../options/matrix-options.ts';
import { UsageError } from '../terminal/usage-error.ts';

/**
 * The image to run on, which is to be disposed of after the run: one that is copied is locked until
 * then.
 */
export interface HeldImage extends AsyncDisposable {
  readonly image: UserImage;
}

/**
 * The image to run on; `undefined` if none is named, or it does not exist and is to be made.
 *
 * @throws UsageError for an option that contradicts the image, naming both; Qcow2BenchError of the
 *   image and the files behind it.
 */
export async function userImageOf(args: MatrixArgs): Promise<HeldImage | undefined> {
  const { image: path, 'in-place': inPlace } = args;
  if (path === undefined || !existsSync(path)) {
    refuseWithoutImage(args);
    return undefined;
  }
  if (args.device.some((name) => name !== 'file')) {
    throw new UsageError('--image: an existing image needs --device file');
  }
  if (inPlace) validateInPlace(args);
  else if (statSync(path).isBlockDevice()) {
    throw new UsageError(
      `${path} is a block device, of which no copy is made: add --in-place to write to it`,
    );
  }
  const policy = backingPolicy(args);
  const format = await formatOf(path, args.format);
  agree('format', args.format, { path, has: format });
  await using stack = new AsyncDisposableStack();
  const { found } = stack.use(await surveyImage({ path, format, backing: policy }));
  refuseContradictions(args, path, found);
  const { size, mtime } = statSync(path);
  const facts = { fileBytes: size, modified: mtime.toISOString() };
  const image = { ...found, shape: shapeFor(format, found.shape), backingPolicy: policy, facts, inPlace };
  // A run in place locks the image itself, for writing.
  const held = inPlace ? undefined : stack.move();
  return { image, [Symbol.asyncDispose]: async () => held?.disposeAsync() };
}

/**
 * @throws Qcow2BenchError `image-misfit` for the first workload that addresses more than the disk
 *   has.
 */
export function refuseTooSmall(sources: readonly WorkloadSource[], { path, virtualSize }: UserImage): void {
  const larger = sources.find((source) => source.virtualSize > virtualSize);
  if (larger === undefined) return;
  const remedy =
    larger.kind === 'workload'
      ? 'use a larger image, or choose workloads that fit with --workload'
      : 'use a larger image, or fit the trace with --remap and --size';
  throw new Qcow2BenchError(
    'image-misfit',
    `the disk has ${formatSize(virtualSize)}, but ${larger.name} needs ${formatSize(larger.virtualSize)}: ${remedy}`,
    { path },
  );
}

function refuseWithoutImage(args: MatrixArgs): void {
  const { image } = args;
  const option = args['in-place'] ? 'in-place' : givenBackingOption(args);
  if (option === undefined) return;
  const why = image === undefined ? 'name one with --image' : `${image} does not exist`;
  throw new UsageError(`--${option} needs an existing image: ${why}`);
}

function validateInPlace({ samples, resume, dir, engine }: MatrixArgs): void {
  if (samples !== undefined && samples > 0) {
    throw new UsageError('--in-place: the image is counted once and not timed; use --samples 0');
  }
  if (resume) {
    throw new UsageError('--in-place: a cell on the image itself cannot be resumed; omit --resume');
  }
  if (dir !== undefined) throw new UsageError('--in-place makes no copy; omit --dir');
  if (engine.includes('qemu')) {
    throw new UsageError('--in-place: QEMU runs on a copy; omit --in-place, or qemu in --engine');
  }
}

/** Content is detected; a file of another program is taken for raw only if that is said. */
async function formatOf(path: string, given: readonly Format[] | undefined): Promise<Format> {
  if (given?.length !== 1 || given[0] !== PLAIN_FORMAT) return formatOfFile(path);
  const found = await contentOfPlace(hostImage(path));
  return typeof found === 'string' ? found : PLAIN_FORMAT;
}

function refuseContradictions(args: MatrixArgs, path: string, found: SurveyedImage): void {
  const { format, refcounts, clusterSize, shape } = found;
  agree('refcounts', args.refcounts, { path, has: refcounts ?? `${format}, without refcounts` });
  agree('cluster-size', args['cluster-size']?.map(formatSize), {
    path,
    has: clusterSize === null ? `${format}, without clusters` : formatSize(clusterSize),
  });
  if (args['backing-depth'] !== undefined) throw ofNewImages('backing-depth', path);
  for (const { option, property, values } of givenShape(args)) {
    if (property === 'preallocation') throw ofNewImages(option, path);
    const own = shape[property];
    agree(option, values, {
      path,
      has: own === undefined ? `${format}, without such a choice` : shapeValueText(own),
    });
  }
}

function ofNewImages(option: string, path: string): UsageError {
  return new UsageError(`--${option} applies only to new images, and ${path} exists: omit --${option}`);
}

/** @param given values of the option; `undefined` if it was left out. */
function agree(
  option: string,
  given: readonly string[] | undefined,
  { path, has }: { readonly path: string; readonly has: string },
): void {
  const other = given?.find((value) => value !== has);
  if (other === undefined) return;
  throw new UsageError(
    `--${option} ${other} contradicts ${path}, which has ${has}: omit --${option} to use the image as it is`,
  );
}
