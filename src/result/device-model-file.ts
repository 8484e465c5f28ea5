/**
 * Device models as JSON files: what `calibrate` writes, `--device model:FILE.json` reads, and a
 * result keeps of the models it was made with.
 */

import { FORMATS, type Format } from '../core/format-name.ts';
import { z } from 'zod';

import type { DeviceModel } from '../device/device-model.ts';
import { replaceFile } from './atomic-file.ts';
import { readCheckedJson } from './checked-json.ts';

export const DEVICE_MODEL_SCHEMA = 'qcow2-bench/device-model@1';
const FILE_SIZE_MAX = 1024 * 1024;
const PARALLELISM_MAX = 1024;
/** An hour. */
const COST_NS_MAX = 3_600_000_000_000;

const nanoseconds = z.number().nonnegative().max(COST_NS_MAX);

const operationSchema = z
  .strictObject({
    baseNs: nanoseconds,
    nsPerKiB: nanoseconds.describe('Per 1,024 bytes moved'),
    jumpNs: nanoseconds.describe('More where it does not begin where the last operation ended'),
    allocationNs: nanoseconds.describe('More where a write reaches blocks that held nothing'),
  })
  .meta({ id: 'OperationCost' });

const syncSchema = z
  .strictObject({
    baseNs: nanoseconds,
    nsPerKiB: nanoseconds.describe('Per 1,024 bytes written to the file since its last sync'),
    extentNs: nanoseconds.describe('Per extent written since'),
    allocationNs: nanoseconds.describe('Once, if blocks were allocated or the file grew since'),
  })
  .meta({ id: 'SyncCost' });

const pathSchema = z
  .strictObject({
    read: operationSchema,
    write: operationSchema,
    zeroRange: operationSchema,
    punchHole: operationSchema,
    truncate: operationSchema,
    sync: syncSchema,
  })
  .meta({ id: 'PathCosts' });

const REQUEST_NS = Object.fromEntries(FORMATS.map((format) => [format, nanoseconds.optional()])) as Readonly<
  Record<Format, z.ZodOptional<typeof nanoseconds>>
>;

export const deviceModelSchema = z
  .strictObject({
    name: z
      .string()
      .regex(/^[\w.-]{1,64}$/, 'has 1 to 64 letters, digits, dots, hyphens and underscores')
      .describe('The NAME in `model:NAME`'),
    description: z.string().max(1024),
    parallelism: z.int().positive().max(PARALLELISM_MAX).describe('Operations served at once'),
    requestNs: z
      .strictObject(REQUEST_NS)
      .describe('Processor time of a guest request beside its host operations, by image format'),
    buffered: pathSchema.describe('Through the page cache'),
    direct: pathSchema.describe('With O_DIRECT'),
  })
  .meta({ id: 'DeviceModel', description: 'Linear costs of a device under its file system, in nanoseconds' });

export const deviceModelFileSchema = deviceModelSchema
  .extend({
    $schema: z.string().optional(),
    schema: z.literal(DEVICE_MODEL_SCHEMA),
  })
  .meta({ title: 'Device model of qcow2-bench' });

/**
 * @throws Qcow2BenchError `device-model-unreadable`, `-too-large`, `-not-json`, `-schema-version`,
 *   `-invalid`.
 */
export function readDeviceModel(path: string): DeviceModel {
  const { name, description, parallelism, requestNs, buffered, direct } = readCheckedJson(path, {
    schema: deviceModelFileSchema,
    schemaName: DEVICE_MODEL_SCHEMA,
    kind: 'device-model',
    sizeMax: FILE_SIZE_MAX,
  });
  return { name, description, parallelism, requestNs, buffered, direct };
}

/** The JSON Schema that editors complete and check such files with. */
export function deviceModelJsonSchema(): unknown {
  return z.toJSONSchema(deviceModelFileSchema, { target: 'draft-2020-12' });
}

/** The text of a model's file. */
export function deviceModelText(model: DeviceModel): string {
  return `${JSON.stringify({ schema: DEVICE_MODEL_SCHEMA, ...model }, null, 2)}\n`;
}

/** @throws Qcow2BenchError `write-failed`. */
export function writeDeviceModel(path: string, model: DeviceModel): void {
  replaceFile(path, deviceModelText(model), { durable: false });
}
