import { describe, expect, test } from 'vitest';
import { AlignedDevice } from '../../src/device/aligned-device.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { probeCapabilities } from '../../src/device/capabilities.ts';
import { FaultDevice } from '../../src/device/fault.ts';
import { SAFE_ALIGNMENT } from '../../src/device/direct-io.ts';
import { FileStorage } from '../../src/device/file-storage.ts';
import { HostLog } from '../../src/device/host-log.ts';
import { HostMeter } from '../../src/device/host-meter.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { Meter } from '../../src/device/meter.ts';
import { SyncElision } from '../../src/device/sync-elision.ts';
import { WriteLog } from '../../src/device/write-log.ts';
import { testDirectory } from '../test-directory.ts';
import { describeBlockDevice } from './conformance.ts';
import { SlowDevice } from './slow-device.ts';

const directory = testDirectory();
const files = new FileStorage(directory, probeCapabilities(directory));
const noDirect = !files.capabilities.direct.ok;
const cleanUp = (): void => {
  files.remove('file');
};

const aligned512 = (): MemoryDevice => new MemoryDevice({ requestAlignment: 512 });

describeBlockDevice({ name: 'memory', make: () => new MemoryDevice() });
describeBlockDevice({ name: 'memory in blocks of 512', make: aligned512 });
describeBlockDevice({
  name: 'memory without fallocate',
  make: () => new MemoryDevice({ canZeroRange: false }),
});
describeBlockDevice({ name: 'a buffered file', make: () => files.create('file'), cleanUp });
describeBlockDevice({
  name: 'a file with O_DIRECT',
  make: () => files.create('file', { direct: true }),
  cleanUp,
  skip: noDirect,
});
describeBlockDevice({
  name: 'alignment over a file with O_DIRECT',
  make: () => new AlignedDevice(files.create('file', { direct: true })),
  cleanUp,
  // A new file does not tell what it asks for.
  endMultiple: SAFE_ALIGNMENT,
  skip: noDirect,
});
describeBlockDevice({ name: 'sync elision', make: () => new SyncElision(new MemoryDevice()) });
describeBlockDevice({
  name: 'sync elision over a slow device',
  make: () => new SyncElision(new SlowDevice(new MemoryDevice())),
});
describeBlockDevice({ name: 'the meter', make: () => new Meter(new MemoryDevice(), new HostMeter()) });
describeBlockDevice({
  name: 'the host log',
  make: () => new HostLog(new MemoryDevice(), { phases: { phase: 'run' }, sink: () => {} }),
});
describeBlockDevice({ name: 'the write log', make: () => new WriteLog(new MemoryDevice()) });
describeBlockDevice({
  name: 'fault injection without a fault',
  make: () => new FaultDevice(new MemoryDevice(), () => undefined),
});

describe('filters are transparent', () => {
  test('they show the name, path, alignment and abilities of what they wrap', () => {
    const inner = new MemoryDevice({
      label: 'backing:0',
      path: 'base',
      requestAlignment: 512,
      canZeroRange: false,
    });
    const stack = new SyncElision(new Meter(new WriteLog(inner), new HostMeter()));
    const { label, path, requestAlignment, canZeroRange } = stack;
    expect({ label, path, requestAlignment, canZeroRange }).toEqual({
      label: 'backing:0',
      path: 'base',
      requestAlignment: 512,
      canZeroRange: false,
    });
  });

  test('a device that answers at once still does so through every filter', () => {
    const meter = new HostMeter();
    const log = new HostLog(new WriteLog(aligned512()), { phases: meter, sink: () => {} });
    const stack: BlockDevice = new AlignedDevice(
      new SyncElision(new Meter(new FaultDevice(log, () => undefined), meter)),
    );
    expect([
      stack.write(72, new Uint8Array(8), 'header'),
      stack.writeMerged(100, [{ purpose: 'data', bytes: new Uint8Array(3000) }]),
      stack.zeroRange(10, 3000, 'cow'),
      stack.punchHole(0, 100, 'data'),
      stack.read(3, new Uint8Array(700), 'data'),
      stack.truncate(10_000, 'data'),
      stack.sync('close'),
      stack.sync('close'),
      stack.close(),
    ]).toEqual(new Array(9).fill(undefined));
  });
});
