/**
 * A program that a test runs under strace: what each request asks of the system. Takes a file and
 * `direct`.
 */

import { dirname } from 'node:path';
import { allocatePages } from '../../src/core/page-memory.ts';
import { AlignedDevice } from '../../src/device/aligned-device.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { probeCapabilities } from '../../src/device/capabilities.ts';
import { FileStorage } from '../../src/device/file-storage.ts';

const [, , path = '', mode] = process.argv;
const storage = new FileStorage(dirname(path), probeCapabilities(dirname(path)));
const device: BlockDevice = new AlignedDevice(storage.create(path, { direct: mode === 'direct' }));
await device.zeroRange(0, 65_536, 'cow');
await device.write(4096, allocatePages(4096), 'data'); // Page memory: handed over as it is.
await device.write(8192, new Uint8Array(4096), 'data'); // Other memory: through the bounce buffer.
await device.write(72, new Uint8Array(8), 'header');
await device.writeMerged(65_536, [
  { purpose: 'cow', bytes: allocatePages(28_672) },
  { purpose: 'data', bytes: allocatePages(4096) },
  { purpose: 'cow', bytes: allocatePages(32_768) },
]);
await device.read(0, new Uint8Array(512), 'header');
await device.punchHole(0, 4096, 'data');
await device.truncate(1_048_576, 'data');
await device.sync('close');
await device.close();
