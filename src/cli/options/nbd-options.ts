/** The options that `serve` and `record` share: which image, and where clients reach it. */

import { formatList, formatsWith } from '../../format/formats.ts';
import { DEFAULT_FORMAT } from '../../core/format-name.ts';
import { resolve } from 'node:path';
import type { InferredOptionTypes } from 'yargs';

import { bytesOfText } from '../../core/byte-text.ts';
import { CACHE_MODES } from '../../format/cache-mode.ts';
import { FORMATS } from '../../format/disk-image.ts';
import { dataFileName } from '../../format/image-shape.ts';
import { REFCOUNT_MODES } from '../../format/image-options.ts';
import type { ListenAddress } from '../../nbd/listen-address.ts';
import { NBD_LIMITS } from '../../nbd/protocol.ts';
import { backingPolicy, givenBackingOption, type BackingArgs } from './backing-options.ts';
import {
  cacheSizes,
  givenShapeOptions,
  imageShape,
  refuseOthersOption,
  refuseRefcounts,
  type OpeningArgs,
  type ShapeArgs,
} from './layout-options.ts';
import { changesImage, makes, readsImage, type FileUse } from './file-uses.ts';
import { flag, inGroup, optional, preset } from './option-kinds.ts';
import { choice, clusterSize, size, text } from './option-values.ts';
import { badOption, UsageError } from '../terminal/usage-error.ts';

export const SERVED_IMAGE_OPTIONS = inGroup('Image:', {
  image: optional('Image to serve', text('image')),
  create: optional('Create the image first, with this virtual size: 10GiB, 512MiB …', size('create')),
  format: preset(`${formatList()}; never detected`, choice('format', FORMATS), DEFAULT_FORMAT),
  refcounts: optional("qcow2: eager or lazy; default: the image's own", choice('refcounts', REFCOUNT_MODES)),
  'cluster-size': optional(
    'With --create: cluster size in bytes; default 64KiB',
    clusterSize('cluster-size'),
  ),
  cache: preset(CACHE_MODES.join(', '), choice('cache', CACHE_MODES), 'writeback'),
  'read-only': flag('Open the image read-only'),
});

export const LISTEN_OPTIONS = inGroup('Clients:', {
  socket: optional('Listen on this Unix socket', text('socket')),
  listen: optional('Listen on HOST:PORT; port 0 picks a free port', listenPlace),
  'allow-remote': flag('With --listen: allow addresses that other machines can reach'),
  'export-name': optional('Export name that clients must use; default: any', exportName),
  once: flag('Exit when the last client disconnects'),
});

export type ServedImageArgs = InferredOptionTypes<typeof SERVED_IMAGE_OPTIONS> &
  ShapeArgs &
  OpeningArgs &
  BackingArgs;
export type ListenArgs = InferredOptionTypes<typeof LISTEN_OPTIONS>;

/** A line of a trace's header: key and value. */
export type TraceFact = readonly [string, string];

const FACT = /^([A-Za-z][A-Za-z0-9-]*)=(.+)$/;
const FACT_BYTES_MAX = 4000;

/** `KEY=VALUE`, as it can be in a trace's header. */
export function traceFact(given: string): TraceFact {
  const match = FACT.exec(given);
  const [, key, value] = match ?? [];
  if (key !== undefined && value !== undefined && key !== 'virtual-size' && isHeaderText(given)) {
    return [key, value];
  }
  throw badOption(
    'fact',
    given,
    `KEY=VALUE in UTF-8 on one line of at most ${String(FACT_BYTES_MAX)} bytes, the key of letters, digits and hyphens and not virtual-size`,
  );
}

/** A title of a trace: a line of its header. */
export function traceTitle(given: string): string {
  if (FACT.test(`title=${given}`) && isHeaderText(given)) return given;
  throw badOption('title', given, `UTF-8 text on one line of at most ${String(FACT_BYTES_MAX)} bytes`);
}

/** Headers are UTF-8, and readers bound the length of a line. */
function isHeaderText(given: string): boolean {
  return given.isWellFormed() && Buffer.byteLength(given) <= FACT_BYTES_MAX;
}

/** A name that fits into an NBD message. */
function exportName(given: string): string {
  if (bytesOfText(given).byteLength <= NBD_LIMITS.nameBytes) return given;
  throw badOption(
    'export-name',
    `${given.slice(0, 40)}…`,
    `names of at most ${String(NBD_LIMITS.nameBytes)} bytes`,
  );
}

interface ListenPlace {
  readonly host: string;
  readonly port: number;
}

/** `127.0.0.1:10809`, `localhost:0`, `[::1]:10809`. */
function listenPlace(given: string): ListenPlace {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(given.trim());
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || !(port <= 65_535)) {
    throw badOption('listen', given, 'HOST:PORT, such as 127.0.0.1:10809 or [::1]:0');
  }
  return { host, port };
}

/** @throws UsageError unless exactly one place to listen is named. */
export function listenAddress(args: ListenArgs): ListenAddress {
  const { socket, listen, 'allow-remote': allowRemote } = args;
  if (socket !== undefined) {
    if (listen !== undefined) throw new UsageError('--socket and --listen are mutually exclusive');
    return { kind: 'unix', path: resolve(socket) };
  }
  if (listen === undefined) {
    throw new UsageError('--socket PATH or --listen HOST:PORT is required');
  }
  return { kind: 'tcp', ...listen, allowRemote };
}

export function servedFiles(args: ServedImageArgs & ListenArgs): readonly FileUse[] {
  const { image, create, format, 'data-file': dataFile = 'none' } = args;
  const rules = { format, backing: backingPolicy(args) };
  const isRead = args['read-only'];
  return [
    ...(create !== undefined
      ? makes('image', '--image', image)
      : isRead
        ? readsImage('--image', image, rules)
        : changesImage('--image', image, rules)),
    ...makes(
      'image',
      '--data-file',
      create === undefined || image === undefined || dataFile === 'none' ? undefined : dataFileName(image),
    ),
    ...makes('socket', '--socket', args.socket),
  ];
}

/** @throws UsageError for options that do not go together. */
export function validateOptions(args: ServedImageArgs): void {
  const { create, format, refcounts } = args;
  cacheSizes(args, [format]);
  imageShape(args, [format]);
  const [shapeOption] = givenShapeOptions(args);
  if (shapeOption !== undefined && create === undefined) {
    throw new UsageError(`--${shapeOption} applies only to new images: add --create`);
  }
  refuseRefcounts(refcounts, format);
  if (args['cluster-size'] !== undefined) {
    if (create === undefined) {
      throw new UsageError('--cluster-size applies only to new images: add --create');
    }
    refuseOthersOption(
      'cluster-size',
      format,
      formatsWith((facts) => facts.clusterSizes !== undefined),
    );
  }
  const backingOption = givenBackingOption(args);
  if (create !== undefined && backingOption !== undefined) {
    throw new UsageError(`--${backingOption} applies only to existing images: omit --create`);
  }
  if (create !== undefined && args['read-only']) {
    throw new UsageError('--create and --read-only: a new image cannot be served read-only');
  }
}
