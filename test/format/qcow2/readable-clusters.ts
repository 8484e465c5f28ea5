/** What a guest can still read of an image that may be damaged. */

import { Qcow2BenchError } from '../../../src/core/error.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { openBytes } from './image-bytes.ts';

/** By guest offset: a cluster each; one whose tables are broken is left out. */
export async function readableClusters(
  bytes: Uint8Array,
  dataFile: Uint8Array | undefined,
): Promise<ReadonlyMap<number, Uint8Array>> {
  const openDataFile = (): MemoryDevice => {
    const device = new MemoryDevice();
    device.write(0, dataFile ?? new Uint8Array(), 'data');
    return device;
  };
  const { image } = await openBytes(bytes, { readOnly: true, forCheck: true, openDataFile });
  const readable = new Map<number, Uint8Array>();
  const fileSize = (dataFile ?? bytes).byteLength;
  for (let at = 0; at < image.virtualSize; at += image.clusterSize) {
    try {
      const { kind, hostOffset = 0 } = await image.map(at, image.clusterSize);
      if (kind === 'unallocated' || hostOffset + image.clusterSize > fileSize) continue;
      const content = new Uint8Array(image.clusterSize);
      await image.read(at, content);
      readable.set(at, content);
    } catch (error) {
      if (!(error instanceof Qcow2BenchError)) throw error;
    }
  }
  await image.abandon();
  return readable;
}

export function isSame(one: Uint8Array | undefined, other: Uint8Array | undefined): boolean {
  if (one === undefined || other === undefined) return one === other;
  return Buffer.compare(one, other) === 0;
}
