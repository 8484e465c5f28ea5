/** `ingest`: the counts of a run of another engine, from what it left. */

import { resolve } from 'node:path';

import { collectEnvironment } from '../../bench/environment.ts';
import { Qcow2BenchError } from '../../core/error.ts';
import { realpathSync, statSync } from '../../core/host-fs.ts';
import { PLAIN_FORMAT } from '../../core/format-name.ts';
import { LIMITS } from '../../core/limits.ts';
import { formatSize } from '../../core/size.ts';
import { visibleText } from '../../core/visible-text.ts';
import { CACHE_MODES } from '../../format/cache-mode.ts';
import { FORMATS, type Format } from '../../format/disk-image.ts';
import type { FileLayout } from '../../format/file-layout.ts';
import { shapeFor } from '../../format/formats.ts';
import { DEFAULT_QEMU_PROFILE } from '../../format/qemu-profile.ts';
import { readFileLayout } from '../../format/registry.ts';
import { hostImage } from '../../image/host-image.ts';
import { formatOfFile } from '../../image/open-chain.ts';
import { surveyImage, type SurveyedImage } from '../../image/survey-image.ts';
import { ingest } from '../../peer/ingest.ts';
import { terminalSummary } from '../../report/terminal.ts';
import { canonicalCell } from '../../result/cell.ts';
import { readBoundedBytes } from '../../result/checked-json.ts';
import { RESULT_SCHEMA, type CellRecord, type ResultRecord } from '../../result/schema.ts';
import { writeResult } from '../../result/store.ts';
import { findSource, openStream, type WorkloadSource } from '../../workload/library.ts';
import type { Request } from '../../workload/request.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { BACKING_OPTIONS, backingPolicy } from '../options/backing-options.ts';
import { isStandardOutput, makes, OVERWRITE_OPTIONS, reads, readsImage } from '../options/file-uses.ts';
import { flag, inGroup, optional, preset } from '../options/option-kinds.ts';
import { choice, count, text } from '../options/option-values.ts';
import { traceReading, TRACE_OPTIONS, type TraceArgs } from '../options/trace-options.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { badOption, UsageError } from '../terminal/usage-error.ts';

/** These have their own ways of being run. */
const TAKEN_NAMES: readonly string[] = ['builtin', 'qemu'];
const ENGINE_NAME = /^[\w.+-]{1,64}$/;

export const ingestCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('log', {
        type: 'string',
        demandOption: true,
        describe: 'Host operations of the run: a log of strace -f, or JSON Lines',
      })
      .options(
        inGroup('Run:', {
          'engine-name': optional('Name of the engine that ran; cells carry it', text('engine-name')),
          image: optional('Image after the run', text('image')),
          base: optional('Image before the run; default: it was new', text('base')),
          requests: optional(
            'Trace or workload that was served; default: the requests that the log of an NBD server shows',
            text('requests'),
          ),
          count: optional('Only the first requests of it were served, this many', count('count', { min: 1 })),
          name: optional('Name of the workload in the result; default: that of --requests', text('name')),
          cache: preset(
            'Cache mode that the engine was opened in: with writethrough and directsync each write ends durable',
            choice('cache', CACHE_MODES),
            'writeback',
          ),
          format: optional('Format of the image; default: detected', choice('format', FORMATS)),
        }),
      )
      .options(
        inGroup('Result:', {
          out: optional('Result file to write', text('out')),
          json: flag('Print the result as JSON'),
          ...OVERWRITE_OPTIONS,
        }),
      )
      .options(TRACE_OPTIONS)
      .options(BACKING_OPTIONS)
      .epilogue(
        examples([
          ['ingest nbd.log --engine-name mine --image disk.qcow2 --base before.qcow2 --out mine.json', ''],
          ['ingest ops.jsonl --engine-name mine --image disk.qcow2 --requests my.trace.csv', 'JSON Lines'],
          ['gate mine.json --accept --baseline mine-baseline.json', 'then gated as any result'],
        ]),
      ),

  files: ({ log, image, base, out, ...args }) => [
    ...reads('LOG', log),
    ...readsImage('--image', image, { backing: backingPolicy(args) }),
    ...reads('--base', base),
    ...makes('result', '--out', out),
  ],

  run: async (args, terminal) => {
    const { log, image: path, base, out, json, cache } = args;
    const bytes = readBoundedBytes(log, { kind: 'log', sizeMax: LIMITS.hostLogBytes });
    const engine = engineNameOf(args['engine-name']);
    if (path === undefined) throw new UsageError('--image is missing: name the image after the run');
    const format = args.format ?? (await formatOfFile(path));
    await using survey = await surveyImage({ path, format, backing: backingPolicy(args) });
    const { found } = survey;
    const served = await servedRequests(args, found);
    const { counts, requests, notes } = ingest({
      log: { path: log, bytes },
      image: {
        format,
        refcounts: found.refcounts,
        files: tracedFiles(found),
        fileBytes: statSync(path).size,
        before: base === undefined ? undefined : await layoutBefore(base, format, found),
        after: await layoutOf(path, format),
      },
      cache,
      requests: served.requests,
      source: served.source,
    });
    const record: CellRecord = {
      cell: canonicalCell({
        engine,
        workload: args.name ?? served.source.name,
        format,
        refcounts: found.refcounts,
        cache,
        clusterSize: found.clusterSize,
        queueDepth: 1,
        device: 'file',
        backing: found.chain[0]?.format,
        backingDepth: found.chain.length > 1 ? found.chain.length : undefined,
        shape: shapeFor(format, found.shape),
        like: DEFAULT_QEMU_PROFILE,
      }),
      ...(served.source.kind === 'recording' ? { isRecording: true } : {}),
      countsDevice: 'file',
      counts,
      requests,
      timedRequests: 0,
      timings: [],
      fallbacks: [...notes],
      skipped: null,
    };
    const environment = collectEnvironment({ date: new Date(), commandLine: terminal.argv, seed: 0 });
    const result: ResultRecord = { schema: RESULT_SCHEMA, environment, cells: [record] };
    if (out !== undefined) writeResult(out, result);
    const { paint, width } = terminal;
    const summary = terminalSummary(result, { paint, width }).trim();
    const answer = json
      ? JSON.stringify(result)
      : [summary, ...(out === undefined ? [] : ['', `Result  ${visibleText(out)}`])].join('\n');
    if (isStandardOutput(out)) terminal.warn(answer);
    else terminal.print(answer);
    return EXIT.good;
  },
});

function engineNameOf(name: string | undefined): string {
  if (name === undefined) {
    throw new UsageError('--engine-name is missing: name the engine that ran, such as my-engine');
  }
  if (ENGINE_NAME.test(name) && !TAKEN_NAMES.includes(name)) return name;
  throw badOption(
    'engine-name',
    name,
    `1 to 64 letters, digits, dots, plus signs, hyphens or underscores; not ${TAKEN_NAMES.join(' or ')}`,
  );
}

interface ServedArgs extends TraceArgs {
  readonly log: string;
  readonly requests: string | undefined;
  readonly count: number | undefined;
}

/** The requests of the run, if they are not in its log, and where they come from. */
async function servedRequests(
  args: ServedArgs,
  { virtualSize, path }: SurveyedImage,
): Promise<{ readonly requests: readonly Request[] | undefined; readonly source: WorkloadSource }> {
  const { requests: name, count: limit } = args;
  if (name === undefined) {
    if (limit !== undefined) throw new UsageError('--count needs --requests');
    return { requests: undefined, source: requestsOfLog(args.log, virtualSize) };
  }
  const source = await findSource(name, { ...traceReading(args), limit });
  if (source.virtualSize > virtualSize) {
    throw new Qcow2BenchError(
      'image-misfit',
      `the disk has ${formatSize(virtualSize)}, but ${source.name} needs ${formatSize(source.virtualSize)}: name the image that it was served on`,
      { path },
    );
  }
  const requests: Request[] = [];
  await using stream = await openStream(source, { limit });
  for await (const batch of stream.batches) requests.push(...batch);
  return { requests, source };
}

/** An NBD server's log is the trace itself. */
function requestsOfLog(log: string, virtualSize: number): WorkloadSource {
  const name = log.slice(log.lastIndexOf('/') + 1).replace(/\.[^.]*$/, '');
  return {
    kind: 'recording',
    name: name === '' ? 'log' : name,
    title: name,
    description: '',
    path: log,
    virtualSize,
    provenance: new Map(),
    reading: {},
  };
}

function tracedFiles({ path, dataPath, chain }: SurveyedImage): Readonly<Record<string, string>> {
  const behind = chain.flatMap((file, index) => {
    const label = `backing:${String(index)}`;
    return [
      [label, file.path] as const,
      ...(file.dataPath === undefined ? [] : [[`${label}:data`, file.dataPath] as const]),
    ];
  });
  const own = [['image', path] as const, ...(dataPath === undefined ? [] : [['data', dataPath] as const])];
  // strace shows paths as the kernel has them.
  return Object.fromEntries([...own, ...behind].map(([name, file]) => [name, realpathSync(resolve(file))]));
}

async function layoutBefore(
  path: string,
  format: Format,
  { clusterSize, path: imagePath }: SurveyedImage,
): Promise<FileLayout & { readonly fileBytes: number }> {
  const found = await formatOfFile(path);
  const layout = found === format || format === PLAIN_FORMAT ? await layoutOf(path, format) : undefined;
  if (layout === undefined || (clusterSize !== null && layout.clusterSize !== clusterSize)) {
    const what = layout === undefined ? found : `clusters of ${formatSize(layout.clusterSize)}`;
    const has = layout === undefined ? format : `clusters of ${formatSize(clusterSize ?? 0)}`;
    throw new Qcow2BenchError(
      'ingest-other-image',
      `is not the image before the run: it has ${what}, and ${imagePath} has ${has}`,
      { path },
    );
  }
  const { size: fileBytes } = statSync(path);
  return {
    fileBytes,
    clusterSize: layout.clusterSize,
    metadataAt: (offset) => layout.metadataAt(offset),
    guestOffsetAt: (offset) => layout.guestOffsetAt(offset),
  };
}

async function layoutOf(path: string, format: Format): Promise<FileLayout> {
  const { storage, name } = hostImage(path);
  const device = storage.open(name, { readOnly: true });
  try {
    return await readFileLayout(device, format);
  } finally {
    await device.close();
  }
}
