/**
 * Serving an image to NBD clients until a signal comes or, if so asked, the last client has left;
 * with or without recording.
 *
 * Invariants:
 * - The address of the server is the only thing on standard output, printed when clients may come.
 * - What was made for a session that could not begin is taken away again; nothing that was there
 *   before is.
 * - However a session ends, the image is closed cleanly and the trace is whole.
 */

import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { harnessVersion } from '../../bench/harness-version.ts';
import { openStack, type Stack } from '../../bench/stack.ts';
import { servedStack } from '../../bench/user-image.ts';
import { formatSize } from '../../core/size.ts';
import { countOf } from '../../core/number-text.ts';
import { DEFAULT_ENGINE_POLICY, enginePolicy } from '../../format/engine-policy.ts';
import { shapeFor } from '../../format/formats.ts';
import { dataFileName, hasDataFile } from '../../format/image-shape.ts';
import { createImageFile } from '../../image/create-image.ts';
import { refuseOtherFormat } from '../../image/detect-format.ts';
import { hostImage, type ImagePlace } from '../../image/host-image.ts';
import { NbdExport } from '../../nbd/nbd-export.ts';
import { Recorder } from '../../nbd/recorder.ts';
import { NbdServer } from '../../nbd/server.ts';
import { cacheTexts, shapeTexts } from '../../result/coordinates.ts';
import { backingPolicy } from '../options/backing-options.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { Interruption } from '../terminal/interruption.ts';
import {
  cacheSizes,
  imageShape,
  validateCommit,
  validateNoUnref,
  validatePolicy,
} from '../options/layout-options.ts';
import {
  listenAddress,
  validateOptions,
  type ListenArgs,
  type ServedImageArgs,
  type TraceFact,
} from '../options/nbd-options.ts';
import { RecordingFile } from '../files/recording-file.ts';
import type { Terminal } from '../terminal/terminal.ts';
import { UsageError } from '../terminal/usage-error.ts';

/**
 * Some programs look at a disk and come back at once: this long after the last client the session
 * is over.
 */
const LINGER_MS = 300;

export interface NbdSessionArgs extends ServedImageArgs, ListenArgs {
  /** Replace an existing trace and, with `create`, image. */
  readonly overwrite: boolean;
}

export interface RecordingAsked {
  readonly path: string;
  /** The user's provenance: each entry replaces the program's entry with the same key. */
  readonly facts: readonly TraceFact[];
}

/** @param recording left out, nothing is recorded. Answers the exit code. */
export async function runNbdSession(
  args: NbdSessionArgs,
  recording: RecordingAsked | undefined,
  terminal: Terminal,
): Promise<number> {
  const address = listenAddress(args);
  validateOptions(args);
  validateNoUnref(
    [args['discard-no-unref']],
    [args.format],
    args.like === undefined ? undefined : [args.like],
  );
  validatePolicy([args.policy], [args.format]);
  validateCommit([args.commit], [args.format]);
  if (args.image === undefined) throw new UsageError('--image is required');
  if (!enginePolicy(args.policy).syncsBetweenTables) {
    terminal.warn(
      `qcow2-bench: --policy ${args.policy ?? DEFAULT_ENGINE_POLICY}: a power loss can damage the image unless the disk keeps the order of writes`,
    );
  }
  const place = hostImage(args.image);
  const made = args.create === undefined ? [] : newFiles(args, place);
  await prepareImage(args, place);
  const ending = new Ending();
  using interruption = new Interruption(terminal, () => undefined);
  interruption.signal.addEventListener('abort', () => ending.end());
  const opened: { stack?: Stack; trace?: RecordingFile; server?: NbdServer } = {};
  let server: NbdServer;
  try {
    const stack = (opened.stack = await open(args, args.image));
    if (recording !== undefined) {
      opened.trace = new RecordingFile(recording.path, {
        virtualSize: stack.image.virtualSize,
        provenance: facts(args, recording, stack),
        overwrite: args.overwrite,
        onFailure: (error) => ending.fail(error),
      });
    }
    server = opened.server = new NbdServer({
      served: exportOf(args, stack, opened.trace),
      exportName: args['export-name'],
      note: (text) => terminal.warn(`qcow2-bench: ${text}`),
      onIdle: () => {
        if (args.once) void endWhenIdle(server, ending);
      },
      onDefect: (error) => ending.fail(error),
    });
    const { uri } = await server.listen(address);
    opened.trace?.begin();
    terminal.print(uri);
  } catch (error) {
    await opened.server?.stop();
    await opened.stack?.abandon();
    await opened.trace?.discard();
    for (const name of made) place.storage.remove(name);
    throw error;
  }
  await ending.reached;
  await server.stop();
  await closeAll(opened);
  ending.throwFailure();
  if (opened.trace !== undefined) {
    const { count, path } = opened.trace;
    terminal.warn(`recorded ${countOf(count, 'request')}: ${path}`);
  }
  return EXIT.good;
}

/** Names of the files that are made for the session and were not there before. */
function newFiles(args: NbdSessionArgs, { storage, name }: ImagePlace): readonly string[] {
  const hasData = hasDataFile(imageShape(args, [args.format]));
  return (hasData ? [name, dataFileName(name)] : [name]).filter((each) => !storage.exists(each));
}

async function prepareImage(args: NbdSessionArgs, place: ImagePlace): Promise<void> {
  const { create, format, refcounts, overwrite } = args;
  if (create === undefined) {
    await refuseOtherFormat(place, format);
    return;
  }
  const clusterSize = args['cluster-size'];
  const shape = imageShape(args, [format]);
  const image = { ...place, format, virtualSize: create, clusterSize, refcounts, shape };
  await createImageFile({ ...image, overwrite });
}

function open(args: NbdSessionArgs, path: string): Promise<Stack> {
  const { format, refcounts, cache, discard, like, 'read-only': readOnly } = args;
  return openStack({
    ...servedStack(resolve(path), { backingPolicy: backingPolicy(args) }),
    format,
    refcounts,
    caches: cacheSizes(args, [format]),
    discard,
    discardNoUnref: args['discard-no-unref'],
    policy: args.policy,
    commit: args.commit,
    like,
    cache,
    readOnly,
    metered: false,
  });
}

function exportOf(args: NbdSessionArgs, { backend }: Stack, trace: RecordingFile | undefined): NbdExport {
  const nowNs = (): number => Math.round(performance.now() * 1e6);
  const recorder = trace === undefined ? undefined : new Recorder({ sink: trace.sink, nowNs });
  return new NbdExport({ backend, readOnly: args['read-only'], recorder });
}

function facts(
  args: NbdSessionArgs,
  { facts: asked }: RecordingAsked,
  { image }: Stack,
): readonly TraceFact[] {
  const { format, refcounts, cache } = args;
  const clusters = image.clusterSize === 1 ? '' : `, clusters of ${formatSize(image.clusterSize)}`;
  const layout = [
    ...shapeTexts(shapeFor(format, image.shape ?? {})),
    ...cacheTexts(cacheSizes(args, [format])),
    ...(args.discard === 'ignore' ? ['discard=ignore'] : []),
    ...(args['discard-no-unref'] === true ? ['discard-no-unref'] : []),
    ...(args.policy === undefined || args.policy === DEFAULT_ENGINE_POLICY ? [] : [`policy ${args.policy}`]),
  ];
  const mode = refcounts === undefined ? '' : `, ${refcounts} refcounts`;
  const own: readonly TraceFact[] = [
    ['tool', `qcow2-bench ${harnessVersion()} record`],
    ['image', [`${format}${clusters}${mode}`, ...layout, `cache=${cache}`].join(', ')],
    ['recorded', new Date().toISOString().slice(0, 10)],
  ];
  return [...new Map([...asked, ...own, ...asked])];
}

async function endWhenIdle(server: NbdServer, ending: Ending): Promise<void> {
  await delay(LINGER_MS);
  if (server.users === 0) ending.end();
}

/** Closes both, whatever becomes of the first; the first failure is thrown. */
async function closeAll({ stack, trace }: { stack?: Stack; trace?: RecordingFile }): Promise<void> {
  try {
    await stack?.close();
  } finally {
    await trace?.close();
  }
}

/** The end of a session: asked for, or a failure. */
class Ending {
  readonly reached: Promise<void>;
  #resolve: () => void = () => undefined;
  #failure: Error | undefined;

  constructor() {
    this.reached = new Promise((resolve) => (this.#resolve = resolve));
  }

  end(): void {
    this.#resolve();
  }

  fail(error: unknown): void {
    this.#failure ??= error instanceof Error ? error : new Error(String(error));
    this.#resolve();
  }

  throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }
}
