/**
 * The devices of `--device` as cells name them: models are looked up among those that ship, or read
 * from the file that is named.
 */

import { FORMAT_FACTS } from '../../format/formats.ts';
import { FORMATS } from '../../core/format-name.ts';
import { didYouMean } from '../../core/nearest-name.ts';
import { modelDevice, modelName, type DeviceModel } from '../../device/device-model.ts';
import { DEVICE_MODELS } from '../../device/device-models.ts';
import { readDeviceModel } from '../../result/device-model-file.ts';
import { oneOf, UsageError } from '../terminal/usage-error.ts';

export interface NamedDevices {
  /** As cells have them. */
  readonly devices: readonly string[];
  readonly models: ReadonlyMap<string, DeviceModel>;
}

/**
 * @throws UsageError for a model that is not there, or two of one name; Qcow2BenchError
 *   `device-model-…` of a file that is no model.
 */
export function namedDevices(given: readonly string[]): NamedDevices {
  const models = new Map<string, DeviceModel>();
  const devices = given.map((device) => {
    const name = modelName(device);
    if (name === undefined) return device;
    const model = findModel(name);
    if (models.has(model.name)) {
      throw new UsageError(`--device: two models are named '${model.name}'; rename one`);
    }
    models.set(model.name, model);
    return modelDevice(model.name);
  });
  return { devices, models };
}

function findModel(name: string): DeviceModel {
  if (name.endsWith('.json')) return readDeviceModel(name);
  const shipped = DEVICE_MODELS.find((model) => model.name === name);
  // With the figures of the formats, which the record of the run keeps.
  if (shipped !== undefined) return { ...shipped, requestNs: requestNsOfFormats() };
  const names = DEVICE_MODELS.map((model) => modelDevice(model.name));
  throw new UsageError(
    `--device: unknown model '${name}'; expected ${oneOf([...names, 'model:FILE.json'])} (written by calibrate)${didYouMean(`model:${name}`, names)}`,
  );
}

function requestNsOfFormats(): DeviceModel['requestNs'] {
  return Object.fromEntries(FORMATS.map((format) => [format, FORMAT_FACTS[format].requestNs]));
}
