import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { describe, expect, it } from 'vitest';

import { DEVICE_MODELS } from '../../src/device/device-models.ts';
import {
  deviceModelJsonSchema,
  deviceModelText,
  readDeviceModel,
} from '../../src/result/device-model-file.ts';
import { rejectionCodeOf } from '../format/rejection.ts';
import { testDirectory } from '../test-directory.ts';

const directory = testDirectory();

function fileOf(text: string): string {
  const path = join(directory, 'model.json');
  writeFileSync(path, text);
  return path;
}

describe('a device-model file', () => {
  it.each(DEVICE_MODELS.map((model) => [model.name, model] as const))('holds %s', (_name, model) => {
    expect(readDeviceModel(fileOf(deviceModelText(model)))).toEqual(model);
  });

  it.each([
    ['a cost below zero', { requestNs: { raw: -1, qcow2: 0, qed: 0 } }, 'device-model-invalid'],
    ['a cost that is no number', { requestNs: null }, 'device-model-invalid'],
    ['no place to serve at', { parallelism: 0 }, 'device-model-invalid'],
    ['more places than are allowed', { parallelism: 2 ** 31 }, 'device-model-invalid'],
    ['a name that is a path', { name: '../x' }, 'device-model-invalid'],
    ['an unknown field', { latency: 1 }, 'device-model-invalid'],
    ['another schema', { schema: 'other@1' }, 'device-model-schema-version'],
  ])('with %s is refused', async (_what, change, code) => {
    const [model] = DEVICE_MODELS;
    if (model === undefined) throw new Error('no models');
    const good: unknown = JSON.parse(deviceModelText(model));
    const path = fileOf(JSON.stringify({ ...(good as object), ...change }));
    expect(await rejectionCodeOf(() => readDeviceModel(path))).toBe(code);
  });

  it('has the schema of docs/device-model.schema.json', () => {
    const path = fileURLToPath(new URL('../../docs/device-model.schema.json', import.meta.url));
    expect(JSON.parse(readFileSync(path, 'utf8'))).toEqual(deviceModelJsonSchema());
  });
});
