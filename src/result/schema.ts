/**
 * The result record, `qcow2-bench/result@1`: what a run writes down. This one schema is what the
 * reader checks, the CSV header follows and `docs/result.schema.json` is made from.
 *
 * Invariants:
 * - Counts and timings come from separate passes. Counts are exact, from `countsDevice`; timings
 *   are samples, from `cell.device`, over the first `timedRequests` requests of the workload. Only
 *   in a cell with `overlap` counts are a sample as well, from real files.
 * - Totals equal the sum of their parts: a merged write is one operation under its main purpose
 *   while its bytes are split, so operations and bytes each add up. A record that contradicts
 *   itself is refused.
 * - An absent purpose or cause is zero. A cell without counts says why in `skipped`.
 */

import { z } from 'zod';

import { requestCostsSchema } from './request-costs.ts';
import { COORDINATES, COUNTED_COORDINATES, schemasOf, type TimedOnlyName } from './coordinates.ts';
import { deviceModelSchema } from './device-model-file.ts';
import { PURPOSES, REQUEST_OPS, SYNC_CAUSES } from './vocabulary.ts';

export const RESULT_SCHEMA = 'qcow2-bench/result@1';

/** Host operations that move or drop bytes, as the record names them. */
export const OPERATION_KINDS = ['writes', 'zeroRanges', 'punchHoles', 'truncates', 'reads'] as const;
export type OperationKind = (typeof OPERATION_KINDS)[number];

/** A type whose every level is read-only: records are handed around, never changed in place. */
type DeepReadonly<T> = T extends (infer Item)[]
  ? readonly DeepReadonly<Item>[]
  : T extends object
    ? { readonly [Key in keyof T]: DeepReadonly<T[Key]> }
    : T;

const count = z.int().nonnegative();
const nanoseconds = z.number().nonnegative();
const name = z.string().min(1).max(256);
export const cellSchema = z.strictObject(schemasOf(COORDINATES)).meta({
  id: 'Cell',
  description: 'The coordinates of a cell in the matrix; no two cells of a result have the same',
});
export type Cell = DeepReadonly<z.infer<typeof cellSchema>>;

/** A cell with all that its counts depend on, and without what only times depend on. */
export const countedCellSchema = z.strictObject(schemasOf(COUNTED_COORDINATES));
export type CountedCell = Omit<Cell, TimedOnlyName>;

const purposeShareSchema = z.strictObject({ ops: count, bytes: count });

const operationCountsSchema = z
  .strictObject({
    ops: count,
    bytes: count,
    byPurpose: z.partialRecord(z.enum(PURPOSES), purposeShareSchema),
  })
  .meta({ id: 'OperationCounts', description: 'Operations and bytes equal the sums over their purposes' })
  .superRefine((value, context) => {
    const shares = Object.values(value.byPurpose);
    for (const part of ['ops', 'bytes'] as const) {
      const sum = shares.reduce((total, share) => total + share[part], 0);
      if (sum !== value[part]) {
        const message = `is ${String(value[part])}, but its purposes add up to ${String(sum)}`;
        context.addIssue({ code: 'custom', path: [part], message });
      }
    }
  });
export type OperationCounts = DeepReadonly<z.infer<typeof operationCountsSchema>>;

const syncCountsSchema = z
  .strictObject({
    ops: count.describe('fdatasync calls'),
    elided: count.describe('Flushes that needed no sync, as nothing was written since the last one'),
    byCause: z.partialRecord(z.enum(SYNC_CAUSES), count),
  })
  .meta({ id: 'SyncCounts', description: '`ops` equals the sum over its causes' })
  .superRefine((value, context) => {
    const sum = Object.values(value.byCause).reduce((total, ops) => total + ops, 0);
    if (sum !== value.ops) {
      const message = `is ${String(value.ops)}, but its causes add up to ${String(sum)}`;
      context.addIssue({ code: 'custom', path: ['ops'], message });
    }
  });

export const phaseCountsSchema = z
  .strictObject({
    writes: operationCountsSchema,
    zeroRanges: operationCountsSchema,
    punchHoles: operationCountsSchema,
    truncates: operationCountsSchema,
    reads: operationCountsSchema,
    syncs: syncCountsSchema,
  })
  .meta({ id: 'PhaseCounts' });
export type PhaseCounts = DeepReadonly<z.infer<typeof phaseCountsSchema>>;

export const guestCountsSchema = z.strictObject({
  reads: count,
  writes: count,
  flushes: count,
  discards: count,
  writeZeroes: count,
  writeBytes: count.describe('Bytes of all guest writes'),
  allocatingWrites: count.describe('Guest writes that allocated at least one cluster'),
});
export type GuestCounts = DeepReadonly<z.infer<typeof guestCountsSchema>>;

export const countsSchema = z.strictObject({
  guest: guestCountsSchema,
  open: phaseCountsSchema,
  run: phaseCountsSchema,
  close: phaseCountsSchema,
});
export type Counts = DeepReadonly<z.infer<typeof countsSchema>>;

const belowSchema = z
  .strictObject({
    guestWrites: count.describe('Guest writes of the sample'),
    guestFlushes: count.describe('Guest flushes, and writes with FUA'),
    writes: count.describe('Write requests that the device completed'),
    writeBytes: count,
    reads: count,
    readBytes: count,
    flushes: count
      .optional()
      .describe(
        'Until the image was closed; a write with FUA is a write and a flush, as of a device without FUA; absent where the kernel counts none',
      ),
    seeks: count
      .optional()
      .describe(
        'Reads and writes that the kernel issued elsewhere than where the one before ended; only where requests were traced',
      ),
    discards: count,
    discardBytes: count,
    fragmentsBefore: count.describe('Pieces of the image file, and of its data file, on the device (FIEMAP)'),
    fragmentsAfter: count.describe('The same when all was written'),
  })
  .meta({
    id: 'Below',
    description:
      'What reached the device below the file system, from the first request until the image was closed and all of the file system was written. A sample, as times are: the file system and the kernel choose when and how they write',
  });
export type Below = DeepReadonly<z.infer<typeof belowSchema>>;

const hostFileSystemSchema = z
  .strictObject({
    type: name.describe('As the kernel calls it'),
    mountOptions: z.array(z.string()).describe('All, as the kernel reports them'),
    madeBy: name.describe('The program that made it, with its arguments'),
    bytes: z.int().positive().describe('Size of the loop device'),
    isDirect: z
      .boolean()
      .describe('Whether the loop device passed the page cache of the file system below it by'),
  })
  .meta({ id: 'HostFileSystem', description: 'A file system on a loop device, new for each sample' });
export type HostFileSystem = DeepReadonly<z.infer<typeof hostFileSystemSchema>>;

export const timingSchema = z
  .strictObject({
    round: count.describe('Number of the timing round, from 0'),
    requests: z.int().positive().describe('Guest requests served in this sample'),
    elapsedNs: nanoseconds.describe('First request issued to last request done; open and close apart'),
    openNs: nanoseconds,
    closeNs: nanoseconds,
    userNs: nanoseconds.optional().describe('CPU time of the process in user mode'),
    systemNs: nanoseconds.optional().describe('CPU time of the process in the kernel'),
    preemptions: count.optional().describe('How often the system took the processor from the process'),
    below: belowSchema.optional().describe('Only on a file system that was made for the sample'),
  })
  .meta({ id: 'Timing', description: 'One timing sample; times in nanoseconds' });
export type Timing = DeepReadonly<z.infer<typeof timingSchema>>;

export const timeSplitSchema = z
  .strictObject({
    requests: z.int().positive().describe('Guest requests of the pass'),
    dataNs: nanoseconds.describe('In host operations for guest data and the fill around it'),
    metadataNs: nanoseconds.describe('In host operations for metadata'),
    syncNs: nanoseconds.describe('In syncs'),
    harnessNs: nanoseconds.describe('The rest: engine and harness'),
  })
  .meta({
    id: 'TimeSplit',
    description:
      'Where the time of the requests goes, from a pass of its own: looking at the clock costs time too',
  });
export type TimeSplit = DeepReadonly<z.infer<typeof timeSplitSchema>>;

const latencySchema = z
  .strictObject({
    requests: count.describe('Of all samples together'),
    meanNs: nanoseconds,
    p50Ns: nanoseconds,
    p90Ns: nanoseconds,
    p99Ns: nanoseconds,
    p999Ns: nanoseconds.describe('99.9 %'),
    p9999Ns: nanoseconds.describe('99.99 %'),
    maxNs: nanoseconds,
    histogram: z.string().max(1_000_000).describe('HdrHistogram V2, compressed, in Base64'),
  })
  .meta({ id: 'Latency', description: 'Latencies of one kind of request, to three digits' });
export type Latency = DeepReadonly<z.infer<typeof latencySchema>>;

const fidelitySchema = z
  .strictObject({
    requests: count.describe('Of all samples together'),
    onTime: count.describe('Requests issued at most 1 ms after they were due'),
    p50Ns: nanoseconds,
    p99Ns: nanoseconds,
    maxNs: nanoseconds,
    histogram: z.string().max(1_000_000).describe('HdrHistogram V2, compressed, in Base64'),
  })
  .meta({
    id: 'Fidelity',
    description: 'How long after its time in the trace each request was issued, to three digits',
  });
export type Fidelity = DeepReadonly<z.infer<typeof fidelitySchema>>;

const verificationSchema = z
  .strictObject({
    reads: count,
    sectors: count.describe('Sectors that hold what was written there last'),
    notCompared: count.describe('Sectors that could not be verified'),
  })
  .meta({
    id: 'Verification',
    description: 'Reads of the counting pass, compared with a shadow of the disk',
  });
export type Verification = DeepReadonly<z.infer<typeof verificationSchema>>;

/** Deviations that are known and understood; docs/qemu-rules.md says what each is. */
export const PARITY_EXCEPTIONS = [
  'varying-order',
  'late-extent',
  // Of older results: both now ask the same of requests there.
  'raw-direct-over-hole',
  'qed-zero-over-backing',
] as const;

const paritySchema = z
  .strictObject({
    verdict: z
      .enum(['identical', 'different'])
      .describe('Of operations, final bytes and what the guest reads together'),
    qemu: name.describe('Version of the QEMU that was run'),
    operations: count.describe('Operations of QEMU that were compared: all but reads and those that failed'),
    finalBytes: z.enum(['identical', 'different']).describe('Of the image files when both had closed them'),
    guestData: z
      .enum(['identical', 'different'])
      .optional()
      .describe('What reads gave during the run, and all that its requests touched, read after it'),
    exceptions: z
      .array(z.enum(PARITY_EXCEPTIONS))
      .optional()
      .describe('Named exceptions that explain what is not the same to the letter; absent if there are none'),
    leftOutRequests: count
      .optional()
      .describe('Requests that were not compared, as the operations of QEMU itself vary in them'),
    difference: z
      .string()
      .min(1)
      .optional()
      .describe('What differs: the first operation with those around it from both sides, or the first byte'),
  })
  .meta({ id: 'Parity', description: 'How QEMU and the builtin engine compare on the same requests' });
export type Parity = DeepReadonly<z.infer<typeof paritySchema>>;

const imageFactsSchema = z
  .strictObject({
    fileBytes: count.describe('Length of the file'),
    modified: z.iso.datetime().describe('When the file was last changed'),
  })
  .meta({ id: 'ImageFacts', description: "The user's image before the run" });
export type ImageFacts = DeepReadonly<z.infer<typeof imageFactsSchema>>;

const growthPointSchema = z
  .strictObject({
    requests: count.describe('Requests that were served'),
    fileBytes: count.describe('Length of the image file, and of its data file'),
    allocatedBytes: count.describe('Blocks of 4 KiB that a file system would have allocated for them'),
  })
  .meta({ id: 'GrowthPoint', description: 'Size of the image at one moment of the counting pass' });
export type GrowthPoint = DeepReadonly<z.infer<typeof growthPointSchema>>;

export const cellRecordSchema = z
  .strictObject({
    cell: cellSchema,
    image: imageFactsSchema.optional().describe('Only of a cell that ran on an image of the user'),
    isRecording: z.literal(true).optional().describe('Of a recorded trace; absent of a synthetic workload'),
    countsDevice: name.nullable().describe('Device of the counting pass: `memory` unless asked otherwise'),
    counts: countsSchema.nullable(),
    requests: requestCostsSchema
      .optional()
      .describe('What the guest asked for, and what each request cost; absent of older results'),
    growth: z
      .array(growthPointSchema)
      .max(1000)
      .optional()
      .describe(
        'Size of the image over the counting pass, from the open image to the closed one; of studies',
      ),
    metadataInMemory: count
      .optional()
      .describe(
        'Bytes of metadata that the builtin engine had in memory after the last request: tables or nodes, and the map of free space of a format that stores none, of the whole chain; absent of older results',
      ),
    timedRequests: count.describe('Length of the cut of the workload that was timed; 0 if none was'),
    warmUps: count
      .optional()
      .describe(
        'Rounds before the first sample, of which nothing was kept; the counting passes came before them',
      ),
    timings: z.array(timingSchema).describe('One sample a round'),
    control: z
      .array(timingSchema)
      .optional()
      .describe('A second series of the same cell, taken in the same rounds: what no difference looks like'),
    hostFileSystem: hostFileSystemSchema.optional().describe('What the samples were taken on, with hostFs'),
    latency: z
      .partialRecord(z.enum(REQUEST_OPS), latencySchema)
      .optional()
      .describe('By kind of request; where times are of real files or of a model'),
    fidelity: fidelitySchema.optional().describe('Only where requests were timed by the trace'),
    timeSplit: timeSplitSchema.optional(),
    fallbacks: z
      .array(z.string())
      .describe('Fallbacks that were used because the preferred way was not available'),
    verification: verificationSchema.optional().describe('Only where reads were to be verified'),
    parity: paritySchema.optional().describe('Only in cells that QEMU ran'),
    span: z
      .strictObject({
        beganNs: nanoseconds.describe('After the run began'),
        tookNs: nanoseconds,
      })
      .optional()
      .describe('When the counting pass ran; absent of older results'),
    shard: z.int().positive().optional().describe('Of a merged result: the shard that ran the cell'),
    skipped: z
      .string()
      .min(1)
      .nullable()
      .describe('Why the cell, or its timing, was not done; null if it was'),
  })
  .superRefine((value, context) => {
    if (value.counts === null && value.skipped === null) {
      context.addIssue({ code: 'custom', path: ['skipped'], message: 'must say why the cell has no counts' });
    }
    if ((value.counts === null) !== (value.countsDevice === null)) {
      context.addIssue({
        code: 'custom',
        path: ['countsDevice'],
        message: 'must be null exactly if counts is',
      });
    }
  });
export type CellRecord = DeepReadonly<z.infer<typeof cellRecordSchema>>;

const shardSchema = z
  .strictObject({
    index: z.int().positive().describe('From 1'),
    of: z.int().positive(),
    matrix: z
      .string()
      .regex(/^[0-9a-f]{32}$/)
      .describe('Digest of all cells and their split: alike in all shards of one run'),
    positions: z.array(count).describe("The shard's cells in the matrix, from 0"),
  })
  .meta({ id: 'Shard', description: 'Part of a matrix that was split over machines' });
export type ShardRecord = DeepReadonly<z.infer<typeof shardSchema>>;

export const environmentSchema = z
  .strictObject({
    harness: name.describe('Version of qcow2-bench'),
    node: name.describe('Version of Node.js'),
    platform: name,
    arch: name,
    kernel: name,
    cpu: name.describe('Model name'),
    cores: z.int().positive(),
    memoryBytes: z.int().positive(),
    governor: name.optional().describe('Frequency governor of the processors, where there is one'),
    isVirtual: z.boolean().optional().describe('Whether the machine is a virtual one'),
    loadAverage: z.number().nonnegative().optional().describe('Over the minute before the run began'),
    fileSystem: z
      .strictObject({
        directory: z.string(),
        type: name,
        mountOptions: z.array(z.string()),
        device: z
          .strictObject({
            name: name.describe('As the kernel calls it'),
            model: name.optional(),
            isRotational: z.boolean().optional(),
            writeCache: name
              .optional()
              .describe('`write back`: syncs have to empty it; `write through`: writes are durable at once'),
            scheduler: name.optional(),
          })
          .optional()
          .describe('The block device under it, where there is one'),
      })
      .nullable()
      .describe('File system of the timed images; null if no file was timed or it is unknown'),
    compression: z
      .strictObject({ zlib: name, zstd: name })
      .optional()
      .describe("The libraries that pack and unpack compressed clusters; if not the system's, why"),
    qemu: name.optional().describe('Version of QEMU, where it was found'),
    deviceModels: z.array(deviceModelSchema).optional().describe('Those that times were taken on'),
    shard: shardSchema.optional().describe('Only of a shard'),
    shards: z
      .array(
        z.strictObject({
          index: z.int().positive(),
          cells: count,
          date: z.iso.datetime().describe('When the shard began'),
          cpu: name,
          kernel: name,
        }),
      )
      .optional()
      .describe('Only of a merged result: where its cells were run'),
    seed: count,
    commandLine: z.array(z.string()),
    date: z.iso.datetime().describe('When the run began'),
  })
  .meta({ id: 'Environment' });
export type Environment = DeepReadonly<z.infer<typeof environmentSchema>>;

export const resultSchema = z
  .strictObject({
    schema: z.literal(RESULT_SCHEMA),
    environment: environmentSchema,
    cells: z.array(cellRecordSchema),
  })
  .meta({ title: 'Result of a qcow2-bench run' });
export type ResultRecord = DeepReadonly<z.infer<typeof resultSchema>>;
