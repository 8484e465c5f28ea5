/** Calibration against devices whose costs are known: those that a model has. */

import { readdirSync } from 'node:fs';

import { describe, expect, it } from 'vitest';

import { calibrate } from '../../src/bench/calibration.ts';
import { probeCapabilities } from '../../src/device/capabilities.ts';
import { DEVICE_MODELS } from '../../src/device/device-models.ts';
import type { DeviceModel, OperationCost } from '../../src/device/device-model.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import { ModelStorage } from '../../src/device/model-storage.ts';
import { testDirectory } from '../test-directory.ts';

function near(found: number, expected: number): void {
  expect(Math.abs(found - expected)).toBeLessThanOrEqual(Math.max(1, expected * 0.02));
}

function nearOperation(found: OperationCost, expected: OperationCost): void {
  near(found.baseNs, expected.baseNs);
  near(found.nsPerKiB, expected.nsPerKiB);
}

describe('calibrate', () => {
  it.each(DEVICE_MODELS.map((model) => [model.name, model] as const))(
    'finds the costs of %s again',
    async (_name, model) => {
      const storage = new ModelStorage(model);
      const { time } = storage;
      const clock = { nowNs: () => BigInt(Math.round(time.nowNs)), ticksNs: () => time.nowNs };
      const found: DeviceModel = await calibrate({
        storage,
        fileName: 'scratch',
        clock,
        seed: 7,
        name: 'found',
      });
      for (const way of ['buffered', 'direct'] as const) {
        nearOperation(found[way].read, model[way].read);
        nearOperation(found[way].write, model[way].write);
        near(found[way].read.jumpNs, model[way].read.jumpNs);
        near(found[way].write.allocationNs, model[way].write.allocationNs);
        near(found[way].zeroRange.baseNs, model[way].zeroRange.baseNs);
        near(found[way].sync.baseNs, model[way].sync.baseNs);
        near(found[way].sync.extentNs, model[way].sync.extentNs);
        near(found[way].sync.allocationNs, model[way].sync.allocationNs);
      }
    },
  );

  it('leaves nothing behind on a real directory, also when it is stopped', async () => {
    const directory = testDirectory();
    const storage = new FileStorage(directory, probeCapabilities(directory));
    const stop = new AbortController();
    const calibrating = calibrate({
      storage,
      fileName: 'scratch',
      clock: { nowNs: () => process.hrtime.bigint() },
      seed: 7,
      name: 'stopped',
      signal: stop.signal,
      progress: (what) => {
        if (what.includes('writes')) stop.abort(new Error('stopped'));
      },
    });
    await expect(calibrating).rejects.toThrow('stopped');
    expect(readdirSync(directory)).toEqual([]);
  });
});
